"""What a request may cost, before it is served."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.errors import PriceUnknown
from tutelage.runtime.gateway.alias import Alias
from tutelage.runtime.gateway.token_bound import prompt_tokens
from tutelage.runtime.types import Mode, Usage

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
    """Student and teacher together, as if both were asked; the teacher at its dearest upstream.

    Args:
        raw: The client's bytes.
        body: The same, decoded.
        alias: What serves the request.
        mode: How.
        samples: Student answers that the step may draw; each may bill the prompt.

    Raises:
        PriceUnknown: What cannot be priced cannot be held to a budget.
    """
    prompt = prompt_tokens(raw, body)
    # Which of several limits counts is for the upstream to say.
    limits = [value for name in _LIMITS if (value := _number(body.get(name))) is not None]
    output = max(0, *limits) if limits else DEFAULT_OUTPUT_TOKENS
    output *= max(1, *(_number(body.get(name)) or 1 for name in _CHOICES))
    model = str(body.get("model"))
    teacher = Usage(input_tokens=prompt, output_tokens=output)
    usual = alias.runtime.price("teacher", model)
    prices = [upstream.price or usual for upstream in alias.upstreams]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        raise PriceUnknown(f"no price is known for {model!r}, so no budget can be kept")
    # Written to a prompt cache, a token may cost more than a plain one.
    written = Usage(cache_write_tokens=prompt, output_tokens=output)
    costs = [max(price.uncached_cost_usd(teacher), price.cost_usd(written)) for price in known]
    cost_usd = max(costs)
    if mode != "passthrough" and alias.student is not None:
        price = alias.runtime.price("student", model)
        if price is None:
            raise PriceUnknown("no price is known for the student, so no budget can be kept")
        seen = prompt + alias.student_prompt_tokens
        asked = Usage(input_tokens=seen * samples, output_tokens=output * samples)
        cost_usd += price.uncached_cost_usd(asked)
    return Estimate(prompt + output, cost_usd)


def _number(value: object) -> int | None:
    """A whole number, rounded up, of what JSON calls one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.ceil(min(value, _LARGEST))
