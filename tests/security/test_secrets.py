"""Seeded secrets: keys and prompts never stand where they do not belong, whatever goes wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.security.conftest import PEPPER
from tests.security.parrot import KINDS, Parrot
from tests.served_gateway import PATHS, WIRES, Got, Served, World, call, tool

from tutelage.runtime.config import load_config
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.gateway.admin import Administration, shown_config
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.gateway.server import GatewayServer
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.types import Trace
from tutelage.serve_process import _Running

KEYS = {name: f"sk-{name}-0123456789-abcdefghijklmnop" for name in ("TEACHER", "SECOND", "STUDENT")}
PROMPT, ARGUMENT, OUTPUT = "tulip-in-the-prompt", "tulip-in-a-call", "tulip-in-a-result"
COOKIE, SESSION_TOKEN = "tulip-in-a-cookie", "tulip-in-a-header"
SAID = (PROMPT, ARGUMENT, OUTPUT)
"""What the client says in its calls."""
MODELS = ("passthrough", "teacher", "cascade", "route", "shadow", "student", "two", "two-cascade")


@dataclass
class Birds:
    """A gateway between clients and upstreams that repeat everything."""

    served: Served
    teacher: Parrot
    second: Parrot
    student: Parrot
    key: str
    admin_key: str
    got: list[Got] = field(default_factory=list)
    """Answers to calls."""

    @property
    def parrots(self) -> tuple[Parrot, ...]:
        return self.teacher, self.second, self.student

    def answer_as(self, kind: str) -> None:
        for parrot in self.parrots:
            parrot.kind = kind

    async def ask(self, wire: str, model: str, **fields: Any) -> Got:
        """A call that carries every secret that a client has."""
        headers = {
            "cookie": f"session={COOKIE}",
            "x-auth-token": SESSION_TOKEN,
            "proxy-authorization": f"Basic {SESSION_TOKEN}",
            "x-forwarded-authorization": f"Bearer {self.key}",
        }
        body = conversation(wire, model, **fields)
        got = await self.served.ask(wire, body, headers)
        self.got.append(got)
        return got

    async def traces(self) -> list[Trace]:
        await self.served.idle()
        found = await self.served.gateway.parts.traces.traces("acme", limit=1000)
        return found


def conversation(wire: str, model: str, **fields: Any) -> dict[str, Any]:
    """A call in the middle of a conversation with tools."""
    arguments = {"where": ARGUMENT, "how": "quietly"}
    body = call(wire, model, PROMPT, tools=[tool(wire)], **fields)
    if wire == "responses":
        call_item = {"type": "function_call", "call_id": "call_1", "name": "walk"}
        body["input"] = [
            {"role": "user", "content": PROMPT},
            {**call_item, "arguments": json.dumps(arguments)},
            {"type": "function_call_output", "call_id": "call_1", "output": OUTPUT},
        ]
    elif wire == "messages":
        used = {"type": "tool_use", "id": "call_1", "name": "walk", "input": arguments}
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": OUTPUT}
        body["messages"] += [
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ]
    else:
        function = {"name": "walk", "arguments": json.dumps(arguments)}
        body["messages"] += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": OUTPUT},
        ]
    return body


@pytest.fixture
async def birds(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Birds]:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(Parrot()) for _ in range(3)]
        chosen: dict[str, Any] = {"gateway.log_requests": True}
        tables = ("teacher", "upstreams.second", "student")
        for table, name, parrot in zip(tables, KEYS, made, strict=True):
            monkeypatch.setenv(f"{name}_KEY", KEYS[name])
            chosen[f"{table}.base_url"] = parrot.base_url
            chosen[f"{table}.api_key_env"] = f"{name}_KEY"
            if table != "student":
                # They fail in every test, and are to be asked again all the same.
                chosen[f"{table}.break_after"] = 1_000_000
        served = await stack.enter_async_context(world.serve(chosen, is_open=False))
        served.key = await served.issue(tenant="acme")
        keyring = served.gateway.parts.doorkeeper
        assert isinstance(keyring, Keyring)
        order = KeyOrder(name="an administrator", kind="admin")
        admin = (await keyring.create(order, Operator("tests"))).text.reveal()
        teacher, second, student = made
        yield Birds(served, teacher, second, student, served.key, admin)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        caplog.set_level(logging.DEBUG, "tutelage")
        yield caplog


def ours(log: pytest.LogCaptureFixture, above: int = logging.NOTSET) -> str:
    """What we logged above a level, tracebacks included."""
    form = logging.Formatter("%(name)s %(message)s")
    return "\n".join(
        form.format(record)
        for record in log.records
        if record.name.startswith(("tutelage", "uvicorn", "asyncio")) and record.levelno > above
    )


def assert_none_in(secrets: Any, text: str, place: str) -> None:
    found = [secret for secret in secrets if secret in text]
    assert not found, f"{found} in {place}: …{text[max(0, text.index(found[0]) - 300) :][:600]}…"


def credentials(birds: Birds) -> list[str]:
    """What opens something, and belongs nowhere but into one header."""
    return [*KEYS.values(), birds.key, birds.admin_key, PEPPER]


async def assert_clean(birds: Birds, log: pytest.LogCaptureFixture) -> None:
    """No secret stands where it does not belong."""
    secret = credentials(birds)
    client = [birds.key, COOKIE, SESSION_TOKEN]
    traces = "\n".join(trace.model_dump_json() for trace in await birds.traces())
    metrics = birds.served.gateway.metrics.render()[0].decode()
    headers = "\n".join(f"{name}: {value}" for g in birds.got for name, value in g.headers.items())
    assert_none_in(secret, "\n".join(g.raw.decode() for g in birds.got), "an answer")
    assert_none_in(secret, headers, "the headers of an answer")
    assert_none_in([*secret, COOKIE, SESSION_TOKEN], traces, "a trace")
    assert_none_in([*secret, *client, *SAID], metrics, "the metrics")
    assert_none_in([*secret, *client], ours(log), "the log")
    assert_none_in(SAID, ours(log, above=logging.DEBUG), "the log above DEBUG")
    heard = b"\n".join(b"\n".join(parrot.heard) for parrot in birds.parrots).decode()
    assert_none_in([birds.admin_key, PEPPER, *client], heard, "a request to an upstream")
    assert "x-tutelage-served: authorization" not in headers


@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_is_where_it_does_not_belong_however_the_upstreams_answer(
    kind: str, birds: Birds, log: pytest.LogCaptureFixture
) -> None:
    birds.answer_as(kind)
    for wire in WIRES:
        for model in MODELS:
            for stream in (False, True):
                await birds.ask(wire, model, stream=stream)

    assert len(birds.got) == len(WIRES) * len(MODELS) * 2
    # The upstreams got their keys, and had something to repeat.
    for parrot, key in zip(birds.parrots, KEYS.values(), strict=True):
        if parrot is not birds.second or kind in ("401", "500", "cut"):
            assert any(key.encode() in heard for heard in parrot.heard)
    assert await birds.traces()
    await assert_clean(birds, log)


@pytest.mark.parametrize("wires", [("chat",), ("responses",), ("messages",)])
@pytest.mark.parametrize("kind", ["500", "error-event", "split-event", "cut", "text"])
async def test_no_secret_leaks_where_the_wires_of_client_and_upstream_differ(
    kind: str,
    wires: tuple[str, ...],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEYS["TEACHER"])
    async with Parrot(kind) as parrot:
        settings = {
            "teacher.base_url": parrot.base_url,
            "teacher.api_key_env": "TEACHER_KEY",
            "teacher.break_after": 1000,
        }
        async with world.serve(settings, wires, is_open=False) as served:
            served.key = await served.issue()
            birds = Birds(served, parrot, Parrot(), Parrot(), served.key, "tutadmin-none")
            for wire in WIRES:
                for stream in (False, True):
                    await birds.ask(wire, "teacher", stream=stream)
            assert any(KEYS["TEACHER"].encode() in heard for heard in parrot.heard)
            await assert_clean(birds, log)


@pytest.mark.parametrize("kind", ["text", "401", "500", "malformed", "cut"])
async def test_no_secret_leaks_from_what_is_only_relayed(
    kind: str, birds: Birds, log: pytest.LogCaptureFixture
) -> None:
    birds.answer_as(kind)
    for path, body in (
        ("/v1/completions", {"model": "two", "prompt": PROMPT, "stream": True}),
        ("/v1/completions", {"model": "two", "prompt": PROMPT}),
        ("/v1/messages/count_tokens", call("messages", "passthrough", PROMPT)),
    ):
        if path.endswith("count_tokens") and kind == "text":
            continue
        headers = {"cookie": COOKIE, "x-auth-token": SESSION_TOKEN}
        birds.got.append(await birds.served.send("POST", path, body, headers))
    assert any(KEYS["TEACHER"].encode() in heard for heard in birds.teacher.heard)
    await assert_clean(birds, log)


async def test_a_key_that_comes_in_two_pieces_is_in_no_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error is put together from what arrives; only then is the key whole."""
    monkeypatch.setenv("TEACHER_KEY", KEYS["TEACHER"])
    key = KEYS["TEACHER"]
    world.teacher.fault = f"500;say=the key {key} is wrong"
    settings = {"teacher.api_key_env": "TEACHER_KEY"}
    async with world.serve(settings) as served:
        got = await served.ask("chat", call("chat", "passthrough"))
    assert got.status == 502
    assert key.encode() not in got.raw
    assert b"the key *** is wrong" in got.raw


BAD_TOKENS = ["tut-" + "w" * 43, "tutadmin-" + "w" * 43, "sk-" + "w" * 60, "w" * 4000, "wé" * 20]


@pytest.mark.parametrize("token", BAD_TOKENS)
async def test_a_text_that_opens_nothing_is_repeated_nowhere(
    token: str, birds: Birds, log: pytest.LogCaptureFixture
) -> None:
    """It may be a key of somewhere else, sent here by mistake."""
    for wire in WIRES:
        for headers in ({"authorization": f"Bearer {token}"}, {"x-api-key": token}):
            birds.served.key = None
            got = await birds.served.send("POST", PATHS[wire], call(wire, "cascade"), headers)
            assert got.status == 401
            birds.got.append(got)
    everywhere = ours(log) + birds.served.gateway.metrics.render()[0].decode()
    everywhere += "".join(f"{got.headers} {got.raw.decode()}" for got in birds.got)
    assert_none_in([token, token[:40]], everywhere, "a log, an answer or the metrics")
    await assert_clean(birds, log)


async def test_an_error_of_ours_quotes_the_request_in_no_answer_and_no_log_above_debug(
    birds: Birds, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(self: Runtime, request: Any, **_: Any) -> Any:
        raise KeyError(f"{request.messages} {birds.key}")

    monkeypatch.setattr(Runtime, "begin", break_down)
    for wire in WIRES:
        for stream in (False, True):
            got = await birds.ask(wire, "cascade", stream=stream)
            assert got.status == 500
            assert_none_in([birds.key, *SAID], got.raw.decode(), "an answer")
    loud = ours(log, above=logging.DEBUG)
    assert "KeyError" in loud
    # Where it happened is told all the same.
    assert "break_down" in loud
    assert_none_in([birds.key, *SAID], loud, "the log above DEBUG")


async def test_a_lost_database_quotes_nothing(
    birds: Birds, log: pytest.LogCaptureFixture, database: Path
) -> None:
    """Errors of SQL drivers hold the statement with its parameters, which are whole traces."""
    import sqlite3

    await birds.ask("responses", "cascade")
    await birds.traces()
    broken = sqlite3.connect(database)
    for table in ("traces", "responses", "episodes"):
        broken.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")
    broken.commit()
    broken.close()
    for wire in WIRES:
        for path in ("/v1/responses/resp_tut_1", "/v1/decisions/1"):
            birds.got.append(await birds.served.send("GET", path))
        await birds.ask(wire, "cascade")
        await birds.ask(wire, "passthrough", stream=True)
    await birds.served.idle()
    async with asyncio.timeout(20):
        while "traces" not in ours(log, above=logging.INFO):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    loud = ours(log, above=logging.DEBUG)
    assert_none_in([*credentials(birds), *SAID, "VALUES"], loud, "the log above DEBUG")
    # An answer repeats what its own client said; one that failed here says nothing of it.
    failed = "\n".join(got.raw.decode() for got in birds.got if got.status >= 500)
    assert_none_in([*credentials(birds), *SAID, "INSERT"], failed, "an answer")


# What goes wrong at a reload.


MISTAKES = {
    "a key in the file": ("teacher", 'api_key = "{key}"'),
    "a key for a teacher's variable": ("teacher", 'api_key_env = "{key}"'),
    "a key for a student's variable": ("student", 'api_key_env = "{key}"'),
    "a pepper for its variable": ("gateway", 'pepper_env = "{key}"'),
    "a key in an address": ("teacher", 'base_url = "http://user:{key}@127.0.0.1/v1"'),
    "a password of PostgreSQL": ("store", 'url = "postgresql+psycopg://u:{key}@127.0.0.1:9/x"'),
    "a password of another database": ("store", 'url = "mysql://user:{key}@127.0.0.1:9/x"'),
    "a file that is broken": ("teacher", '"{key}'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_reload_that_fails_tells_no_key_that_stands_in_the_file(
    mistake: str, birds: Birds, log: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    endpoint = {"base_url": '"http://127.0.0.1:9/v1"', "model": '"m"'}
    tables = {
        "teacher": {**endpoint, "price": "{input = 1, output = 1}"},
        "student": {**endpoint, "price": "{input = 1, output = 1}"},
        "retrieval": {"embedder": '"hash"'},
        "store": {"url": f'"sqlite:///{tmp_path}/other.sqlite"'},
        "gateway": {},
    }
    key = "sk-Ab3-written-into-the-file-by-mistake"
    table, line = MISTAKES[mistake]
    tables[table].pop(line.partition(" = ")[0], None)
    text = ""
    for name, values in tables.items():
        text += f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
        text += line.replace("{key}", key) + "\n" if name == table else ""
    file = tmp_path / "tutelage.toml"
    file.write_text(text)
    gateway = birds.served.gateway
    old = gateway.parts
    running = _Running(lambda: load_config(file, {}), load_config(None, {}), gateway, is_open=False)

    with pytest.raises(TutelageError) as caught:
        await running.reload()
    with socket.socket() as door:
        server = GatewayServer(gateway, old.settings, door, reload=running.reload)
        await server._reload_and_tell()

    assert gateway.parts is old
    assert "the running one stays" in ours(log)
    assert_none_in([key, "Ab3"], str(caught.value) + ours(log), "an error")


async def test_the_configuration_that_an_administrator_sees_holds_no_secret(birds: Birds) -> None:
    config = load_config(
        None,
        {},
        {
            "store.url": "postgresql+psycopg://user:tulip-1@h/x?password=tulip-2",
            "teacher.base_url": "http://127.0.0.1/v1",
            "gateway.otlp_endpoint": "http://user:tulip-3@127.0.0.1:4318?token=tulip-4",
        },
    )
    assert "tulip" not in json.dumps(shown_config(config))


async def test_the_administration_repeats_no_key_and_logs_none(
    birds: Birds, log: pytest.LogCaptureFixture
) -> None:
    parts = birds.served.gateway.parts
    keyring = parts.doorkeeper
    assert isinstance(keyring, Keyring)

    async def refuse() -> None:
        raise TutelageError("no")

    app = Administration(keyring, parts.admission, reload=refuse, config=dict)
    made = await asgi(app, "POST", "/admin/keys", birds.admin_key, {"name": "n", "tenant": "acme"})
    text = json.loads(made.raw)["key"]
    id = json.loads(made.raw)["id"]
    rotated = await asgi(app, "POST", f"/admin/keys/{id}/rotate", birds.admin_key, {})
    texts = [text, json.loads(rotated.raw)["key"]]
    shown = [
        await asgi(app, method, path, birds.admin_key, body)
        for method, path, body in (
            ("GET", "/admin/keys", None),
            ("GET", f"/admin/keys/{id}", None),
            ("GET", f"/admin/keys/{id}/budget", None),
            ("GET", "/admin/audit", None),
            ("GET", "/admin/audit/verify", None),
            ("POST", "/admin/reload", {}),
            ("POST", "/admin/keys", {"name": texts[0], "kind": birds.admin_key}),
            ("DELETE", f"/admin/keys/{id}", None),
            ("GET", f"/admin/keys/{texts[0]}", None),
        )
    ]
    assert [one.status for one in shown[:5]] == [200] * 5
    everywhere = "\n".join(f"{one.headers} {one.raw.decode()}" for one in shown) + ours(log)
    secrets = [*credentials(birds), *texts]
    assert_none_in(secrets, everywhere, "an answer of the administration, or the log")


async def asgi(app: Any, method: str, path: str, key: str, body: Any) -> Got:
    """A call of an ASGI application without a socket."""
    sent: list[dict[str, Any]] = []
    raw = b"" if body is None else json.dumps(body).encode()
    messages = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"authorization", f"Bearer {key}".encode())],
        "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]))


def test_a_caller_shows_no_key() -> None:
    """What is passed around in the gateway may be printed by anybody."""
    from tutelage.runtime.gateway.caller import Caller
    from tutelage.runtime.gateway.outcome import Outcome

    names = {one.name for kind in (Caller, Outcome) for one in dataclasses.fields(kind)}
    assert not {name for name in names if "token" in name and name != "tokens_per_minute"}
    assert "key" not in names
