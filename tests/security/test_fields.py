"""Fields of a body that choose an upstream, or that a self-hosted server must not see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fault_upstream import Received
from tests.served_gateway import PATHS, WIRES, World, call, error_of, text_of, tool

from tutelage.runtime.models.fields import PUBLIC_FIELDS, ROUTING_FIELDS, only_public

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
ALIASES = {
    "passthrough": {"mode": "passthrough"},
    "cascade": {"mode": "cascade"},
    "route": {"mode": "route", "policy": "always-student"},
    "shadow": {"mode": "shadow"},
    "teacher": {"policy": "always-teacher"},
}
# How a server of one's own is made to do what it must not: the names of vLLM, SGLang and others.
DANGEROUS: dict[str, Any] = {
    "prompt_embeds": "UEsDBA==",
    "input_embeds": [[0.1]],
    "chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "chat_template_kwargs": {"tulip": 1},
    "documents": [{"text": "tulip"}],
    "mm_processor_kwargs": {"tulip": 1},
    "media_io_kwargs": {"video": {"tulip": 1}},
    "allowed_media_domains": ["tulip.example"],
    "guided_json": {"tulip": 1},
    "guided_regex": "(a+)+$tulip",
    "guided_grammar": "tulip",
    "guided_choice": ["tulip"],
    "guided_decoding_backend": "tulip",
    "structured_outputs": {"regex": "(a+)+$tulip"},
    "structural_tag": "tulip",
    "logits_processors": ["os.system('tulip')"],
    "vllm_xargs": {"tulip": 1},
    "kv_transfer_params": {"remote_host": "tulip"},
    "lora_path": "/etc/tulip",
    "lora_request": {"path": "tulip"},
    "priority": -1,
    "request_id": "tulip",
    "return_token_ids": True,
    "return_hidden_states": True,
    "prompt_logprobs": 20,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "add_special_tokens": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "truncate_prompt_tokens": 1,
    "bad_words": ["tulip"],
    "best_of": 10_000,
    "use_beam_search": True,
    "min_tokens": 100_000,
    "ignore_eos": True,
    "echo": True,
    "cache_salt": "tulip",
    "session_params": {"id": "tulip"},
    "custom_logit_processor": "tulip",
    "stop_token_ids": [1],
    "ebnf": "tulip",
    "regex": "(a+)+$tulip",
    "rid": "tulip",
    "unheard_of": "tulip",
}
PRIVATE: dict[str, Any] = {
    "anthropic": {"tulip": 1},
    "responses": {"tulip": 1},
    "tutelage": {"tulip": 1},
}
"""Names that we use inside for what only one API knows."""


def heard(world: World) -> list[Received]:
    return [*world.teacher.requests, *world.student.requests]


@wires
@streamed
async def test_nothing_but_the_public_api_reaches_a_standard_upstream_or_the_student(
    wire: str, stream: bool, world: World
) -> None:
    async with world.serve({"teacher.fields": "standard", "aliases": ALIASES}) as served:
        for model in ALIASES:
            for fields in (DANGEROUS, {**DANGEROUS, **PRIVATE}):
                got = await served.ask(wire, call(wire, model, stream=stream, **fields))
                assert got.status == 200
        await served.idle()
        await served.traces(2 * len(ALIASES))
    assert world.teacher.requests
    assert world.student.requests
    for one in heard(world):
        assert not set(DANGEROUS) & set(one.body)
        assert "tulip" not in one.raw.decode()


@wires
@pytest.mark.parametrize("wires_of_teacher", [["chat"], ["messages"], ["responses"]])
async def test_a_standard_upstream_of_another_wire_gets_nothing_else_either(
    wire: str, wires_of_teacher: list[str], world: World
) -> None:
    settings_ = {"teacher.fields": "standard", "aliases": ALIASES}
    async with world.serve(settings_, wires_of_teacher) as served:
        for model in ("passthrough", "teacher"):
            got = await served.ask(wire, call(wire, model, **{**DANGEROUS, **PRIVATE}))
            assert got.status == 200
    for one in world.teacher.requests:
        assert "tulip" not in one.raw.decode()
        assert "prompt_embeds" not in one.body


HIDDEN = {"prompt_embeds": "tulip", "chat_template": "tulip", "anthropic": {"tulip": 1}}


@streamed
async def test_nothing_hides_in_messages_parts_or_tools(stream: bool, world: World) -> None:
    messages = [
        {"role": "system", "content": "Act.", **HIDDEN},
        {"role": "user", "content": "where to?", "name": "me", **HIDDEN},
        {"role": "assistant", "content": "hm", **HIDDEN},
        {"role": "user", "content": [{"type": "text", "text": "well?"}], **HIDDEN},
    ]
    embedded = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "where to?"},
                {"type": "prompt_embeds", "prompt_embeds": "tulip"},
                {"type": "image_embeds", "image_embeds": "tulip"},
                {"type": "audio_embeds", "audio_embeds": "tulip"},
                {"type": "video_url", "video_url": {"url": "file:///tulip"}},
                {"type": "image_pil", "image_pil": "tulip"},
                {"type": "unheard_of", "unheard_of": "tulip"},
            ],
        },
    ]
    formats = [
        {"type": "structural_tag", "structures": ["tulip"]},
        {"type": "grammar", "grammar": "tulip"},
        {"type": "regex", "pattern": "tulip"},
    ]
    async with world.serve({"teacher.fields": "standard", "aliases": ALIASES}) as served:
        for model in ALIASES:
            for wanted in formats:
                body = {
                    "model": model, "messages": messages, "stream": stream,
                    "response_format": wanted,
                }  # fmt: skip
                assert (await served.ask("chat", body)).status == 200
                # Parts that no public API has are left out, or refused.
                got = await served.ask("chat", {**body, "messages": embedded})
                assert got.status in (200, 400)
        await served.idle()
        await served.traces(len(ALIASES) * len(formats))
    assert len(heard(world)) >= 2 * len(formats)
    for one in heard(world):
        assert "tulip" not in one.raw.decode()


@wires
@streamed
@pytest.mark.parametrize("name", sorted(ROUTING_FIELDS))
async def test_a_body_that_says_where_it_is_to_go_is_refused(
    name: str, wire: str, stream: bool, world: World
) -> None:
    async with world.serve({"aliases": ALIASES}) as served:
        for model in ("passthrough", "cascade"):
            body = call(wire, model, stream=stream, **{name: "http://evil.example/v1"})
            got = await served.ask(wire, body)
            assert got.status == 400
            assert name in error_of(wire, got)["message"]
            assert b"evil" not in got.raw
    assert heard(world) == []


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/messages/count_tokens"])
async def test_what_is_only_relayed_says_nowhere_where_it_is_to_go(path: str, world: World) -> None:
    async with world.serve() as served:
        for name in sorted(ROUTING_FIELDS):
            body = {
                "model": "passthrough",
                "input": "x",
                "prompt": "x",
                name: "http://evil.example",
            }
            assert (await served.send("POST", path, body)).status == 400
    assert heard(world) == []


@wires
@pytest.mark.parametrize(
    "model",
    [
        "second",
        "large-2",
        "openai/gpt-4",
        "http://evil.example/v1",
        "*",
        "teacher/../second",
        "cascade@http://evil.example",
        " cascade",
        "CASCADE",
    ],
)
async def test_the_name_of_a_model_chooses_nothing_that_is_not_configured(
    wire: str, model: str, world: World
) -> None:
    async with world.serve() as served:
        got = await served.ask(wire, call(wire, model))
    assert got.status == 404
    assert heard(world) == []
    assert world.second.requests == []


@pytest.mark.parametrize("name", ["model", "messages"])
async def test_a_field_that_stands_twice_is_read_once(name: str, world: World) -> None:
    """The key was checked for one model: it must not be another one that is served."""
    text = {"role": "user", "content": "x"}
    values = {"model": "passthrough", "messages": [text]}
    body = json.dumps(values)[:-1]
    extra = json.dumps("two" if name == "model" else [{"role": "user", "content": "y"}])
    raw = f'{body}, "{name}": {extra}}}'.encode()
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(aliases=["passthrough"])
        got = await served.ask("chat", raw)
    if name == "model":
        # The last one counts for us, and it is not open to this key.
        assert got.status == 403
        assert heard(world) == []
    else:
        assert got.status == 200
        assert text_of("chat", got.json) == "go to the teacher's desk"


async def test_the_model_that_is_sent_on_is_the_configured_one_however_the_body_is_written(
    world: World,
) -> None:
    """Relayed bytes keep a client's spelling; what we put in must win all the same."""
    texts = [
        '{"model":"passthrough","messages":[{"role":"user","content":"\\"model\\":\\"evil\\""}]}',
        '{"mo\\u0064el":"passthrough","messages":[{"role":"user","content":"x"}]}',
        '{"model":"evil","model":"passthrough","messages":[{"role":"user","content":"x"}]}',
        '{"metadata":{"model":"passthrough"},"model" :\n "passthrough","messages":'
        '[{"role":"user","content":"x"}]}',
        '{"model":"pass\\u0074hrough","messages":[{"role":"user","content":"x"}]}',
    ]
    async with world.serve() as served:
        for text in texts:
            assert (await served.ask("chat", text.encode())).status == 200
    assert [one.body["model"] for one in world.teacher.requests] == ["large"] * len(texts)
    assert [first_reading(one.raw)["model"] for one in world.teacher.requests] == ["large"] * len(
        texts
    )


def first_reading(raw: bytes) -> dict[str, Any]:
    """An object as a server reads it that takes the first of two values."""
    found: dict[str, Any] = json.loads(raw, object_pairs_hook=lambda pairs: dict(pairs[::-1]))
    return found


TWICE = [
    ('"max_tokens": 100000', '"max_tokens": 5'),
    ('"max_t\\u006fkens": 100000', '"max_tokens": 5'),
    ('"max_tokens": 100000', '"max\\u005ftokens": 5'),
    ('"model": "evil"', '"model": "{model}"'),
    ('"m\\u006Fdel": "evil"', '"model": "{model}"'),
    ('"stream": true', '"stream": false'),
    ('"n": 100', '"n": 1'),
]


@wires
@pytest.mark.parametrize("fields", TWICE)
@pytest.mark.parametrize("own_name", ["large", None])
async def test_no_reader_finds_in_a_relayed_call_what_was_not_checked(
    wire: str, fields: tuple[str, str], own_name: str | None, world: World
) -> None:
    """Of a field that stands twice we read the last, and other servers the first."""
    first, last = (one.replace("{model}", "passthrough") for one in fields)
    body = json.dumps(call(wire, "passthrough"))[1:-1]
    if wire == "messages":
        body = body.replace('"max_tokens": 100, ', "").replace(', "max_tokens": 100', "")
    if '"model"' in last:
        body = body.replace('"model": "passthrough", ', "")
    async with world.serve({"teacher.model": own_name}) as served:
        got = await served.ask(wire, f"{{{first}, {body}, {last}}}".encode())
    assert got.status == 200
    raw = world.teacher.last.raw
    assert first_reading(raw) == json.loads(raw)
    assert json.loads(raw)["model"] == (own_name or "passthrough")
    assert b"evil" not in raw
    assert b"100000" not in raw


async def test_what_stands_once_is_relayed_byte_for_byte(world: World) -> None:
    """Prompt caches are keyed by bytes; names and escapes inside a message are no reason."""
    texts = [
        '{ "model" : "passthrough","messages":[{"role":"user","content":"\\u0061 \\"model\\""}]}',
        '{"messages":[{"role":"user","content":"x","model":"y"}],"model":"passthrough","n":1}',
        '{"model":"passthrough","messages":[{"role":"user","content":"x"}],"tools":[{"type":'
        '"function","function":{"name":"f","parameters":{"properties":{"n":{},"model":{}}}}}]}',
    ]
    async with world.serve({"teacher.model": None}) as served:
        for text in texts:
            assert (await served.ask("chat", text.encode())).status == 200
    assert [one.raw.decode() for one in world.teacher.requests] == texts


# What is never fetched.


@pytest.fixture
async def canary() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address on this machine, and what came there."""
    came: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/cat.png", came


@wires
@streamed
async def test_no_address_in_a_request_is_fetched_by_us(
    wire: str, stream: bool, canary: tuple[str, list[bytes]], world: World
) -> None:
    url, came = canary
    parts: dict[str, list[Any]] = {
        "chat": [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "file", "file": {"file_data": url, "file_id": url}},
        ],
        "responses": [
            {"type": "input_image", "image_url": url, "detail": "auto"},
            {"type": "input_file", "file_url": url},
        ],
        "messages": [
            {"type": "image", "source": {"type": "url", "url": url}},
            {"type": "document", "source": {"type": "url", "url": url}},
        ],
    }
    text = {"type": "input_text" if wire == "responses" else "text", "text": f"look at {url}"}
    message = {"role": "user", "content": [text, *parts[wire]]}
    schema = {"$ref": url, "$schema": url, "type": "object", "properties": {"a": {"$ref": url}}}
    body = call(wire, "x", stream=stream)
    body["input" if wire == "responses" else "messages"] = [message]
    offered = tool(wire)
    holder = offered.get("function", offered)
    holder["input_schema" if wire == "messages" else "parameters"] = schema
    world.student.fault = "tools"
    async with world.serve({"aliases": ALIASES, "teacher.fields": "standard"}) as served:
        for model in ALIASES:
            got = await served.ask(wire, {**body, "model": model, "tools": [offered]})
            assert got.status in (200, 400)
        path = "/v1/responses/input_tokens" if wire == "responses" else "/v1/messages/count_tokens"
        await served.send("POST", path, {**body, "model": "cascade"})
        await served.idle()
    assert came == []


# Whatever else is sent.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(sorted({*DANGEROUS, *PRIVATE, *PUBLIC_FIELDS})) | st.text(max_size=12)


@given(body=st.dictionaries(NAMES, JSON, max_size=8))
@settings(max_examples=300, deadline=None)
def test_what_is_public_is_all_that_is_left_of_any_body(body: dict[str, Any]) -> None:
    kept = only_public(body)
    assert set(kept) <= PUBLIC_FIELDS
    assert set(kept) <= set(body)
    assert only_public(kept) == kept


@pytest.mark.parametrize("wire", WIRES)
@given(extra=st.dictionaries(NAMES, JSON, max_size=5))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_field_of_any_kind_is_a_mistake_of_ours(
    wire: str, extra: dict[str, Any], odd_fields: Any
) -> None:
    """Whatever a client sends, it is served or told what is wrong; never a 500."""
    status, raw = odd_fields(wire, extra)
    assert status < 500, raw


@pytest.fixture(scope="module")
def odd_fields(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Sends a call with other fields over what it has; one gateway for all examples."""
    folder = tmp_path_factory.mktemp("fields")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("TUTELAGE_CACHE", str(folder / "cache"))
        store = {"store.url": f"sqlite:///{folder}/t.sqlite", "store.spool": str(folder / "spool")}
        world = World(store)
        runner.run(world.__aenter__())
        serving = world.serve({"aliases": ALIASES, "teacher.fields": "standard"})
        served = runner.run(serving.__aenter__())

        def send(wire: str, extra: dict[str, Any]) -> tuple[int, bytes]:
            async def ask() -> tuple[int, bytes]:
                body = {**call(wire, "cascade"), **extra}
                got = await served.send("POST", PATHS[wire], body)
                return got.status, got.raw[:500]

            return runner.run(ask())

        yield send
        runner.run(serving.__aexit__(None, None, None))
        runner.run(world.__aexit__(None, None, None))
