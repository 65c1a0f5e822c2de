"""A model that is asked through a user's own ``openai`` client object."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    MissingExtra,
    ModelError,
    ModelTimeout,
)
from tutelage.runtime.models.answers import completion_from
from tutelage.runtime.models.failures import error_for, error_object
from tutelage.runtime.models.retries import retry_after_s
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Completion


@dataclass(frozen=True, slots=True)
class Caller:
    """The client that a call came in by, and the options of that call."""

    origin: Any
    """The client that was wrapped first; only a model that asks this one is concerned."""
    client: Any
    """The client to ask instead: ``origin``, or what ``with_options`` made of it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``create`` that are not part of the body: headers, query, timeout."""


_caller: ContextVar[Caller | None] = ContextVar("tutelage_caller", default=None)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Makes the models asked within use the caller's client and options."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class ClientModel:
    """A chat model asked through ``openai.OpenAI`` or ``openai.AsyncOpenAI``.

    Timeouts and retries are those of the client. A blocking client works in a thread; cancelling
    such a call gives up waiting, while its HTTP request runs to its own end.

    Args:
        client: The user's client; it stays theirs and is not closed here.
        model: The endpoint's own name of the model; absent: the name in the request.
        threads: Calls a blocking client makes at once.
        wall_clock: Unix time, seconds; read only for a ``Retry-After`` date.

    Raises:
        MissingExtra: The package ``openai`` is not installed.
        ConfigError: ``client`` is something else.
    """

    def __init__(
        self,
        client: Any,
        model: str | None = None,
        *,
        threads: int = 64,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._is_async = is_async_client(client)
        self._client = client
        self._model = model
        self._wall_clock = wall_clock
        self._parameters = _create_parameters()
        # Not the loop's own executor, whose few threads other work needs as well.
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tutelage-client")

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices for one prompt in one call.

        Raises:
            ModelError: The call failed; what the client raised is its ``__cause__``.
        """
        fields: dict[str, Any] = {"n": n} if n > 1 else {}
        arguments = self._arguments(request, stream=None, stream_options=None, **fields)
        with self._translated():
            create = self._create()
            if self._is_async:
                answer = await create(**arguments)
            else:
                answer = await self._in_thread(create, **arguments)
        return completion_from(self._plain(answer), self._name, str(arguments["model"]))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of a streamed answer; the last one carries the usage unless refused.

        Raises:
            ModelError: The call failed, or its stream broke off.
        """
        asked = request.model_extra or {}
        options = {"include_usage": True, **(asked.get("stream_options") or {})}
        arguments = self._arguments(request, stream=True, stream_options=options)
        finished = False
        chunks = self._chunks(arguments)
        try:
            async for chunk in chunks:
                finished = finished or any(
                    choice.get("finish_reason") for choice in chunk.get("choices") or ()
                )
                yield chunk
        finally:
            await chunks.aclose()
        if not finished:
            raise BadResponse(f"{self._name} ended its stream before the answer was complete")

    async def aclose(self) -> None:
        """Lets the threads end; the client itself stays open."""
        self._threads.shutdown(wait=False)

    def __repr__(self) -> str:
        return f"ClientModel({type(self._client).__name__}, {self._name!r})"

    async def _chunks(self, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        with self._translated():
            create = self._create()
            if self._is_async:
                stream = await create(**arguments)
            else:
                stream = await self._in_thread(create, **arguments)
        try:
            iterator = aiter(stream) if self._is_async else iter(stream)
            while True:
                with self._translated():
                    if self._is_async:
                        chunk = await anext(iterator, None)
                    else:
                        chunk = await self._in_thread(next, iterator, None)
                if chunk is None:
                    return
                yield self._plain(chunk)
        finally:
            if self._is_async:
                await stream.close()
            else:
                await self._in_thread(stream.close)

    async def _in_thread(self, function: Callable[..., Any], *values: Any, **named: Any) -> Any:
        call = functools.partial(copy_context().run, function, *values, **named)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _plain(self, answer: Any) -> dict[str, Any]:
        """An object of the SDK as it stood on the wire."""
        # The SDK hands through what is no JSON object, e.g. the text of an HTML page.
        if not hasattr(answer, "to_dict"):
            raise BadResponse(f"{self._name} sent something other than a JSON object", status=200)
        plain: dict[str, Any] = answer.to_dict(mode="json", warnings=False)
        return plain

    def _redacted(self, body: object) -> object:
        """An error body without the client's key, which some endpoints echo."""
        key = getattr(self._client, "api_key", None)
        if not isinstance(body, dict) or not isinstance(key, str) or not key.strip():
            return body
        return json.loads(Secret(key).redact(json.dumps(body, default=str)))

    @property
    def _name(self) -> str:
        return str(self._client.base_url).rstrip("/")

    def _create(self) -> Any:
        caller = self._concerned()
        return (caller.client if caller else self._client).chat.completions.create

    def _concerned(self) -> Caller | None:
        """The caller, if it came in by this very client."""
        caller = _caller.get()
        return caller if caller is not None and caller.origin is self._client else None

    def _arguments(self, request: ChatRequest, **fields: Any) -> dict[str, Any]:
        """Arguments of ``create``; what it has no parameter for goes into ``extra_body``."""
        body = request.wire(model=self._model or request.model, **fields)
        known = {name: value for name, value in body.items() if name in self._parameters}
        unknown = {name: value for name, value in body.items() if name not in self._parameters}
        caller = self._concerned()
        options = dict(caller.options) if caller else {}
        return {**known, **options, **({"extra_body": unknown} if unknown else {})}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import openai

        try:
            yield
        except openai.APITimeoutError as error:
            raise ModelTimeout(
                f"{self._name} passed the timeout of the client: raise its `timeout`, "
                "or check that the endpoint is alive"
            ) from error
        except openai.APIConnectionError as error:
            raise ModelError(
                f"cannot connect to {self._name} ({error.__cause__ or error}): "
                "start the endpoint, or correct the client's base_url"
            ) from error
        except openai.APIStatusError as error:
            raise error_for(
                self._name,
                error.status_code,
                self._redacted(error.body),
                retry_after_s=retry_after_s(error.response.headers, self._wall_clock()),
            ) from error
        except openai.APIError as error:
            raise BadResponse(
                f"{self._name} failed: {error.message}",
                body=error_object(self._redacted(error.body)),
            ) from error
        except openai.OpenAIError as error:
            raise ModelError(f"{self._name} cannot be asked: {error}") from error
        except json.JSONDecodeError as error:
            raise BadResponse(f"{self._name} sent something other than JSON: {error}") from error


def is_async_client(client: Any) -> bool:
    """Whether an ``openai`` client is the asynchronous one.

    Raises:
        MissingExtra: The package ``openai`` is not installed.
        ConfigError: ``client`` is no such client.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtra("openai", "client") from error
    if isinstance(client, openai.AsyncOpenAI):
        return True
    if isinstance(client, openai.OpenAI):
        return False
    raise ConfigError(
        f"client is a {type(client).__name__}: give an openai.OpenAI or openai.AsyncOpenAI object"
    )


def _create_parameters() -> frozenset[str]:
    """Names of the body fields that ``create`` of the installed SDK takes as arguments."""
    from openai.resources.chat.completions import Completions

    return frozenset(inspect.signature(Completions.create).parameters) - {"self"}
