"""A model endpoint on the loopback interface that does what third-party suites ask of a model.

It speaks all three wires, unary and streamed: it calls the tool that a request is about with
arguments that fit its schema, answers tool results, writes JSON by a schema, and repeats what it
was told otherwise. Requests that a real endpoint would refuse are refused.
"""

from __future__ import annotations

import array
import asyncio
import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from tests.suites.by_schema import Filler
from tests.suites.heard import ANY_TOOL, Heard, Tool, heard_on
from tests.suites.wire_rules import complaint
from tests.upstream_answers import (
    PROMPT_TOKENS,
    Answer,
    Said,
    answer_on,
    embeddings,
    model_list,
)

Mind = Callable[[Heard], Said]
_WIRES = ("/chat/completions", "/completions", "/responses", "/messages")


def obliging(heard: Heard) -> Said:
    """What a model says that does as it is asked."""
    tools = _wanted_tools(heard)
    if tools:
        filler = Filler(heard.question)
        return Said(
            calls=tuple(
                (f"call_{len(heard.transcript)}_{index}", tool.name, _json(filler, tool.schema))
                for index, tool in enumerate(tools)
            )
        )
    if heard.schema:
        return Said(_json(Filler(heard.question), heard.schema))
    if heard.schema is not None:
        keys = re.findall(r"'(\w+)'", heard.question) or ["answer"]
        return Said(json.dumps({key: f"the {key}" for key in keys}))
    text = " and ".join(heard.results) if heard.results else heard.question
    for stop in heard.stop:
        text = text.split(stop)[0]
    return Said(f"I heard: {text}")


def _wanted_tools(heard: Heard) -> list[Tool]:
    if not heard.tools or not heard.may_call:
        return []
    by_name = {tool.name: tool for tool in heard.tools}
    if heard.must_call in by_name:
        return [by_name[heard.must_call]]
    fresh = [tool for tool in heard.tools if tool.name not in heard.called]
    words = heard.question
    if not heard.results:
        named = [tool for tool in fresh if re.search(rf"\b{re.escape(tool.name)}\b", words)]
        if named:
            return named
        best = max(fresh, key=lambda tool: _closeness(tool, words), default=None)
        if best is not None and _closeness(best, words):
            return [best]
    if heard.must_call == ANY_TOOL:
        return [fresh[0] if fresh else heard.tools[-1]]
    return []


def _closeness(tool: Tool, text: str) -> int:
    """How many words of the tool's name are in a text."""
    spoken = set(re.findall(r"[a-z]+", text.lower()))
    return len(spoken & set(re.findall(r"[a-z]+", tool.name.lower().replace("_", " "))))


def _json(filler: Filler, schema: Mapping[str, Any]) -> str:
    return json.dumps(filler.value(schema), ensure_ascii=False)


def wavering(mind: Mind) -> Callable[[Heard, int], Said]:
    """A mind whose samples never agree: every one but the first says something else."""

    def sample(heard: Heard, index: int) -> Said:
        return mind(heard) if index == 0 else Said(f"On second thought {index}, wait.")

    return sample


class CleverUpstream:
    """What the endpoint answers, and what it was asked.

    Args:
        minds: Who answers for a model; any other model is ``obliging``. A mind whose model begins
            with ``wavering-`` gives samples that differ.
    """

    def __init__(self, minds: Mapping[str, Mind] | None = None) -> None:
        self._minds = minds or {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Path below ``/v1`` and body of each call."""
        self.headers: list[dict[str, str]] = []
        """Of the same calls, names in lower case."""
        self.complaints: list[str] = []
        """What was wrong with calls that were refused."""

    def app(self) -> web.Application:
        """The endpoint."""
        made = web.Application(client_max_size=64_000_000)
        made.router.add_get("/v1/models", self._models)
        made.router.add_post("/v1/{path:.*}", self._serve)
        return made

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response(model_list(("clever",)))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path, body = f"/{request.match_info['path']}", await request.json()
        self.requests.append((path, body))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        counted = {"/messages/count_tokens": {}, "/responses/input_tokens": _COUNTED}.get(path)
        try:
            wrong = complaint(path, body)
            if wrong is not None:
                self.complaints.append(f"{path}: {wrong}: {json.dumps(body)[:2000]}")
                return _refusal(path, wrong)
            if counted is not None:
                return web.json_response({**counted, "input_tokens": PROMPT_TOKENS})
            if path == "/embeddings":
                return web.json_response(_encoded(embeddings(body), body.get("encoding_format")))
            if path not in _WIRES:
                raise web.HTTPNotFound
            answer = self._answer(path, body)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # A client's nonsense, which a real endpoint refuses.
            return _refusal(path, repr(error))
        return await self._send(request, body, answer)

    def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        heard = heard_on(path, body)
        name = heard.model.removeprefix("wavering-")
        mind = self._minds.get(name, obliging)
        if name == heard.model:
            return answer_on(path, body, mind(heard))
        sample = wavering(mind)
        answer = answer_on(path, body, sample(heard, 0))
        for index, choice in enumerate(answer.body["choices"][1:], 1):
            other = answer_on(path, {**body, "n": 1}, sample(heard, index)).body["choices"][0]
            choice.clear()
            choice.update({**other, "index": index})
        return answer

    async def _send(
        self, request: web.Request, body: Mapping[str, Any], answer: Answer
    ) -> web.StreamResponse:
        if not body.get("stream"):
            return web.json_response(answer.body, headers={"x-request-id": "req_clever"})
        stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await stream.prepare(request)
        for event in answer.events:
            await stream.write(event)
        await stream.write_eof()
        return stream


def _refusal(path: str, message: str) -> web.Response:
    error = {"type": "invalid_request_error", "message": message, "param": None, "code": None}
    body = {"type": "error", "error": error} if path == "/messages" else {"error": error}
    return web.json_response(body, status=400)


_COUNTED = {"object": "response.input_tokens"}


def _encoded(body: dict[str, Any], encoding: object) -> dict[str, Any]:
    if encoding == "base64":
        for row in body["data"]:
            packed = array.array("f", row["embedding"]).tobytes()
            row["embedding"] = base64.b64encode(packed).decode()
    return body


@contextmanager
def served(upstream: CleverUpstream) -> Iterator[str]:
    """Serves an upstream in a thread; the value is its base URL."""
    ready = threading.Event()
    opened: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        runner = web.AppRunner(upstream.app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        port = runner.addresses[0][1]
        stop = asyncio.Event()
        opened.append((f"http://127.0.0.1:{port}/v1", asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="clever-upstream")
    thread.start()
    ready.wait()
    address, loop, stop = opened[0]
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
