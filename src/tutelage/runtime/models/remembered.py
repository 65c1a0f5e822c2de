"""A model whose samples are drawn once and given again to whoever asks for the same."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import orjson

from tutelage.runtime.chunks import chunks
from tutelage.runtime.models.sample_file import KeptSample, SampleFile
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Choice, Completion

LATENCY_FIELD = "drawn_in_s"
"""Extra field of a completion: seconds that its slowest call took when it was drawn."""
_NOT_ASKED = ("model", "n", "seed", "stream", "stream_options", "user", "metadata")


class RememberedModel:
    """Keeps every sample of a model by prompt, settings and number.

    A request with ``seed`` s asks for the samples s, s + 1, ..., s + n - 1, whether in one call or
    in n (vLLM seeds the choices of one call in the same way), so that a policy which draws one by
    one sees the samples of one which draws them together. Greedy samples have one number for all
    seeds. Tokens are those of the call that drew a sample, so that whoever comes later pays the
    same; a joint answer bills its prompt once.

    Args:
        model: Who is asked for what is missing.
        name: Identity of the model with its weights; other names share no samples.
        file: Where samples are kept.
        greedy_only: Whether only requests of temperature 0 are kept, and others passed through.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        model: Model,
        name: str,
        file: SampleFile,
        *,
        greedy_only: bool = False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._name = name
        self._file = file
        self._greedy_only = greedy_only
        self._timer = timer
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.drawn = 0
        """Samples that the model was asked for."""
        self.given = 0
        """Samples that were there."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` choices by number, of which only those are drawn that nobody has drawn before.

        Raises:
            ModelError: The model failed; nothing is kept of that.
            StoreError: The file cannot be read or written.
        """
        greedy = request.temperature == 0
        if self._greedy_only and not greedy:
            return await self._model.complete(request, n)
        asked = _asked(request)
        key = hashlib.sha256(self._name.encode() + b"\0" + asked).hexdigest()
        first = 0 if greedy else _seed(request)
        numbers = [first] * n if greedy else list(range(first, first + n))
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            found = self._file.find(key, numbers)
            missing = [number for number in dict.fromkeys(numbers) if number not in found]
            self.drawn += len(missing)
            self.given += n - len(missing)
            for start, count in _runs(missing):
                drawn = await self._draw(request, start, count)
                self._file.keep(key, self._name, asked, drawn)
            if missing:
                found = self._file.find(key, numbers)
        return _joined(key, [found[number] for number in numbers])

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The first choice as chunks."""
        options = (request.model_extra or {}).get("stream_options") or {}
        usage = bool(options.get("include_usage", True))
        for chunk in chunks(await self.complete(request), usage=usage):
            yield chunk

    async def _draw(self, request: ChatRequest, start: int, count: int) -> dict[int, KeptSample]:
        if "seed" in (request.model_extra or {}) and request.temperature != 0:
            request = request.model_copy(update={"seed": start})
        started_s = self._timer()
        completion = await self._model.complete(request, count)
        latency_s = self._timer() - started_s
        outputs = shared_tokens(completion.usage.output_tokens, completion.choices)
        return {
            start + place: KeptSample(
                completion.model,
                choice,
                completion.usage.model_copy(update={"output_tokens": tokens}),
                latency_s,
            )
            for place, (choice, tokens) in enumerate(zip(completion.choices, outputs, strict=True))
        }


def shared_tokens(total: int, choices: Sequence[Choice]) -> list[int]:
    """The output tokens of a call by choice: by the tokens that each tells, else by its length.

    Args:
        total: Output tokens of the call.
        choices: Its choices.

    Returns:
        Whole numbers that add up to ``total``, in the order of the choices.
    """
    told = [len((one.logprobs or {}).get("content") or ()) for one in choices]
    weights = told if all(told) else [len(one.message.text) + 1 for one in choices]
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    # The largest remainders get what rounding down has left.
    order = sorted(range(len(choices)), key=lambda place: -(total * weights[place] % whole))
    for place in order[: total - sum(shares)]:
        shares[place] += 1
    return shares


def _asked(request: ChatRequest) -> bytes:
    body = request.wire(**dict.fromkeys(_NOT_ASKED))
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _seed(request: ChatRequest) -> int:
    seed = (request.model_extra or {}).get("seed")
    return seed if isinstance(seed, int) else 0


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First number and length of each run of successive ones."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs


def _joined(key: str, samples: Sequence[KeptSample]) -> Completion:
    head = samples[0]
    output = sum(sample.usage.output_tokens for sample in samples)
    return Completion.model_validate(
        {
            "id": f"kept-{key[:24]}",
            "model": head.model,
            "choices": [
                sample.choice.model_copy(update={"index": place})
                for place, sample in enumerate(samples)
            ],
            "usage": head.usage.model_copy(update={"output_tokens": output}),
            LATENCY_FIELD: max(sample.latency_s for sample in samples),
        }
    )
