"""The door of the gateway: what a configuration makes, and what it is told to mend."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.absence import absent
from tests.fault_upstream import FaultUpstream
from tests.served_gateway import WIRES, World, call, error_of, text_of

from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, StoreError, TutelageError, Unauthenticated
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.models.litellm import LitellmModel
from tutelage.runtime.models.wire_model import WireModel
from tutelage.runtime.pricing import Price
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.serving import OpenDoor, check_door, open_gateway, open_parts

TEACHER = {
    "base_url": "http://127.0.0.1:9/v1",
    "model": "large",
    "price": {"input": 1, "output": 2},
}
STUDENT = {
    "base_url": "http://127.0.0.1:9/v1",
    "model": "small",
    "price": {"input": 1, "output": 2},
}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "empty.sqlite"
    made = open_engine(f"sqlite:///{path}")
    migrate(made)
    made.dispose()
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUTELAGE_PEPPER", "a pepper of the tests, long enough")
    database = shutil.copy(empty_database, tmp_path / "tutelage.sqlite")
    return {"url": f"sqlite:///{database}", "spool": str(tmp_path / "spool")}


@pytest.fixture
async def world(store: dict[str, str]) -> AsyncIterator[World]:
    settings = {f"store.{name}": value for name, value in store.items()}
    async with World(settings) as made:
        yield made


def config(store: dict[str, str], **tables: Any) -> Config:
    return Config.model_validate(
        {
            "store": store,
            "teacher": TEACHER,
            "student": STUDENT,
            "retrieval": {"embedder": "hash"},
            **tables,
        }
    )


def need_litellm() -> None:
    # Not by an import: what it fetches is decided when it is first imported.
    if importlib.util.find_spec("litellm") is None:
        absent("litellm is not installed: pip install 'tutelage[providers]'")


async def opened(chosen: Config, *, is_open: bool = True) -> Parts:
    """The parts, closed again: what they were made of can still be looked at."""
    parts = await open_parts(chosen, is_open=is_open)
    await parts.aclose()
    return parts


async def refusal(chosen: Config, *, is_open: bool = True) -> str:
    """What is wrong with a configuration."""
    with pytest.raises(TutelageError) as caught:
        await open_parts(chosen, is_open=is_open)
    return str(caught.value)


# Who may come in.


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_door_may_be_open_on_the_loopback_interface(host: str) -> None:
    check_door(host, is_open=True)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.1.4", "gateway.local", "127.0.0.1.example", "localhost.evil"],
)
async def test_the_door_is_open_nowhere_else(host: str, store: dict[str, str]) -> None:
    chosen = config(store, gateway={"host": host})
    with pytest.raises(ConfigError, match=r"--open on gateway\.host"):
        await open_gateway(chosen, is_open=True)
    check_door(host, is_open=False)


async def test_an_open_door_lets_everybody_in_as_the_configured_tenant() -> None:
    door = OpenDoor("acme")
    callers = [await door.identify(token) for token in (None, "", "anything")]
    assert {(caller.tenant, caller.key_id) for caller in callers} == {("acme", "open")}
    assert await door.identify_admin(None) is None


async def test_with_keys_nobody_comes_in_without_one(store: dict[str, str]) -> None:
    parts = await open_parts(config(store), is_open=False)
    try:
        assert isinstance(parts.doorkeeper, Keyring)
        with pytest.raises(Unauthenticated):
            await parts.doorkeeper.identify(None)
    finally:
        await parts.aclose()


@pytest.mark.parametrize(("pepper", "said"), [(None, "is not set"), ("short", "fewer than 16")])
async def test_keys_need_a_pepper(
    pepper: str | None, said: str, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTELAGE_PEPPER")
    if pepper is not None:
        monkeypatch.setenv("TUTELAGE_PEPPER", pepper)
    told = await refusal(config(store), is_open=False)
    assert "TUTELAGE_PEPPER" in told
    assert said in told
    assert pepper is None or pepper not in told


async def test_an_open_door_needs_no_pepper(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUTELAGE_PEPPER")
    parts = await opened(config(store))
    assert isinstance(parts.doorkeeper, OpenDoor)


# Aliases.


async def test_an_alias_is_served_as_it_is_configured(store: dict[str, str]) -> None:
    parts = await opened(
        config(
            store,
            upstreams={"second": {**TEACHER, "wires": ["messages"]}},
            aliases={
                "a": {"mode": "passthrough", "upstreams": ["second", "teacher"]},
                "b": {"mode": "route", "policy": "random"},
                "c": {},
            },
        )
    )
    a, b, c = (parts.aliases.by_name[name] for name in "abc")
    assert [one.name for one in a.upstreams] == ["second", "teacher"]
    assert (a.mode, b.mode, c.mode) == ("passthrough", "route", "cascade")
    assert (a.policy, b.policy, c.policy) == ("paper", "random", "paper")
    assert (a.student, b.student, c.student) == (None, "small", "small")
    assert [one.name for one in c.upstreams] == ["teacher"]
    assert a.speaks("messages")
    assert not c.speaks("messages")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"aliases": {}}, "aliases is empty"),
        ({"aliases": {"x": {"upstreams": ["nobody"]}}}, "'nobody' is unknown; there are teacher"),
        (
            {"aliases": {"x": {"upstreams": ["teacher", "nobody"]}}},
            "aliases.x.upstreams: 'nobody' is unknown",
        ),
        ({"aliases": {"x": {"policy": "guess"}}}, "guess"),
        (
            {"aliases": {"x": {"mode": "route"}}},
            "policy 'paper' needs samples: choose mode 'cascade', or one of always-student",
        ),
        (
            {
                "cascade": {"policy": "random"},
                "aliases": {"x": {"mode": "route", "policy": "paper"}},
            },
            "aliases.x.mode = 'route'",
        ),
        ({"teacher": {**TEACHER, "wires": []}}, "teacher.wires is empty"),
        ({"upstreams": {"b": {**TEACHER, "wires": []}}}, "upstreams.b.wires is empty"),
        ({"upstreams": {"b": {"model": "m"}}}, "upstreams.b.base_url is not set"),
        ({"upstreams": {"b": {"provider": "openai"}}}, "upstreams.b.model is not set"),
        ({"teacher": {}}, "teacher.base_url is not set"),
        ({"teacher": {**TEACHER, "base_url": "ftp://x"}}, "base_url = 'ftp://x'"),
        ({"teacher": {**TEACHER, "base_url": "http://u:tulip@x/v1"}}, "pass them as api_key"),
        (
            {"teacher": {}, "upstreams": {"b": TEACHER}},
            "aliases.*.upstreams is not set, and teacher.base_url neither",
        ),
        ({"teacher": {**TEACHER, "api_key_env": "NO_SUCH_KEY"}}, "teacher.api_key_env = 'NO_SUCH"),
        (
            {"upstreams": {"b": {**TEACHER, "api_key_env": "NO_SUCH_KEY"}}},
            "upstreams.b.api_key_env = 'NO_SUCH_KEY', but that variable is not set",
        ),
        ({"student": {**STUDENT, "api_key_env": "NO_SUCH_KEY"}}, "student.api_key_env = 'NO_SUCH"),
        ({"student": {**STUDENT, "model": None}}, "student.model is not set"),
        ({"student": {**STUDENT, "price": None}}, "student: "),
        ({"cascade": {"agree": 4, "samples": 3}}, "cascade.agree = 4"),
    ],
)
async def test_what_cannot_be_served_is_named_at_the_start(
    tables: dict[str, Any], said: str, store: dict[str, str]
) -> None:
    told = await refusal(config(store, **tables))
    assert said in told
    assert "\n" not in told
    assert "tulip" not in told


async def test_a_policy_that_needs_samples_is_found_also_where_it_is_the_usual_one(
    store: dict[str, str],
) -> None:
    aliases = {"x": {"mode": "route"}}
    for policy in ("always-teacher", "always-student", "random"):
        parts = await opened(config(store, aliases=aliases, cascade={"policy": policy}))
        assert parts.aliases.by_name["x"].policy == policy


async def test_a_database_that_cannot_be_opened_is_named(
    store: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    chosen = config({**store, "url": f"sqlite:///{tmp_path}/file/x.sqlite"})
    with pytest.raises(StoreError):
        await open_parts(chosen, is_open=True)


async def test_what_was_opened_before_a_fault_is_closed_again(store: dict[str, str]) -> None:
    """Threads and connections of a configuration that failed would pile up with every reload."""
    before = len(asyncio.all_tasks())
    chosen = config(store, upstreams={"b": {**TEACHER, "wires": []}})
    for _ in range(3):
        assert "wires is empty" in await refusal(chosen, is_open=False)
    assert len(asyncio.all_tasks()) == before
    # The database is not locked either.
    await opened(config(store), is_open=False)


# Who needs a student.


@pytest.mark.parametrize(
    "alias",
    [
        {"mode": "passthrough"},
        {"mode": "cascade", "policy": "always-teacher"},
        {"mode": "route", "policy": "always-teacher"},
    ],
)
async def test_nothing_of_a_student_is_needed_where_it_is_never_asked(
    alias: dict[str, Any], store: dict[str, str]
) -> None:
    """No endpoint, no price, no checkpoint, and no embedder to look for demonstrations with."""
    parts = await opened(config(store, student={}, retrieval={}, aliases={"x": alias}))
    assert parts.aliases.by_name["x"].student is None


async def test_one_alias_that_asks_the_student_is_enough_to_need_it(store: dict[str, str]) -> None:
    aliases = {"x": {"mode": "passthrough"}, "y": {"mode": "shadow"}}
    told = await refusal(config(store, student={**STUDENT, "price": None}, aliases=aliases))
    assert told.startswith("student: ")


# Upstreams.


async def test_a_teacher_is_not_needed_where_upstreams_are_named(store: dict[str, str]) -> None:
    parts = await opened(
        config(
            store,
            teacher={},
            upstreams={"b": TEACHER},
            aliases={"x": {"upstreams": ["b"], "mode": "passthrough"}},
        )
    )
    (upstream,) = parts.aliases.by_name["x"].upstreams
    assert (upstream.name, upstream.model_name, upstream.price) == ("b", "large", Price(1, 2))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"price": {"input": 3, "output": 4}}, (3, 4)),
        ({"price": None, "priced_as": "gpt-4.1"}, (2, 8)),
        ({"price": None, "model": "gpt-4.1"}, (2, 8)),
        ({"price": None, "model": "unheard-of"}, None),
        ({"price": None, "model": None}, None),
    ],
)
async def test_an_upstream_is_priced_by_its_own_price_then_by_its_model(
    settings: dict[str, Any], expected: tuple[float, float] | None, store: dict[str, str]
) -> None:
    parts = await opened(
        config(
            store,
            upstreams={"b": {**TEACHER, **settings}},
            aliases={"x": {"upstreams": ["b"], "mode": "passthrough"}},
        )
    )
    found = parts.aliases.by_name["x"].upstreams[0].price
    assert (found and (found.input, found.output)) == expected


@pytest.mark.parametrize("wire", WIRES)
async def test_an_upstream_without_a_price_serves_what_is_passed_through(
    wire: str, world: World
) -> None:
    settings = {"teacher.price": None, "teacher.model": None}
    async with world.serve(settings) as served:
        got = await served.ask(wire, call(wire, "passthrough"))
        unpriced = await served.ask(wire, call(wire, "cascade"))
    assert got.status == 200
    assert unpriced.status == 400
    assert "price" in error_of(wire, unpriced)["message"]
    assert (world.teacher.calls(), world.student.calls()) == (1, 0)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_standard_upstream_never_gets_a_clients_own_bytes(wire: str, world: World) -> None:
    settings = {"teacher.fields": "standard"}
    async with world.serve(settings) as served:
        alias = served.gateway.parts.aliases.by_name["passthrough"]
        body = call(wire, "passthrough", chat_template="{{ 7*7 }}", prompt_embeds="AAAA")
        got = await served.ask(wire, body)
    assert got.status == 200
    assert not any(alias.speaks(one) for one in ("chat", "responses", "messages"))
    assert b"chat_template" not in world.teacher.last.raw
    assert b"prompt_embeds" not in world.teacher.last.raw


async def test_an_upstream_is_spoken_to_in_the_first_of_its_wires(store: dict[str, str]) -> None:
    parts = await opened(
        config(
            store,
            upstreams={"b": {**TEACHER, "wires": ["messages", "chat"]}},
            aliases={"x": {"upstreams": ["b"], "mode": "passthrough"}},
        )
    )
    (upstream,) = parts.aliases.by_name["x"].upstreams
    assert isinstance(upstream.model, WireModel)
    assert upstream.model.wire.name == "messages"
    assert set(upstream.wires) == {"messages", "chat"}


@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier")
@pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_provider_without_an_endpoint_is_asked_through_litellm(
    wire: str, stream: bool, world: World
) -> None:
    need_litellm()
    settings = {
        "upstreams.cloud": {"provider": "openai", "model": "gpt-4.1"},
        "aliases": {"cloud": {"mode": "passthrough", "upstreams": ["cloud"]}},
    }
    async with world.serve(settings) as served:
        (upstream,) = served.gateway.parts.aliases.by_name["cloud"].upstreams
        assert isinstance(upstream.model, LitellmModel)
        # litellm answers by itself where it is told what to say.
        upstream.model._options["mock_response"] = "go to the cloud"
        got = await served.ask(wire, call(wire, "cloud", stream=stream))
        (trace,) = await served.traces()
    assert got.status == 200
    assert upstream.price is not None
    assert (upstream.transport, tuple(upstream.wires)) == (None, ())
    assert trace.answer == "go to the cloud"
    assert stream or text_of(wire, got.json) == "go to the cloud"
    assert (world.teacher.calls(), world.student.calls()) == (0, 0)


async def test_a_provider_that_nobody_knows_is_named(store: dict[str, str]) -> None:
    need_litellm()
    told = await refusal(config(store, upstreams={"b": {"provider": "unheard-of", "model": "m"}}))
    assert "'unheard-of'" in told


async def test_the_key_of_an_upstream_comes_from_its_variable(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-the-key-of-the-upstream")
    async with FaultUpstream() as upstream:
        chosen = config(
            store, teacher={**TEACHER, "base_url": upstream.base_url, "api_key_env": "THE_KEY"}
        )
        parts = await open_parts(chosen, is_open=True)
        try:
            (one,) = parts.aliases.by_name["*"].upstreams
            assert one.transport is not None
            reply = await one.transport.open("/chat/completions", b'{"messages":[]}')
            await reply.read()
        finally:
            await parts.aclose()
    assert upstream.last.headers["authorization"] == "Bearer sk-the-key-of-the-upstream"
    assert "sk-the-key" not in repr(parts)


# What is kept.


async def test_without_traces_nothing_of_a_request_is_kept(world: World) -> None:
    async with world.serve({"gateway.trace": False}) as served:
        got = await served.ask("chat", call("chat", "cascade"))
        await served.idle()
        kept = await served.gateway.parts.traces.traces("default")
    assert got.status == 200
    assert kept == []


async def test_the_gauges_of_a_gateway_are_those_of_its_parts(world: World) -> None:
    async with world.serve() as served:
        gate = world.teacher.gate = asyncio.Event()
        asking = asyncio.create_task(served.ask("chat", call("chat", "passthrough")))
        await world.teacher.arrived()
        told = served.gateway.metrics.render()[0].decode()
        gate.set()
        await asking
    busy = [line for line in told.splitlines() if 'upstream="teacher"' in line]
    assert any(line.endswith(" 1.0") for line in busy)
    assert 'version="small"' in told
