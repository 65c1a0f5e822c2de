"""An OpenAI-compatible endpoint for a diffusion student."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tutelage.runtime.errors import (
    BadRequest,
    BadResponse,
    ContextTooLong,
    Refused,
    TutelageError,
)
from tutelage.runtime.models.generation import Sampling
from tutelage.runtime.models.local import sampling_of
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.chat import chat_error
from tutelage.runtime.wires.chat_request import read_chat
from tutelage.runtime.wires.failure import Failure
from tutelage.training.diffusion.answer_text import AnswerText
from tutelage.training.diffusion.batching import Batcher, Full, Row
from tutelage.training.diffusion.decoding import Decoded, DecodingSettings
from tutelage.training.diffusion.drawing import Draw
from tutelage.training.diffusion.meters import Meters
from tutelage.training.diffusion.probing import masked_log_probs
from tutelage.training.diffusion.student import DiffusionStudent

LARGEST_BODY = 4 << 20
"""Bytes."""
MOST_SAMPLES = 64
JSON = "application/json"

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class _Call:
    """A request that was understood."""

    request: ChatRequest
    prompt: list[int]
    sampling: Sampling
    streams: bool
    includes_usage: bool
    id: str
    created_s: int


class DiffusionServer:
    """Serves ``/v1/chat/completions``, ``/v1/models``, ``/health`` and ``/metrics``.

    ``/v1/completions`` tells the ``prompt_logprobs`` of token ids, by which weights are recognised,
    and writes nothing.

    Samples of all requests that wait are written in one batch. Beside the usual counts the usage
    has ``forwards``, summed over the samples; each choice has its own.

    Args:
        student: The student.
        settings: How it decodes.
        name: Model name that requests use.
        rows: Most samples in a batch.
        waiting: Most samples that wait.
        seed: Of the samples of requests that name none; ``None`` draws one.
        clock: Seconds, for latencies.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        student: DiffusionStudent,
        settings: DecodingSettings,
        *,
        name: str = "student",
        rows: int = 32,
        waiting: int = 1024,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._student = student
        self._name = name
        self._clock = clock
        self._now = now
        self._numbers = itertools.count(1)
        self._random = random.Random(seed)
        self._batcher = Batcher(
            student,
            settings,
            rows=rows,
            waiting=waiting,
            on_batch=lambda size, passes: self._meters.batch(size, passes),
            clock=clock,
        )
        self._meters = Meters(lambda: self._batcher.waiting)
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._prompt_log_probs, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _of_route},
        )

    async def aclose(self) -> None:
        """Finishes the batch under way."""
        await self._batcher.aclose()

    async def _models(self, _: Request) -> Response:
        model = {"id": self._name, "object": "model", "created": 0, "owned_by": "tutelage"}
        longest = self._student.shape.max_positions
        return _json({"object": "list", "data": [{**model, "max_model_len": longest}]})

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        page, kind = self._meters.render()
        return Response(page, media_type=kind)

    async def _chat(self, request: Request) -> Response:
        started_s = self._clock()
        try:
            call = self._understood(await _body(request))
            if call.streams:
                return await self._stream(request, call, started_s)
            answers = await self._unless_gone(request, self._batcher.write(self._rows(call)))
        except TutelageError as error:
            return self._failed(error)
        except ClientDisconnect:
            self._meters.failed(499)
            return Response(status_code=499)
        self._meters.answered(len(call.prompt), answers, self._clock() - started_s)
        return _json(self._completion(call, answers))

    async def _prompt_log_probs(self, request: Request) -> Response:
        try:
            tokens = self._probed(await _body(request))
            told = await asyncio.to_thread(masked_log_probs, self._student, tokens)
        except TutelageError as error:
            return self._failed(error)
        except ClientDisconnect:
            self._meters.failed(499)
            return Response(status_code=499)
        known = [
            None if value is None else {str(token): {"logprob": value}}
            for token, value in zip(tokens, told, strict=True)
        ]
        choice = {"index": 0, "text": "", "finish_reason": "length", "prompt_logprobs": known}
        return _json({"object": "text_completion", "model": self._name, "choices": [choice]})

    def _probed(self, body: object) -> list[int]:
        asked: Mapping[str, Any] = body if isinstance(body, dict) else {}
        if asked.get("model") != self._name:
            raise _UnknownModel(
                f"model {asked.get('model')!r} is not served here: use {self._name!r}",
                param="model",
            )
        tokens, vocabulary = asked.get("prompt"), self._student.shape.vocabulary
        if not isinstance(tokens, list) or len(tokens) < 2 or not asked.get("prompt_logprobs"):
            raise BadRequest(
                "only prompt_logprobs of two or more token ids are told here: use "
                "/v1/chat/completions",
                param="prompt",
            )
        if not all(type(one) is int and 0 <= one < vocabulary for one in tokens):
            raise BadRequest(f"prompt: use token ids from 0 to {vocabulary - 1}", param="prompt")
        return tokens

    def _understood(self, body: object) -> _Call:
        asked = read_chat(body)
        request = asked.request
        if request.model != self._name:
            raise _UnknownModel(
                f"model {request.model!r} is not served here: use {self._name!r}", param="model"
            )
        sampling = sampling_of(request, request.n or 1)
        if sampling.top_logprobs:
            raise BadRequest("top_logprobs is not known here: leave it out", param="top_logprobs")
        if sampling.n > MOST_SAMPLES:
            raise BadRequest(f"n = {sampling.n}: use at most {MOST_SAMPLES}", param="n")
        for index, message in enumerate(request.messages):
            for part in message.content if isinstance(message.content, list) else ():
                if part.get("type") != "text":
                    raise BadRequest(
                        f"the student reads text only: leave out the {part.get('type')} part",
                        param=f"messages.{index}.content",
                    )
        messages = [{"role": message.role, "content": message.text} for message in request.messages]
        return _Call(
            request,
            self._student.prompt(messages),
            sampling,
            streams=asked.stream,
            includes_usage=asked.include_usage,
            id=f"chatcmpl-diffusion-{next(self._numbers)}",
            created_s=int(self._now()),
        )

    def _rows(
        self, call: _Call, tell: Callable[[int, Sequence[int]], bool] | None = None
    ) -> list[Row]:
        sampling = call.sampling
        seed = self._random.getrandbits(63) if sampling.seed is None else sampling.seed
        rows = []
        for index in range(sampling.n):
            chance = torch.Generator().manual_seed(random.Random(f"{seed}:{index}").getrandbits(63))
            text = AnswerText(self._student.chat, sampling.stop)
            rows.append(
                Row(
                    call.prompt,
                    Draw(sampling.temperature, sampling.top_p, chance),
                    sampling.max_tokens,
                    functools.partial(_goes_on, text)
                    if tell is None
                    else functools.partial(tell, index),
                )
            )
        return rows

    async def _unless_gone(self, request: Request, work: Coroutine[Any, Any, Found]) -> Found:
        """What the work gives, unless the client hangs up before.

        Raises:
            ClientDisconnect: It did.
        """
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientDisconnect
            return working.result()
        finally:
            working.cancel()
            leaving.cancel()

    def _completion(self, call: _Call, answers: Sequence[Decoded]) -> dict[str, Any]:
        choices = []
        for index, answer in enumerate(answers):
            text = AnswerText(self._student.chat, call.sampling.stop)
            content = text.final(answer.tokens)
            choices.append(
                {
                    "index": index,
                    "message": {"role": "assistant", "content": content},
                    "finish_reason": "stop" if text.stopped else answer.finish_reason,
                    "logprobs": self._logprobs(call, answer),
                    "forwards": answer.forwards,
                }
            )
        return {
            **self._head(call, "chat.completion"),
            "choices": choices,
            "usage": _usage(call, answers),
        }

    def _logprobs(self, call: _Call, answer: Decoded) -> dict[str, Any] | None:
        if call.sampling.top_logprobs is None:
            return None
        content = []
        for token, logprob in zip(answer.tokens, answer.log_probs, strict=True):
            text = self._student.chat.decode([token])
            content.append(
                {
                    "token": text,
                    "logprob": logprob,
                    "bytes": list(text.encode()),
                    "top_logprobs": [],
                }
            )
        return {"content": content}

    async def _stream(self, asked: Request, call: _Call, started_s: float) -> Response:
        """Events as spans are written; what fails before the first is an ordinary error."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        texts = [AnswerText(self._student.chat, call.sampling.stop) for _ in range(call.sampling.n)]

        def tell(index: int, tokens: Sequence[int]) -> bool:
            piece = texts[index].grown(tokens)
            if piece:
                loop.call_soon_threadsafe(pieces.put_nowait, (index, piece))
            return not texts[index].stopped

        rows = self._rows(call, tell)
        writing = asyncio.ensure_future(self._batcher.write(rows))
        writing.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            first: tuple[int, str] | None = await self._unless_gone(asked, pieces.get())
        except ClientDisconnect:
            writing.cancel()
            raise
        if first is None and writing.exception() is not None:
            return self._failed(_expected(writing.exception()))

        async def events() -> AsyncGenerator[bytes]:
            head = self._head(call, "chat.completion.chunk")
            ended = False
            try:
                for index in range(call.sampling.n):
                    yield _event(head, index, {"role": "assistant", "content": ""})
                piece = first
                while piece is not None:
                    yield _event(head, piece[0], {"content": piece[1]})
                    piece = await pieces.get()
                failure = writing.exception()
                if failure is not None:
                    ended, error = True, _expected(failure)
                    self._meters.failed(_failure(error).status)
                    yield _line(chat_error(_failure(error)))
                    return
                answers = writing.result()
                for index, answer in enumerate(answers):
                    rest = texts[index].rest(answer.tokens)
                    if rest:
                        yield _event(head, index, {"content": rest})
                    reason = "stop" if texts[index].stopped else answer.finish_reason
                    yield _event(head, index, {}, reason)
                if call.includes_usage:
                    yield _line({**head, "choices": [], "usage": _usage(call, answers)})
                yield b"data: [DONE]\n\n"
                self._meters.answered(len(call.prompt), answers, self._clock() - started_s)
                ended = True
            finally:
                for row in rows:
                    row.unwanted.set()
                if not ended:
                    self._meters.failed(499)

        return StreamingResponse(events(), media_type="text/event-stream")

    def _head(self, call: _Call, kind: str) -> dict[str, Any]:
        return {"id": call.id, "object": kind, "created": call.created_s, "model": self._name}

    def _failed(self, error: TutelageError) -> Response:
        failure = _failure(error)
        self._meters.failed(failure.status)
        return _json(chat_error(failure), failure.status)


class _UnknownModel(BadRequest):
    """The model that was asked for is another."""


def _goes_on(text: AnswerText, tokens: Sequence[int]) -> bool:
    text.final(tokens)
    return not text.stopped


def _expected(error: BaseException | None) -> TutelageError:
    if isinstance(error, TutelageError):
        return error
    return BadResponse(f"the student failed: {type(error).__name__}")


def _failure(error: TutelageError) -> Failure:
    if isinstance(error, _UnknownModel):
        return Failure(404, "not_found", str(error), code="model_not_found", param=error.param)
    if isinstance(error, BadRequest) and error.code == "request_too_large":
        return Failure(413, "too_large", str(error))
    if isinstance(error, BadRequest):
        return Failure(400, "invalid_request", str(error), code=error.code, param=error.param)
    if isinstance(error, ContextTooLong):
        return Failure(400, "invalid_request", str(error), code="context_length_exceeded")
    if isinstance(error, Refused):
        return Failure(400, "invalid_request", str(error))
    if isinstance(error, Full):
        return Failure(503, "overloaded", str(error), retry_after_s=1.0)
    return Failure(500, "internal", str(error))


async def _body(request: Request) -> object:
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > LARGEST_BODY:
            raise BadRequest(
                f"the body is larger than {LARGEST_BODY} bytes", code="request_too_large"
            )
    try:
        body: object = orjson.loads(bytes(received))
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    return body


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _of_route(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind: Any = "not_found" if status == 404 else "invalid_request"
    message = "there is no such route here: POST /v1/chat/completions"
    return _json(chat_error(Failure(status, kind, message)), status)


def _usage(call: _Call, answers: Sequence[Decoded]) -> dict[str, int]:
    written = sum(len(answer.tokens) for answer in answers)
    return {
        "prompt_tokens": len(call.prompt),
        "completion_tokens": written,
        "total_tokens": len(call.prompt) + written,
        "forwards": sum(answer.forwards for answer in answers),
    }


def _event(
    head: Mapping[str, Any], index: int, delta: Mapping[str, Any], reason: str | None = None
) -> bytes:
    return _line({**head, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})


def _line(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON)
