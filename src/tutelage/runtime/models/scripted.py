"""The shipped fake model: it says what a script says."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any

from tutelage.runtime.errors import BadResponse, ConfigError
from tutelage.runtime.prefix_cache import CHARACTERS_A_TOKEN, characters, estimate_tokens
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage

Line = str | Message | Choice | Exception
"""One answer; an exception is raised in its place."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A stream that breaks.

    Args:
        error: What is raised.
        after_chunks: Chunks that are still yielded.
    """

    error: Exception
    after_chunks: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a scripted model got."""

    request: ChatRequest
    n: int
    streamed: bool


@dataclass(slots=True)
class ScriptedModel:
    """A model whose answers are given beforehand, for tests and demonstrations without a server.

    Args:
        answers: A text that is said for ever; or an iterable with one entry a call, where a
            sequence of lines gives the samples of that call one by one and starts again if more are
            asked for; or a function of the request, called once a sample.
        usage: Tokens of a call: fixed, or from the request and its choices. Absent: characters / 4,
            the prompt counted once a call.
        latency_s: Seconds a call takes before its first chunk.
        failures: Errors by number of the call, 0 for the first; such a call uses up no answer.
        sleep: How to wait.
    """

    answers: str | Iterable[Line | Sequence[Line]] | Callable[[ChatRequest], Line]
    usage: Usage | Callable[[ChatRequest, Sequence[Choice]], Usage] | None = None
    latency_s: float = 0.0
    failures: Mapping[int, Exception | Breakdown] = field(default_factory=dict)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    calls: list[Call] = field(default_factory=list, init=False)
    """All calls so far, failed ones included."""
    _script: Iterator[Line | Sequence[Line]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.answers, str) and not callable(self.answers):
            self._script = iter(self.answers)

    @property
    def requests(self) -> list[ChatRequest]:
        """The requests of all calls so far."""
        return [call.request for call in self.calls]

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """The next ``n`` answers of the script as one completion.

        Raises:
            Exception: Whatever the script or ``failures`` holds for this call.
            BadResponse: The script is at its end.
            ConfigError: ``n`` is below 1, or the script holds an empty sequence.
        """
        failure = self._start(request, n, streamed=False)
        await self._wait()
        if failure is not None:
            raise failure.error if isinstance(failure, Breakdown) else failure
        return self._completion(request, n)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The next answer in several chunks: role, words, tool calls, finish, usage if asked for.

        Raises:
            Exception: Whatever the script or ``failures`` holds for this call.
            BadResponse: The script is at its end.
        """
        n = request.n or 1
        failure = self._start(request, n, streamed=True)
        await self._wait()
        if isinstance(failure, Exception):
            raise failure
        chunks = _chunks(self._completion(request, n), _wants_usage(request))
        for sent, chunk in enumerate(chunks):
            if failure is not None and sent >= failure.after_chunks:
                raise failure.error
            yield chunk
        if failure is not None:
            raise failure.error

    def _start(
        self, request: ChatRequest, n: int, *, streamed: bool
    ) -> Exception | Breakdown | None:
        if n < 1:
            raise ConfigError(f"n = {n}: ask for at least 1 sample")
        self.calls.append(Call(request, n, streamed))
        return self.failures.get(len(self.calls) - 1)

    async def _wait(self) -> None:
        if self.latency_s > 0:
            await self.sleep(self.latency_s)

    def _completion(self, request: ChatRequest, n: int) -> Completion:
        number = len(self.calls)
        choices = [_choice(line, index) for index, line in enumerate(self._lines(request, n))]
        if isinstance(self.usage, Usage):
            usage = self.usage
        elif self.usage is not None:
            usage = self.usage(request, choices)
        else:
            usage = _estimated_usage(request, choices)
        return Completion(
            id=f"scripted-{number}", model=request.model, choices=choices, usage=usage
        )

    def _lines(self, request: ChatRequest, n: int) -> list[Line]:
        if callable(self.answers):
            return [self.answers(request) for _ in range(n)]
        if isinstance(self.answers, str):
            return [self.answers] * n
        assert self._script is not None
        try:
            entry = next(self._script)
        except StopIteration:
            raise BadResponse(
                f"the script has no answer left for call {len(self.calls)}: give it more answers"
            ) from None
        if isinstance(entry, str | Message | Choice | Exception):
            return [entry] * n
        if not entry:
            raise ConfigError(f"the script's entry for call {len(self.calls)} is empty")
        return [entry[index % len(entry)] for index in range(n)]


def _choice(line: Line, index: int) -> Choice:
    if isinstance(line, Exception):
        raise line
    if isinstance(line, Choice):
        return line.model_copy(update={"index": index})
    message = Message(role="assistant", content=line) if isinstance(line, str) else line
    reason = "tool_calls" if message.tool_calls else "stop"
    return Choice(index=index, message=message, finish_reason=reason)


def _estimated_usage(request: ChatRequest, choices: Sequence[Choice]) -> Usage:
    lengths = [characters(choice.message) for choice in choices]
    output = sum(-(-length // CHARACTERS_A_TOKEN) for length in lengths)
    return Usage(input_tokens=estimate_tokens(request), output_tokens=output)


def _wants_usage(request: ChatRequest) -> bool:
    options = (request.model_extra or {}).get("stream_options") or {}
    return bool(options.get("include_usage"))


def _chunks(completion: Completion, usage: bool) -> Iterator[dict[str, Any]]:
    """OpenAI ``chat.completion.chunk`` objects of all choices."""
    head = {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": completion.model,
    }
    for choice in completion.choices:
        for delta in _deltas(choice.message):
            piece = {"index": choice.index, "delta": delta, "finish_reason": None}
            yield {**head, "choices": [piece]}
        last = {"index": choice.index, "delta": {}, "finish_reason": choice.finish_reason}
        yield {**head, "choices": [last]}
    if usage:
        yield {**head, "choices": [], "usage": completion.usage.wire()}


def _deltas(message: Message) -> Iterator[dict[str, Any]]:
    yield {"role": message.role, "content": ""}
    for word in _pieces(message.text):
        yield {"content": word}
    for index, call in enumerate(message.tool_calls or ()):
        function = dict(call.get("function") or {})
        arguments = str(function.pop("arguments", ""))
        opening = {**call, "index": index, "function": {**function, "arguments": ""}}
        yield {"tool_calls": [opening]}
        for piece in _pieces(arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    """The text in words, each with the space before it."""
    start = 0
    for position in range(1, len(text)):
        if text[position] == " ":
            yield text[start:position]
            start = position
    if text:
        yield text[start:]
