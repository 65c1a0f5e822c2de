"""What a request may cost, before it is served."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.errors import PriceUnknown
from tutelage.runtime.gateway.alias import Alias
from tutelage.runtime.prefix_cache import CHARACTERS_A_TOKEN
from tutelage.runtime.types import Mode, Served, Usage

DEFAULT_OUTPUT_TOKENS = 4096
"""Reserved for an answer to which the client sets no limit."""

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_CHOICES = ("n", "best_of")
_LARGEST = 1e9


@dataclass(frozen=True, slots=True)
class Estimate:
    """An upper estimate of one request."""

    tokens: int
    cost_usd: float


def estimate(
    raw: bytes, body: Mapping[str, Any], alias: Alias, mode: Mode, *, samples: int
) -> Estimate:
    """Student and teacher together, as if both were asked.

    Args:
        raw: The client's bytes; one token for every ``CHARACTERS_A_TOKEN`` of them.
        body: The same, decoded.
        alias: What serves the request.
        mode: How.
        samples: Student answers that the step may draw.

    Raises:
        PriceUnknown: What cannot be priced cannot be held to a budget.
    """
    prompt = -(-len(raw) // CHARACTERS_A_TOKEN)
    # Which of several limits counts is for the upstream to say.
    limits = [value for name in _LIMITS if (value := _number(body.get(name))) is not None]
    output = max(0, *limits) if limits else DEFAULT_OUTPUT_TOKENS
    output *= max(1, *(_number(body.get(name)) or 1 for name in _CHOICES))
    model = str(body.get("model"))
    teacher = Usage(input_tokens=prompt, output_tokens=output)
    student = Usage(input_tokens=prompt, output_tokens=output * samples)
    asked: dict[Served, Usage] = {"teacher": teacher}
    if mode != "passthrough" and alias.student is not None:
        asked["student"] = student
    cost_usd = 0.0
    for role, usage in asked.items():
        price = alias.upstreams[0].price if role == "teacher" else None
        price = price or alias.runtime.price(role, model)
        if price is None:
            raise PriceUnknown(f"no price is known for {model!r}, so no budget can be kept")
        cost_usd += price.uncached_cost_usd(usage)
    return Estimate(prompt + output, cost_usd)


def _number(value: object) -> int | None:
    """A whole number, rounded up, of what JSON calls one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(min(value, _LARGEST))
