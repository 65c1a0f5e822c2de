"""Streams as an ``openai`` client returns them, over the runtime's chunks."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Generator, Mapping
from types import TracebackType
from typing import Any, Self

from tutelage.runtime.errors import ModelError
from tutelage.runtime.types import ChatRequest


class _ChunkStream:
    """What both kinds of stream share; mixed in before the SDK's own class.

    Args:
        chunks: The runtime's chunks.
        first: The first of them, already taken; ``None`` if there is none.
        request: The request that they answer.
    """

    def __init__(self, chunks: Any, first: dict[str, Any] | None, request: ChatRequest) -> None:
        options = (request.model_extra or {}).get("stream_options") or {}
        self._chunks = chunks
        self._first = first
        self._wants_usage = bool(options.get("include_usage"))
        self.headers: dict[str, str] = {}

    @property
    def response(self) -> Self:
        """Where the SDK's stream has its HTTP response: what is closed to end the call."""
        return self

    def _is_wanted(self, chunk: Mapping[str, Any]) -> bool:
        """Whether the caller expects this chunk; one with only the usage has to be asked for."""
        return bool(chunk.get("choices")) or self._wants_usage or not chunk.get("usage")

    def _take_first(self) -> dict[str, Any] | None:
        first, self._first = self._first, None
        return first


class _SyncChunkStream(_ChunkStream):
    _chunks: Generator[dict[str, Any], None, None]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                first = self._take_first()
                chunk = next(self._chunks) if first is None else first
            except ModelError as error:
                failure = own_error(error)
            else:
                if self._is_wanted(chunk):
                    return _chunk(chunk)
                continue
            raise failure

    def close(self) -> None:
        """Ends the call, if it is not at its end already."""
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _AsyncChunkStream(_ChunkStream):
    _chunks: AsyncGenerator[dict[str, Any], None]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                first = self._take_first()
                chunk = await anext(self._chunks) if first is None else first
            except ModelError as error:
                failure = own_error(error)
            else:
                if self._is_wanted(chunk):
                    return _chunk(chunk)
                continue
            raise failure

    async def close(self) -> None:
        """Ends the call, if it is not at its end already."""
        await self._chunks.aclose()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def sync_stream(
    chunks: Generator[dict[str, Any], None, None],
    first: dict[str, Any] | None,
    request: ChatRequest,
) -> Any:
    """An ``openai.Stream`` of ``ChatCompletionChunk`` objects."""
    return _classes()[0](chunks, first, request)


def async_stream(
    chunks: AsyncGenerator[dict[str, Any], None],
    first: dict[str, Any] | None,
    request: ChatRequest,
) -> Any:
    """An ``openai.AsyncStream`` of ``ChatCompletionChunk`` objects."""
    return _classes()[1](chunks, first, request)


def own_error(error: ModelError) -> BaseException:
    """What the teacher's client itself raised, where it did."""
    import openai

    cause = error.__cause__
    return cause if isinstance(cause, openai.OpenAIError) else error


@functools.cache
def _classes() -> tuple[type, type]:
    import openai

    return (
        type("Stream", (_SyncChunkStream, openai.Stream), {}),
        type("AsyncStream", (_AsyncChunkStream, openai.AsyncStream), {}),
    )


def _chunk(chunk: Mapping[str, Any]) -> Any:
    from openai.types.chat import ChatCompletionChunk

    return ChatCompletionChunk.construct(**chunk)
