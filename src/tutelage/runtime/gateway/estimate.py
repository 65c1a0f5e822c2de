"""What a request may cost, before it is served."""

from __future__ import annotations

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
    limit = next((body[name] for name in _LIMITS if isinstance(body.get(name), int)), None)
    output = DEFAULT_OUTPUT_TOKENS if limit is None else max(int(limit), 0)
    choices = body.get("n")
    output *= choices if isinstance(choices, int) and choices > 1 else 1
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
