from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.fault_upstream import FaultUpstream, threaded_upstream

from tutelage.runtime.models.sse import Event, EventParser

CHATS = ("/chat/completions", "/responses", "/messages")


@pytest.fixture
async def upstream() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def body(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


def events(content: bytes) -> list[Event]:
    return EventParser().feed(content)


@pytest.fixture
def post(upstream: FaultUpstream, session: aiohttp.ClientSession) -> Any:
    async def posted(
        path: str = "/chat/completions", headers: dict[str, str] | None = None, **fields: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        url = f"{upstream.base_url}{path}"
        asked = session.post(url, json=body(**fields), headers=headers, allow_redirects=False)
        async with asked as response:
            return response, await response.read()

    return posted


async def test_a_chat_is_answered_with_its_usage(post: Any) -> None:
    response, content = await post(n=2)

    answer = json.loads(content)
    assert response.status == 200
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["go to desk 1"] * 2
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


@pytest.mark.parametrize("path", ["/responses", "/messages"])
async def test_the_other_wires_are_answered_with_cached_tokens(post: Any, path: str) -> None:
    _, content = await post(path)

    usage = json.loads(content)["usage"]
    details = usage.get("input_tokens_details", usage)
    assert details.get("cached_tokens", details.get("cache_read_input_tokens")) == 4
    assert "go to desk 1" in content.decode()


@pytest.mark.parametrize("path", CHATS)
async def test_tool_calls_have_the_name_of_the_tool_that_was_offered(post: Any, path: str) -> None:
    tools = [{"name": "walk", "type": "function", "function": {"name": "walk"}}]

    for stream in (False, True):
        _, content = await post(path, model="fault:tools;count=2", tools=tools, stream=stream)
        assert content.decode().count("walk") >= 2
        assert "look" not in content.decode()


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/chat/completions", b"[DONE]"),
        ("/completions", b"[DONE]"),
        ("/responses", b'"response.completed"'),
        ("/messages", b'"message_stop"'),
    ],
)
async def test_a_stream_comes_in_pieces_and_ends_as_its_wire_ends(
    post: Any, path: str, last: bytes
) -> None:
    response, content = await post(path, stream=True)

    seen = events(content)
    assert response.content_type == "text/event-stream"
    assert len(seen) > 3
    assert last in seen[-1].data


async def test_the_usage_of_a_chat_stream_comes_when_it_is_asked_for(post: Any) -> None:
    _, without = await post(stream=True)
    _, with_usage = await post(stream=True, stream_options={"include_usage": True})

    assert b"usage" not in without
    assert json.loads(events(with_usage)[-2].data)["usage"]["completion_tokens"] == 5


async def test_models_embeddings_and_counts_are_answered(
    post: Any, upstream: FaultUpstream, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{upstream.base_url}/models") as response:
        assert [one["id"] for one in (await response.json())["data"]] == ["small", "large"]
    _, rows = await post("/embeddings", input=["a", "bcd"])
    _, counted = await post("/messages/count_tokens?beta=true")

    assert [row["embedding"] for row in json.loads(rows)["data"]] == [[1.0, 0.0], [3.0, 1.0]]
    assert json.loads(counted) == {"input_tokens": 12}
    assert upstream.last.query == "beta=true"


@pytest.mark.parametrize("path", ["/elsewhere", "/models"])
async def test_other_paths_do_not_exist(post: Any, path: str) -> None:
    response, _ = await post(path)

    assert response.status == 404


async def test_an_echo_says_the_last_message(post: Any) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "nonce 7"}]}]

    _, plain = await post(model="fault:echo")
    _, listed = await post(model="fault:echo", messages=parts)

    assert json.loads(plain)["choices"][0]["message"]["content"] == "hi"
    assert json.loads(listed)["choices"][0]["message"]["content"] == "nonce 7"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
@pytest.mark.parametrize("path", CHATS)
async def test_a_status_comes_with_the_error_of_the_wire(post: Any, path: str, status: int) -> None:
    response, content = await post(path, headers={"x-fault": f"{status};retry-after=7"})

    assert response.status == status
    assert response.headers["retry-after"] == "7"
    assert json.loads(content)["error"]["message"] == f"the upstream says {status}"


async def test_a_502_is_a_page_and_a_307_leads_elsewhere(post: Any) -> None:
    page, content = await post(model="fault:502")
    redirect, _ = await post(model="fault:307")

    assert (page.status, page.content_type, content[:6]) == (502, "text/html", b"<html>")
    assert (redirect.status, redirect.headers["location"]) == (307, "/v1/elsewhere")


async def test_a_fault_passes_after_its_times(post: Any, upstream: FaultUpstream) -> None:
    seen = [(await post(model="fault:503;times=2"))[0].status for _ in range(3)]

    assert seen == [503, 503, 200]
    assert upstream.calls("fault:503;times=2") == 3
    assert upstream.calls() == 3


@pytest.mark.parametrize("kind", ["truncated", "malformed"])
async def test_an_answer_can_be_no_json(post: Any, kind: str) -> None:
    response, content = await post(model=f"fault:{kind}")

    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(content)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/chat/completions", "choices"), ("/responses", "output"), ("/messages", "content")],
)
async def test_an_answer_can_be_empty(post: Any, path: str, name: str) -> None:
    _, content = await post(path, model="fault:empty")
    _, streamed = await post(path, model="fault:empty", stream=True)

    assert json.loads(content)[name] == []
    assert streamed == b""


async def test_an_answer_can_be_a_list(post: Any) -> None:
    assert (await post(model="fault:list"))[1] == b"[]"


async def test_an_answer_can_be_of_the_wrong_type(post: Any) -> None:
    response, content = await post(model="fault:wrong-type", stream=True)

    assert (response.status, response.content_type) == (200, "text/html")
    assert content.startswith(b"<html>")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_can_be_cut(
    upstream: FaultUpstream, session: aiohttp.ClientSession, stream: bool
) -> None:
    url = f"{upstream.base_url}/chat/completions"
    async with session.post(url, json=body("fault:cut", stream=stream)) as response:
        assert await response.content.readany()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("path", CHATS)
async def test_a_stream_can_hold_an_event_that_is_no_json(post: Any, path: str) -> None:
    _, content = await post(path, model="fault:malformed", stream=True)

    broken = [event for event in events(content) if event.data.startswith(b'{"choices": [{"delta"')]
    assert len(broken) >= 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(min(broken, key=lambda event: len(event.data)).data)


@pytest.mark.parametrize("path", CHATS)
async def test_a_stream_can_end_with_the_error_of_its_wire(post: Any, path: str) -> None:
    _, content = await post(path, model="fault:error-event", stream=True)

    assert b"out of memory" in events(content)[-1].data
    assert b"[DONE]" not in content


async def test_a_stream_can_lack_its_end(post: Any) -> None:
    _, content = await post(model="fault:no-end", stream=True)

    assert len(events(content)) > 2
    assert b"[DONE]" not in content


async def test_a_dribble_is_the_whole_answer_in_small_pieces(
    upstream: FaultUpstream, session: aiohttp.ClientSession, post: Any
) -> None:
    _, whole = await post(model="m", stream=True)
    url = f"{upstream.base_url}/chat/completions"
    fault = {"x-fault": "dribble;size=40;delay-ms=1"}
    async with session.post(url, json=body(stream=True), headers=fault) as response:
        pieces = [piece async for piece in response.content.iter_any()]

    assert b"".join(pieces) == whole
    assert len(pieces) > 5


async def test_a_connection_can_be_reset(post: Any, upstream: FaultUpstream) -> None:
    with pytest.raises(aiohttp.ClientOSError):
        await post(model="fault:reset")

    assert upstream.calls() == 1


@pytest.mark.parametrize("kind", ["hang", "hang-body"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_a_silent_upstream_is_noticed(
    post: Any, upstream: FaultUpstream, kind: str, stream: bool
) -> None:
    call = asyncio.create_task(post(model=f"fault:{kind}", stream=stream))
    await upstream.arrived()
    with pytest.raises(TimeoutError):
        await upstream.disconnected(within_s=0.02)

    call.cancel()

    await upstream.disconnected()
    left_s = upstream.last.disconnected_s
    assert left_s is not None
    assert left_s >= upstream.last.arrived_s
    assert not upstream.last.ended


async def test_a_client_that_has_its_answer_leaves_unnoticed(
    post: Any, upstream: FaultUpstream, session: aiohttp.ClientSession
) -> None:
    await post()
    await session.close()

    with pytest.raises(TimeoutError):
        await upstream.disconnected(within_s=0.02)
    assert upstream.last.ended


async def test_requests_are_kept_with_headers_body_and_connection(
    post: Any, upstream: FaultUpstream
) -> None:
    await post(headers={"X-Nonce": "7"}, seed=3)
    await post()

    first, second = upstream.requests
    assert first.headers["x-nonce"] == "7"
    assert first.body["seed"] == 3
    assert json.loads(first.raw) == first.body
    assert first.connection == second.connection == upstream.connections == 1


async def test_a_slow_answer_can_be_overtaken(post: Any) -> None:
    slow = asyncio.create_task(post(model="fault:slow;delay-ms=100"))
    await post()

    assert not slow.done()
    assert (await slow)[0].status == 200


async def test_what_is_said_can_be_scripted(session: aiohttp.ClientSession) -> None:
    async with FaultUpstream(lambda asked: asked["model"].upper()) as upstream:
        url = f"{upstream.base_url}/chat/completions"
        said = []
        for model in ("small", "fault:text;say=look"):
            async with session.post(url, json=body(model)) as response:
                said.append((await response.json())["choices"][0]["message"]["content"])

    assert said == ["SMALL", "look"]


def test_an_upstream_runs_in_a_thread() -> None:
    with threaded_upstream("look") as upstream:
        request = urllib.request.Request(
            f"{upstream.base_url}/chat/completions",
            json.dumps(body()).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["choices"][0]["message"]["content"] == "look"
        upstream.arrived()
        assert upstream.calls() == len(upstream.requests) == 1
        with pytest.raises(TimeoutError):
            upstream.disconnected(within_s=0.01)


def test_an_upstream_runs_as_a_process() -> None:
    script = Path(__file__).with_name("fault_upstream.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().decode().strip()
        with urllib.request.urlopen(f"{base_url}/models") as response:
            assert len(json.load(response)["data"]) == 2
        process.terminate()
