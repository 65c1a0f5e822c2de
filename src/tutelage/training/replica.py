"""One vLLM server of the student: what it serves, and how it is told to serve something else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import orjson

from tutelage.runtime.errors import BadResponse, ModelError, Refused, TrainingError
from tutelage.runtime.models.deadlines import Timeouts
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.transport import Transport
from tutelage.runtime.release import Probe
from tutelage.runtime.secret import Secret

_ONCE = Retries(attempts=1)


class Replica:
    """A vLLM server by its address.

    Args:
        base_url: Its OpenAI-compatible root, ending in ``/v1``.
        secret: Its key, if it has one.
        timeouts: Deadlines of a call; a load may take long.
    """

    def __init__(
        self,
        base_url: str,
        *,
        secret: Secret | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        self.base_url = base_url.rstrip("/")
        # Sleeping and waking have addresses beside ``/v1``.
        root = self.base_url.removesuffix("/v1")
        self._transport = Transport(root, secret=secret, timeouts=timeouts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"Replica({self.base_url!r})"

    async def models(self) -> frozenset[str]:
        """Names of what it serves.

        Raises:
            ModelError: It does not answer.
        """
        answer = await self._json("GET", "/v1/models")
        return frozenset(str(one.get("id")) for one in answer.get("data") or ())

    async def load_adapter(self, name: str, folder: str) -> None:
        """Has it serve a LoRA adapter; one that it serves already is left as it is.

        Args:
            name: Immutable: what it once served under this name is never replaced.
            folder: Of the adapter, as the server sees it.

        Raises:
            TrainingError: It does not load adapters.
            ModelError: It does not answer, or the adapter is not usable.
        """
        if name in await self.models():
            return
        body = {"lora_name": name, "lora_path": folder}
        try:
            await self._call("POST", "/v1/load_lora_adapter", body)
        except Refused as error:
            if error.status == 404:
                raise TrainingError(
                    f"{self.base_url} loads no adapters: start it with --enable-lora and "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
                ) from error
            # Somebody else may have loaded it meanwhile.
            if name not in await self.models():
                raise

    async def unload_adapter(self, name: str) -> None:
        """Takes an adapter away; nothing happens where it is not served.

        Raises:
            ModelError: It does not answer.
        """
        if name in await self.models():
            await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def logprob(self, name: str, probe: Probe) -> float:
        """Log-probability of the probe's continuation by what is served under a name, in nats.

        Raises:
            ModelError: It does not answer, or tells no log-probabilities of a prompt.
        """
        tokens = [*probe.prompt, *probe.continuation]
        body = {"model": name, "prompt": tokens, "max_tokens": 1, "temperature": 0.0}
        answer = await self._json("POST", "/v1/completions", {**body, "prompt_logprobs": 1})
        try:
            told = answer["choices"][0]["prompt_logprobs"]
            pairs = zip(told[len(probe.prompt) :], probe.continuation, strict=True)
            return sum(float(one[str(token)]["logprob"]) for one, token in pairs)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise BadResponse(
                f"{self.base_url} tells no log-probabilities of a prompt: is it vLLM?"
            ) from error

    async def sleep(self) -> bool:
        """Gives its GPU memory free for others; ``False`` where it cannot."""
        return await self._if_offered("/sleep?level=1")

    async def wake(self) -> bool:
        """Takes its GPU memory again; ``False`` where it cannot."""
        return await self._if_offered("/wake_up")

    async def _if_offered(self, path: str) -> bool:
        try:
            await self._call("POST", path)
        except Refused as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        content = await self._call(method, path, body)
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise BadResponse(f"{self.base_url}{path} sent something other than JSON") from error
        if not isinstance(answer, dict):
            raise BadResponse(f"{self.base_url}{path} sent something other than a JSON object")
        return answer

    async def _call(self, method: str, path: str, body: Any = None) -> bytes:
        sent = b"" if body is None else orjson.dumps(body)
        reply = await self._transport.open(path, sent, method=method, retries=_ONCE)
        return await reply.read()


async def answers_on_all(
    replicas: Sequence[Replica],
    name: str,
    *,
    wait_s: float,
    poll_s: float = 0.5,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    timer: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until every replica lists a model.

    Raises:
        TrainingError: One did not in time.
    """
    deadline_s = timer() + wait_s
    waiting = list(replicas)
    why = ""
    while waiting:
        late = waiting[0]
        try:
            if name in await late.models():
                waiting.pop(0)
                continue
            why = f"it serves {', '.join(sorted(await late.models())) or 'nothing'}"
        except ModelError as error:
            why = str(error)
        if timer() >= deadline_s:
            raise TrainingError(f"{late.base_url} does not serve {name} after {wait_s:g} s: {why}")
        await sleep(poll_s)
