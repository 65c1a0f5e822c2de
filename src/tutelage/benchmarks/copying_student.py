"""A fast student without a language model: it copies from its prompt, and errs as copiers do."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.chunks import chunks
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage

_WORD = re.compile(r"[a-z]+|[0-9]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """An observation in the prompt, and the action that follows it."""

    observation: frozenset[str]
    action: str


@dataclass(frozen=True, slots=True)
class CopyingStudent:
    """Copies the action that follows the observation most like the one at hand.

    All turns of its prompt are candidates, those of demonstrations and its own: without a fitting
    demonstration it repeats itself. At temperature T a candidate is copied with probability
    proportional to ``exp(similarity / (T * spread))``, the similarity being the share of words in
    common; at 0 it is the most similar one, the later of equals. So its samples disagree where the
    demonstrations do, and it agrees with itself in a loop.

    It costs microseconds and says nothing of a real student: it is there to compare policies over
    many episodes. Tokens are characters / 4.

    Args:
        spread: Difference in similarity that makes a copy e times less likely at temperature 1.
        seed: Another seed draws other samples.
    """

    spread: float = 0.1
    seed: int = 0

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` samples with the log-probability of each; their text is empty without a turn."""
        pairs, now = _read(request)
        weights = self._weights(pairs, now, request.temperature)
        key = hashlib.sha256(
            json.dumps([self.seed, request.temperature]).encode()
            + b"".join(message.text.encode() for message in request.messages)
        ).digest()
        # As in vLLM, sample i of a call is the first one of a call whose seed is higher by i.
        seed = (request.model_extra or {}).get("seed") or 0
        choices = [_choice(pairs, weights, key, place, seed + place) for place in range(n)]
        return Completion(
            id=f"copying-{key.hex()[:16]}-{seed}",
            model=request.model,
            choices=choices,
            usage=Usage(
                input_tokens=sum(len(message.text) for message in request.messages) // 4,
                output_tokens=sum(len(one.message.text) // 4 + 1 for one in choices),
            ),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """One sample as chunks."""
        for chunk in chunks(await self.complete(request), usage=False):
            yield chunk

    def _weights(
        self, pairs: Sequence[Pair], now: frozenset[str], temperature: float | None
    ) -> list[float]:
        if not pairs:
            return []
        likeness = [_overlap(pair.observation, now) for pair in pairs]
        best = max(likeness)
        if not temperature:
            last = max(place for place, one in enumerate(likeness) if one == best)
            return [float(place == last) for place in range(len(pairs))]
        raw = [math.exp((one - best) / (temperature * self.spread)) for one in likeness]
        total = sum(raw)
        return [weight / total for weight in raw]


def _read(request: ChatRequest) -> tuple[list[Pair], frozenset[str]]:
    pairs: list[Pair] = []
    seen = ""
    for message in request.messages:
        if message.role == "user":
            seen = message.text
        elif message.role == "assistant":
            pairs.append(Pair(_words(seen), message.text))
    return pairs, _words(seen)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _overlap(left: frozenset[str], right: frozenset[str]) -> float:
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def _choice(
    pairs: Sequence[Pair], weights: Sequence[float], key: bytes, place: int, seed: int
) -> Choice:
    text, logprob = "", 0.0
    if pairs:
        drawn = hashlib.sha256(key + str(seed).encode()).digest()[:7]
        left, chosen = int.from_bytes(drawn, "big") / 2**56, len(pairs) - 1
        for candidate, weight in enumerate(weights):
            left -= weight
            if left < 0:
                chosen = candidate
                break
        text = pairs[chosen].action
        same = sum(w for w, pair in zip(weights, pairs, strict=True) if pair.action == text)
        logprob = math.log(max(same, 1e-12))
    return Choice(
        index=place,
        message=Message(role="assistant", content=text),
        finish_reason="stop",
        logprobs={"content": [{"token": text, "logprob": logprob}]},
    )
