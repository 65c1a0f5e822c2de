"""A model of any provider that litellm knows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Any

import orjson

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    ContextTooLong,
    MissingExtra,
    ModelError,
    ModelTimeout,
)
from tutelage.runtime.models.answers import completion_from
from tutelage.runtime.models.attempts import attempted
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Deadlines, Timeouts
from tutelage.runtime.models.failures import error_for
from tutelage.runtime.models.fields import PUBLIC_FIELDS, only_public
from tutelage.runtime.models.retries import Retries, retry_after_s
from tutelage.runtime.models.sampling import in_batches
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.native import plain

# litellm takes its own options and those of a provider from the same arguments, so only fields of
# the public API are passed on, and of those not the one that litellm keeps its notes in.
_FIELDS = PUBLIC_FIELDS - {"metadata"}
# Read when litellm is imported: no price list or header list is fetched, no ``.env`` is loaded.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
}


class LitellmModel:
    """A chat model of a provider without an OpenAI-compatible endpoint, asked by litellm.

    Args:
        provider: litellm's name of the provider, such as ``bedrock`` or ``vertex_ai``.
        model: The provider's own name of the model; takes the place of the alias in a request.
        api_key: Never shown in an error or a log; absent: litellm reads the environment.
        base_url: The provider's address, where it is not the usual one.
        timeouts: Deadlines of a call; ``connect_s`` is litellm's own.
        retries: How often and when a failed call is made again.
        breaker: Leaves the provider alone when it keeps failing; absent: it is always asked.
        options: More arguments of ``litellm.acompletion``, such as ``aws_region_name``.
        clock: A monotonic clock, seconds.
        wall_clock: Unix time, seconds; read only for a ``Retry-After`` date.
        sleep: Waits between attempts.
        random: Source of the jitter.

    Raises:
        MissingExtra: litellm is not installed.
        ConfigError: litellm does not know the provider, or ``model`` is empty.
    """

    def __init__(
        self,
        provider: str,
        model: str,
        api_key: Secret | None = None,
        *,
        base_url: str | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        retries: Retries = Retries(),  # noqa: B008 - frozen
        breaker: Breaker | None = None,
        options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random | None = None,
    ) -> None:
        self._litellm = _imported()
        known = {str(getattr(each, "value", each)) for each in self._litellm.provider_list}
        if provider not in known:
            raise ConfigError(f"provider = {provider!r}: give one of litellm's provider names")
        self.provider = provider
        self.model = model.strip()
        if not self.model:
            raise ConfigError("model = '': give the provider's own name of the model")
        self.breaker = breaker
        self._api_key = api_key
        self._options = {
            "custom_llm_provider": provider,
            "base_url": base_url,
            "num_retries": 0,
            "max_retries": 0,
            **(options or {}),
        }
        self._timeouts = timeouts
        self._retries = retries
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._random = random or Random()
        takes = self._litellm.get_supported_openai_params(self.model, provider) or []
        self._max_n = None if "n" in takes else 1

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices for one prompt, by several calls where the provider has no ``n``.

        Raises:
            ModelError: The provider failed; what litellm raised is its ``__cause__``.
        """
        wanted = n if n > 1 else request.n or 1
        if self._max_n is not None and wanted > self._max_n:
            return await in_batches(self._sample, request, wanted, self._max_n)
        return await self._sample(request, wanted if wanted > 1 else None)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of a streamed answer; the last one carries the usage.

        Raises:
            ModelError: The provider failed, or its stream broke off.
        """
        deadlines = self._deadlines()
        options = {"include_usage": True}
        opened = await self._call(request, deadlines, stream=True, stream_options=options)
        chunks = aiter(opened)
        finished = False
        try:
            while True:
                with deadlines.idle(), self._translated():
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                plain = _plain(chunk)
                if plain.get("usage") and not any(map(_says_something, plain.get("choices") or ())):
                    # The wire's own last chunk has no choice; clients look for the usage there.
                    plain["choices"] = []
                for choice in plain.get("choices") or ():
                    finished |= bool(choice.setdefault("finish_reason", None))
                yield plain
        finally:
            await opened.aclose()
        if not finished:
            raise BadResponse(f"{self._name} ended its stream before the answer was complete")

    def __repr__(self) -> str:
        return f"LitellmModel({self.provider!r}, {self.model!r})"

    @property
    def _name(self) -> str:
        return f"litellm {self.provider}/{self.model}"

    async def _sample(self, request: ChatRequest, n: int | None) -> Completion:
        answer = await self._call(request, self._deadlines(), n=n)
        return completion_from(_plain(answer), self._name, self.model)

    def _deadlines(self) -> Deadlines:
        return Deadlines(self._name, self._timeouts, self._clock)

    async def _call(self, request: ChatRequest, deadlines: Deadlines, **fields: Any) -> Any:
        body = only_public(plain(request).wire(stream=None, stream_options=None, n=None), _FIELDS)
        secret = {"api_key": self._api_key.reveal()} if self._api_key else {}
        arguments = {**body, **fields, **self._options, **secret, "model": self.model}

        async def once() -> Any:
            with deadlines.first_byte(), self._translated():
                return await self._litellm.acompletion(**arguments)

        return await attempted(
            once,
            retries=self._retries,
            deadlines=deadlines,
            random=self._random,
            sleep=self._sleep,
            breaker=self.breaker,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the tree for those of litellm, whose classes are children of ``openai``'s."""
        import openai

        try:
            yield
        except openai.APITimeoutError as error:
            raise ModelTimeout(
                f"{self._name} passed the timeout of litellm: check that the provider is alive"
            ) from error
        except self._litellm.ContextWindowExceededError as error:
            body: dict[str, object] = {"message": self._told(error)}
            raise ContextTooLong(
                f"{self._name}: {self._told(error)}", status=400, body=body
            ) from error
        except openai.OpenAIError as error:
            raise self._failure(error) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # The code of a provider stumbled over its answer.
            told: dict[str, object] = {"message": self._told(error)}
            raise BadResponse(
                f"{self._name} failed ({type(error).__name__}): {told['message']}", body=told
            ) from error

    def _failure(self, error: Exception) -> ModelError:
        status = getattr(error, "status_code", None)
        told = self._told(error)
        if not isinstance(status, int):
            return BadResponse(f"{self._name} failed: {told}", body={"message": told})
        sent = getattr(error, "body", None)
        told_by = sent if isinstance(sent, dict) and sent.get("message") else {"message": told}
        headers = getattr(error, "litellm_response_headers", None) or {}
        asked_s = retry_after_s(headers, self._wall_clock())
        failure = error_for(
            self._name, status, {"error": self._masked(told_by)}, retry_after_s=asked_s
        )
        failure.headers = headers
        return failure

    def _masked(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._api_key is None:
            return body
        text = orjson.dumps(body, default=str).decode()
        masked: dict[str, Any] = orjson.loads(self._api_key.redact(text))
        return masked

    def _told(self, error: Exception) -> str:
        text = str(getattr(error, "message", None) or error).rpartition("Exception - ")[2]
        return self._api_key.redact(text) if self._api_key else text


def _says_something(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("finish_reason"))


def _plain(answer: Any) -> dict[str, Any]:
    """An object of litellm as OpenAI writes it."""
    plain: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True, warnings=False)
    return plain


def _imported() -> ModuleType:
    """litellm, kept from the network and from writing on the terminal.

    Raises:
        MissingExtra: It is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import litellm
    except ImportError as error:
        raise MissingExtra("litellm", "providers") from error
    litellm.suppress_debug_info = True
    return litellm
