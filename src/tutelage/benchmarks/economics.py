"""What an episode and a solved task cost, and when a bank of demonstrations has paid for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.benchmarks.results import EpisodeResult
from tutelage.runtime.types import Served, Usage

Pricing = Literal["cached", "uncached"]
"""Cached tokens at their own price, or every prompt token at the full input price."""

COMPONENTS: tuple[Served, ...] = ("student", "teacher")


@dataclass(frozen=True, slots=True)
class Cost:
    """Means over episodes, in USD."""

    episode_usd: float
    """Of an episode, solved or not."""
    solved_usd: float | None
    """Of all episodes over the solved ones; ``None`` if none was solved."""
    components_usd: dict[Served, float]
    """Of an episode, by component."""


def episode_cost_usd(result: EpisodeResult, pricing: Pricing) -> float:
    """Cost of one episode, all components."""
    if pricing == "cached":
        return result.total_cost_usd
    return result.total_uncached_cost_usd


def cost(results: Sequence[EpisodeResult], pricing: Pricing) -> Cost:
    """Mean costs of episodes; there must be at least one."""
    totals: dict[Served, float] = dict.fromkeys(COMPONENTS, 0.0)
    for result in results:
        spent = result.cost_usd if pricing == "cached" else result.uncached_cost_usd
        for component, cost_usd in spent.items():
            totals[component] += cost_usd
    solved = sum(result.success for result in results)
    total = sum(totals.values())
    return Cost(
        episode_usd=total / len(results),
        solved_usd=total / solved if solved else None,
        components_usd={component: usd / len(results) for component, usd in totals.items()},
    )


def tokens(results: Sequence[EpisodeResult]) -> dict[Served, Usage]:
    """Tokens of all episodes by component."""
    totals: dict[Served, Usage] = dict.fromkeys(COMPONENTS, Usage())
    for result in results:
        for component, usage in result.usage.items():
            totals[component] += usage
    return totals


def break_even_episodes(
    bank_episodes: int, teacher_usd: float, arm_usd: float, *, bank_is_work: bool
) -> float | None:
    """Episodes after which an arm has repaid its bank: ``N* = n c_T / (c_T - c_M)``.

    Source: In-Context Distillation with Self-Consistency Cascades, amortisation (formula recovered
    from its figures). With ``bank_is_work`` the bank's tasks were work anyway, so the
    bank costs nothing more and the saving starts at once.

    Args:
        bank_episodes: ``n``, teacher episodes in the bank.
        teacher_usd: ``c_T``, cost of an episode of the teacher alone.
        arm_usd: ``c_M``, cost of an episode of the arm.
        bank_is_work: Whether the bank's answers were wanted anyway.

    Returns:
        The number of episodes; ``None`` if the arm saves nothing.
    """
    saving_usd = teacher_usd - arm_usd
    if saving_usd <= 0:
        return None
    return 0.0 if bank_is_work else bank_episodes * teacher_usd / saving_usd
