"""The library entry: an ``openai`` client whose chat completions go through the runtime."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from tutelage.runtime.client_stream import async_stream, own_error, sync_stream
from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import BadRequest, ConfigError, ModelError
from tutelage.runtime.models.sdk import Caller, ClientModel, calling, is_async_client
from tutelage.runtime.sync import Serving, SyncEpisode, SyncRuntime
from tutelage.runtime.types import Answer, ChatRequest

__all__ = ["ClientModel", "wrap_client"]

Client = TypeVar("Client")

_PATH = "/chat/completions"
_RAW_HEADER = "X-Stainless-Raw-Response"

# The open episodes of this thread or task, by the runtime they belong to.
_episodes: ContextVar[Mapping[int, Any] | None] = ContextVar("tutelage_episodes", default=None)


def wrap_client(client: Client, runtime: Serving) -> Client:
    """A client that is used as the given one, whose chat completions the runtime serves.

    The result is of the same class, shares the connections, and passes everything on but
    ``chat.completions.create`` and what builds on it: ``parse``, ``stream``, ``with_raw_response``.
    Answers are ``ChatCompletion`` objects that echo the model asked for; their extra field
    ``tutelage`` tells ``served``, ``reason`` and ``trace_id``. Exceptions of the teacher's client
    reach the caller unchanged. ``with_streaming_response`` bypasses the runtime.

    Beside the client's own attributes it has ``tutelage``, the runtime (in its blocking form for a
    blocking client), and ``episode(goal=…, tenant=…)``, a context manager: calls within belong to
    that episode. ``close()`` closes the runtime, then the client.

    Args:
        client: An ``openai.OpenAI`` or ``openai.AsyncOpenAI``.
        runtime: Usually with ``ClientModel(client)`` as its teacher.

    Raises:
        MissingExtra: The package ``openai`` is not installed.
        ConfigError: ``client`` is something else, or wrapped already.
    """
    is_async = is_async_client(client)
    if isinstance(client, _Tutored):
        raise ConfigError("client is wrapped already: wrap the original once")
    served = runtime if is_async else SyncRuntime(runtime)
    wrapped: Client = _wrapped(client, _Wrapping(client, client, served))
    return wrapped


@dataclass(frozen=True, slots=True)
class _Wrapping:
    """What a wrapped client adds to a plain one."""

    origin: Any
    """The client that was wrapped first."""
    plain: Any
    """The client whose copy this is: the origin, or what ``with_options`` made of it."""
    runtime: Any


class _Tutored:
    """What both kinds of wrapped clients share; mixed in before the client's own class."""

    _tutelage: _Wrapping

    @property
    def tutelage(self) -> Any:
        """The runtime."""
        return self._tutelage.runtime

    def copy(self, **options: Any) -> Any:
        """A wrapped client with other options."""
        wrapping = self._tutelage
        plain = wrapping.plain.copy(**options)
        return _wrapped(plain, _Wrapping(wrapping.origin, plain, wrapping.runtime))

    with_options = copy

    def __setattr__(self, name: str, value: Any) -> None:
        # Teacher calls are made by the plain client, so it has to know, say, a new api_key.
        setattr(self._tutelage.plain, name, value)
        super().__setattr__(name, value)

    def _calling(self, options: Mapping[str, Any]) -> AbstractContextManager[None]:
        wrapping = self._tutelage
        names = {"headers": "extra_headers", "params": "extra_query", "timeout": "timeout"}
        given = {names[name]: value for name, value in options.items() if name in names}
        headers = given.get("extra_headers") or {}
        if _RAW_HEADER in headers:
            # It asks for the form of the answer, which is given here and not by the teacher.
            given["extra_headers"] = {k: v for k, v in headers.items() if k != _RAW_HEADER}
        return calling(Caller(wrapping.origin, wrapping.plain, given))

    def _open_episode(self) -> Any:
        return (_episodes.get() or {}).get(id(self._tutelage.runtime))


class _SyncTutored(_Tutored):
    """A wrapped ``openai.OpenAI``."""

    def post(self, path: str, *, cast_to: Any, **arguments: Any) -> Any:
        if not _is_ours(path, cast_to, arguments):
            return super().post(path, cast_to=cast_to, **arguments)  # type: ignore[misc]
        options = arguments.get("options") or {}
        request = _request(arguments.get("body"), options)
        try:
            with self._calling(options):
                if arguments.get("stream"):
                    chunks = self.tutelage.stream(request, episode=self._open_episode())
                    # Failures show here, as they do with the client itself, not at the first chunk.
                    first = next(chunks, None)
                    return _returned(sync_stream(chunks, first, request), options)
                answer = self.tutelage.complete(request, episode=self._open_episode())
        except ModelError as error:
            failure = own_error(error)
        else:
            return _returned(_completion(answer, request, options), options)
        raise failure

    @contextmanager
    def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> Iterator[SyncEpisode]:
        """An episode; calls of this client within the ``with`` block belong to it."""
        opened = self.tutelage.episode(goal=goal, tenant=tenant, task_id=task_id, id=id)
        with opened as episode, _inside(self.tutelage, episode):
            yield episode

    def close(self) -> None:
        self.tutelage.close()
        super().close()  # type: ignore[misc]


class _AsyncTutored(_Tutored):
    """A wrapped ``openai.AsyncOpenAI``."""

    async def post(self, path: str, *, cast_to: Any, **arguments: Any) -> Any:
        if not _is_ours(path, cast_to, arguments):
            return await super().post(path, cast_to=cast_to, **arguments)  # type: ignore[misc]
        options = arguments.get("options") or {}
        request = _request(arguments.get("body"), options)
        try:
            with self._calling(options):
                if arguments.get("stream"):
                    chunks = self.tutelage.stream(request, episode=self._open_episode())
                    first = await anext(chunks, None)
                    return _returned(async_stream(chunks, first, request), options)
                answer = await self.tutelage.complete(request, episode=self._open_episode())
        except ModelError as error:
            failure = own_error(error)
        else:
            return _returned(_completion(answer, request, options), options)
        raise failure

    @asynccontextmanager
    async def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> AsyncIterator[Episode]:
        """An episode; calls of this client within the ``async with`` block belong to it."""
        opened = self.tutelage.episode(goal=goal, tenant=tenant, task_id=task_id, id=id)
        async with opened as episode:
            with _inside(self.tutelage, episode):
                yield episode

    async def close(self) -> None:
        await self.tutelage.aclose()
        await super().close()  # type: ignore[misc]


class RawAnswer:
    """What ``with_raw_response`` returns: the answer behind ``parse()``, and headers.

    Args:
        answer: A ``ChatCompletion`` or a stream.
    """

    status_code = 200

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        told = (getattr(answer, "model_extra", None) or {}).get("tutelage") or {}
        self.headers = {f"x-tutelage-{name.replace('_', '-')}": told[name] for name in told}

    def parse(self) -> Any:
        """The answer itself."""
        return self._answer


def _wrapped(plain: Any, wrapping: _Wrapping) -> Any:
    """A copy of the client, of a class that adds ours to its own."""
    kind: Any = type(plain)
    wrapped: Any = object.__new__(_class_of(kind, is_async_client(plain)))
    own = {
        name: value
        for name, value in vars(plain).items()
        # Resources that were looked up before hold on to the plain client.
        if not isinstance(getattr(type(plain), name, None), functools.cached_property)
    }
    vars(wrapped).update(own, _tutelage=wrapping)
    return wrapped


@functools.cache
def _class_of(kind: type, is_async: bool) -> type:
    mixin = _AsyncTutored if is_async else _SyncTutored
    return type(kind.__name__, (mixin, kind), {"__doc__": kind.__doc__, "__module__": __name__})


def _is_ours(path: str, cast_to: Any, arguments: Mapping[str, Any]) -> bool:
    from openai.types.chat import ChatCompletion

    raw = ((arguments.get("options") or {}).get("headers") or {}).get(_RAW_HEADER)
    return path == _PATH and cast_to is ChatCompletion and raw in (None, "true")


def _request(body: Any, options: Mapping[str, Any]) -> ChatRequest:
    try:
        return ChatRequest.model_validate({**body, **(options.get("extra_json") or {})})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRequest(f"the chat request is not valid at {place}: {first['msg']}") from error


def _completion(answer: Answer, request: ChatRequest, options: Mapping[str, Any]) -> Any:
    from openai.types.chat import ChatCompletion

    told = {
        "served": answer.decision.served,
        "reason": answer.decision.reason.value,
        "trace_id": answer.trace_id,
    }
    body = {**answer.completion.wire(), "model": request.model, "tutelage": told}
    completion = ChatCompletion.construct(**body)
    parser = options.get("post_parser")
    return parser(completion) if parser else completion


def _returned(answer: Any, options: Mapping[str, Any]) -> Any:
    return RawAnswer(answer) if _RAW_HEADER in (options.get("headers") or {}) else answer


@contextmanager
def _inside(runtime: Any, episode: Any) -> Iterator[None]:
    token = _episodes.set({**(_episodes.get() or {}), id(runtime): episode})
    try:
        yield
    finally:
        _episodes.reset(token)
