"""Recorded traffic to the figures of the cost model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tutelage.assembly import Assembly
from tutelage.labelling import MOST_TRACES, begun_since
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.types import StepAudit
from tutelage.savings import episode_evidence

if TYPE_CHECKING:
    from tutelage.benchmarks.cost_model import Figure, Measured
    from tutelage.cascade.evidence import EpisodeEvidence

Pricing = Literal["cached", "uncached"]
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Training:
    """What training cost, as dollars or as hours of a GPU."""

    usd: float | None = None
    gpu_hours: float | None = None
    gpu_usd_per_hour: float | None = None

    def cost(self) -> tuple[float, tuple[str, ...]]:
        """USD, and the options it is from.

        Raises:
            ConfigError: Hours come without a price or the other way round, or a number is negative.
        """
        for name in ("usd", "gpu_hours", "gpu_usd_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"training {name} = {value}: give 0 or more")
        if (self.gpu_hours is None) != (self.gpu_usd_per_hour is None):
            raise ConfigError("give hours and price together: --gpu-hours 3 --gpu-usd-per-hour 2.5")
        total, rows = self.usd or 0.0, []
        if self.usd is not None:
            rows.append(f"--training-usd {self.usd:g}")
        if self.gpu_hours is not None and self.gpu_usd_per_hour is not None:
            total += self.gpu_hours * self.gpu_usd_per_hour
            rows += [
                f"--gpu-hours {self.gpu_hours:g}",
                f"--gpu-usd-per-hour {self.gpu_usd_per_hour:g}",
            ]
        return total, tuple(rows)


@dataclass(frozen=True, slots=True)
class CostReport:
    """The cost model of a tenant's traffic under both pricings."""

    episodes: int
    """Episodes that are projected."""
    cached: dict[str, Figure]
    uncached: dict[str, Figure]


async def cost_report(
    assembly: Assembly,
    tenant: str,
    training: Training,
    *,
    since_s: float = 0.0,
    episodes: int = MILLION,
    seed: int = 0,
) -> CostReport:
    """What a tenant's traffic costs, saves, and will have saved.

    Args:
        assembly: The store.
        tenant: Whose traffic.
        training: What training cost.
        since_s: Unix time from which episodes count; one that began before is left out.
        episodes: How many are projected.
        seed: Of the resampling.

    Raises:
        BenchmarkError: Fewer than two episodes were held out, or played by the cascade.
        ConfigError: The cost of training is incomplete.
        StoreError: The store cannot be read.
    """
    from tutelage.benchmarks.cost_model import FixedCost, cost_figures
    from tutelage.retrieval.ledger import Ledger

    training_usd, options = training.cost()
    traces = begun_since(await assembly.traces.traces(tenant, limit=MOST_TRACES), since_s)
    audits = await assembly.audits.audits(tenant, since_s=since_s)
    evidence = episode_evidence(traces, {}, audits)
    listed = await asyncio.to_thread(Ledger(assembly.engine).active_ids, tenant)
    fixed = FixedCost(training_usd, options, tuple(sorted(listed)))
    known = {one.episode_id for one in evidence}
    asked = [one for one in audits if one.episode_id in known]
    return CostReport(
        episodes,
        cost_figures(measured(evidence, asked, "cached", seed), fixed, episodes),
        cost_figures(measured(evidence, asked, "uncached", seed), fixed, episodes),
    )


def measured(
    episodes: Sequence[EpisodeEvidence],
    audits: Sequence[StepAudit],
    pricing: Pricing,
    seed: int = 0,
) -> Measured:
    """What episodes that were drawn say of one pricing.

    Means of teacher and cascade are inverse-propensity weighted as in ``savings``; their intervals
    are those of ``policy_value``.

    Raises:
        BenchmarkError: An arm has fewer than two episodes.
    """
    import numpy as np

    from tutelage.benchmarks.cost_model import Figure, Measured
    from tutelage.benchmarks.off_policy import WeightedEpisode, policy_value
    from tutelage.benchmarks.statistics import Interval, wilson_interval
    from tutelage.cascade.evidence import savings

    saved = savings(episodes, pricing, generator=np.random.default_rng(seed))
    if saved is None:
        held = sum(one.holdout for one in episodes)
        raise BenchmarkError(
            f"{held} held-out episodes and {len(episodes) - held} of the cascade were recorded, "
            "and at least 2 of both are needed: set evidence.holdout (for example 0.05) and serve "
            "some traffic"
        )

    def arm(holdout: bool, how: str) -> Figure:
        drawn = [one for one in episodes if one.holdout is holdout]
        weighted = [
            WeightedEpisode(
                one.episode_id,
                1 / (one.propensity if holdout else 1 - one.propensity),
                one.cost_usd if pricing == "cached" else one.uncached_cost_usd,
            )
            for one in drawn
        ]
        value = policy_value(weighted, least_effective=0.0)
        rows = {"episodes": tuple(one.episode_id for one in drawn)}
        return Figure(value.value, value.interval, "usd", how, rows)

    everyone = {"episodes": tuple(one.episode_id for one in episodes)}
    held = sum(one.holdout for one in episodes)
    spent = sum(one.cost_usd if pricing == "cached" else one.uncached_cost_usd for one in audits)
    ends = saved.usd.interval
    return Measured(
        teacher=arm(True, "mean of held-out episodes"),
        cascade=arm(False, "mean of the other episodes, audits included"),
        saved=Figure(
            saved.usd.value, Interval(ends.low, ends.high), "usd", "teacher - cascade", everyone
        ),
        audits=Figure(spent, None, "usd", "sum", {"audits": tuple(one.trace_id for one in audits)}),
        holdout_share=Figure(
            held / len(episodes),
            wilson_interval(held, len(episodes)),
            "share",
            "held-out episodes / all that were drawn",
            everyone,
        ),
    )


def lines(report: CostReport) -> list[str]:
    """The report as lines for a person."""
    from tutelage.benchmarks import cost_model

    return [
        *cost_model.lines("with prompt caches", report.cached, report.episodes),
        *cost_model.lines("uncached", report.uncached, report.episodes),
        "brackets are 95 % intervals; --json names the rows of each figure",
    ]


def to_json(report: CostReport) -> dict[str, Any]:
    """The report as JSON values."""
    from tutelage.benchmarks import cost_model

    return {
        "episodes": report.episodes,
        "cached": cost_model.to_json(report.cached),
        "uncached": cost_model.to_json(report.uncached),
    }
