"""The in-process student: a small causal language model run by transformers in one thread."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.runtime.errors import BadResponse, ConfigError, Refused
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage

if TYPE_CHECKING:
    from tutelage.runtime.models.generation import (
        Generated,
        GeneratedText,
        OnText,
        Sampling,
        TextGenerator,
    )

DEFAULT_MAX_TOKENS = 256
_UNSUPPORTED = ("tools", "functions", "logit_bias", "frequency_penalty", "presence_penalty")


class LocalModel:
    """A checkpoint in this process, as a model.

    Samples of one call share one prefill, and prompts that begin alike share what was computed for
    their beginning; such tokens count as ``cache_read_tokens``. Calls run one after another in a
    thread of their own. Fields of a request that cannot be honoured are refused, not ignored.

    Args:
        checkpoint: Folder of a Hugging Face checkpoint with a chat template.
        threads: Threads that torch computes with in this process; ``None`` leaves one core free.
        dtype: Name of the weights' torch type.
        device: torch device.
        max_prompt_tokens: Longest prompt; ``None`` is what the model allows.
        cached_prompts: Prompts whose keys and values are kept for reuse; 0 turns reuse off.
        seed: Seed of the samples of requests that name none; ``None`` draws one.
        clock: Seconds since the epoch.

    Raises:
        ConfigError: There is no folder ``checkpoint``.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        threads: int | None = None,
        dtype: str = "bfloat16",
        device: str = "cpu",
        max_prompt_tokens: int | None = None,
        cached_prompts: int = 8,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not checkpoint.is_dir():
            raise ConfigError(f"no checkpoint at {checkpoint}: run `make student` to make it")
        self.checkpoint = checkpoint
        self._settings: dict[str, Any] = {
            "threads": threads,
            "dtype": dtype,
            "device": device,
            "max_prompt_tokens": max_prompt_tokens,
            "cached_prompts": cached_prompts,
            "seed": seed,
        }
        self._clock = clock
        self._numbers = itertools.count(1)
        self._generator: TextGenerator | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="student")

    async def load(self) -> None:
        """Loads the weights now; else the first call does.

        Raises:
            ConfigError: The folder is not a usable checkpoint.
            MissingExtra: torch or transformers is not installed.
        """
        await asyncio.get_running_loop().run_in_executor(self._worker, self._loaded)

    async def aclose(self) -> None:
        """Ends the thread and lets the weights go."""
        await asyncio.to_thread(self._worker.shutdown)
        self._generator = None

    async def __aenter__(self) -> LocalModel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices after one prefill.

        A temperature that is absent or 0 is greedy, and then all choices are equal.

        Raises:
            ContextTooLong: The prompt has more tokens than the model takes.
            Refused: The request has a field that cannot be honoured, or a value out of range.
            BadResponse: torch failed.
            ConfigError: The checkpoint is not usable.
        """
        wanted = n if n != 1 else request.n or 1
        messages, sampling = _messages(request), sampling_of(request, wanted)
        generated = await self._in_thread(messages, sampling, None)
        return Completion(
            **self._head(),
            model=request.model,
            choices=[_choice(index, text) for index, text in enumerate(generated.samples)],
            usage=_usage(generated),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """One answer in chunks: role, text as it comes, finish.

        The last chunk carries the usage, unless the request sets ``stream_options.include_usage``
        otherwise.

        Raises:
            ModelError: As ``complete``.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        messages, sampling = _messages(request), sampling_of(request, 1)
        task = asyncio.ensure_future(
            self._in_thread(messages, sampling, lambda text: _post(loop, pieces, text))
        )
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        head = {**self._head(), "object": "chat.completion.chunk", "model": request.model}
        try:
            first: dict[str, Any] = {"role": "assistant", "content": ""}
            while (piece := await pieces.get()) is not None:
                yield _chunk(head, {**first, "content": piece})
                first = {}
            generated = await task
            yield _chunk(head, first, generated.samples[0].finish_reason)
            options = (request.model_extra or {}).get("stream_options") or {}
            if options.get("include_usage", True):
                yield {**head, "choices": [], "usage": _usage(generated).wire()}
        finally:
            sampling.cancelled.set()
            task.cancel()

    def _head(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-local-{next(self._numbers)}", "created": int(self._clock())}

    def _loaded(self) -> TextGenerator:
        from tutelage.runtime.models.generation import TextGenerator

        if self._generator is None:
            self._generator = TextGenerator(self.checkpoint, **self._settings)
        return self._generator

    async def _in_thread(
        self, messages: list[dict[str, str]], sampling: Sampling, on_text: OnText | None
    ) -> Generated:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._worker, lambda: self._loaded().generate(messages, sampling, on_text)
            )
        except asyncio.CancelledError:
            sampling.cancelled.set()
            raise
        except RuntimeError as error:
            line = str(error).strip().splitlines()[0]
            raise BadResponse(f"the in-process student failed: {line}") from error


def sampling_of(request: ChatRequest, n: int) -> Sampling:
    """What a request asks of the sampler.

    Raises:
        Refused: A field cannot be honoured, or its value is out of range; names both.
    """
    from tutelage.runtime.models.generation import Sampling

    more = request.model_extra or {}
    for name in _UNSUPPORTED:
        if request.tools if name == "tools" else more.get(name):
            raise Refused(f"the in-process student does not support {name}: leave it out")
    kind = (more.get("response_format") or {}).get("type", "text")
    if kind != "text":
        raise Refused(f"the in-process student does not support response_format {kind!r}: use text")
    temperature = _number("temperature", request.temperature, 0.0, 0.0, 100.0)
    top_p = _number("top_p", more.get("top_p"), 1.0, 0.0, 1.0)
    asked = more.get("max_completion_tokens") or request.max_tokens
    max_tokens = int(_number("max_tokens", asked, DEFAULT_MAX_TOKENS, 1, float("inf")))
    alternatives = int(_number("top_logprobs", more.get("top_logprobs"), 0, 0, 20))
    seed = more.get("seed")
    if seed is not None:
        seed = int(_number("seed", seed, 0, -(2**63), 2**63 - 1))
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return Sampling(
        n=int(_number("n", n, 1, 1, 1024)),
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        stop=tuple(text for text in stop if text),
        seed=seed,
        top_logprobs=alternatives if more.get("logprobs") else None,
    )


def _number(name: str, value: Any, default: float, low: float, high: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused(f"{name} = {value!r}: use a number from {low:g} to {high:g}")
    return value


def _messages(request: ChatRequest) -> list[dict[str, str]]:
    for message in request.messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.get("type") != "text":
                raise Refused(
                    f"the in-process student reads text only: leave out the {part.get('type')} part"
                )
    return [{"role": message.role, "content": message.text} for message in request.messages]


def _choice(index: int, sample: GeneratedText) -> Choice:
    return Choice(
        index=index,
        message=Message(role="assistant", content=sample.text),
        finish_reason=sample.finish_reason,
        logprobs={"content": sample.logprobs} if sample.logprobs else None,
    )


def _usage(generated: Generated) -> Usage:
    return Usage(
        input_tokens=generated.prompt_tokens - generated.reused_tokens,
        cache_read_tokens=generated.reused_tokens,
        output_tokens=sum(len(sample.tokens) for sample in generated.samples),
    )


def _chunk(
    head: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _post(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[str | None], text: str) -> None:
    loop.call_soon_threadsafe(pieces.put_nowait, text)
