"""Recorded traffic to what the cascade saves and risks, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly
from tutelage.labelling import begun_since
from tutelage.runtime.types import EpisodeRecord, Reason, StepAudit, Trace

if TYPE_CHECKING:
    from tutelage.cascade.audit_risk import AuditEvidence, AuditRisk
    from tutelage.cascade.evidence import EpisodeEvidence, QualityDifference, Savings

_MOST_ROWS = 1_000_000
_LEAST_AUDITS = 20


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """What randomised traffic says of the cascade; a part is absent where it has no evidence."""

    episodes: int
    """Episodes that began while some were held out."""
    holdouts: int
    cached: Savings | None
    uncached: Savings | None
    quality: QualityDifference | None
    risk: AuditRisk | None
    """Share of the student's steps in which the teacher would have done otherwise."""
    risk_by_goal: Mapping[str, AuditRisk]
    """The same by the first word of the goal, for kinds of tasks with at least 20 audits."""
    audits: int
    audits_without_opinion: int
    """Audits whose question failed; they are in no estimate."""


async def savings_report(
    assembly: Assembly,
    tenant: str,
    *,
    since_s: float = 0.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> SavingsReport:
    """Estimates savings, quality and risk of a tenant's traffic.

    Savings compare episodes that were held out for the teacher with the others, costs of audits
    included among the latter: they are part of running the cascade. Only episodes that were drawn
    count, so nothing is assumed of what the teacher would have done.

    Args:
        assembly: The store.
        tenant: Whose traffic.
        since_s: Unix time from which episodes count; one that began before is left out.
        confidence: Of all intervals.
        seed: Of the resampling.

    Raises:
        StoreError: The store cannot be read.
    """
    import numpy as np

    from tutelage.cascade.audit_risk import audit_risk, audit_risk_by_cluster
    from tutelage.cascade.evidence import quality_difference, savings

    traces = begun_since(await assembly.traces.traces(tenant, limit=_MOST_ROWS), since_s)
    records = {one.id: one for one in await assembly.traces.episodes(tenant, limit=_MOST_ROWS)}
    audits = await assembly.audits.audits(tenant, since_s=since_s)
    episodes = episode_evidence(traces, records, audits)
    found = audit_evidence(audits, {trace.id: trace for trace in traces})
    generator = np.random.default_rng(seed)
    return SavingsReport(
        episodes=len(episodes),
        holdouts=sum(one.holdout for one in episodes),
        cached=savings(episodes, "cached", generator=generator, confidence=confidence),
        uncached=savings(episodes, "uncached", generator=generator, confidence=confidence),
        quality=quality_difference(episodes, confidence=confidence),
        risk=audit_risk(found, confidence=confidence),
        risk_by_goal={
            name: risk
            for name, risk in audit_risk_by_cluster(found, confidence=confidence).items()
            if name is not None and risk.audits >= _LEAST_AUDITS
        },
        audits=len(audits),
        audits_without_opinion=sum(one.agrees is None for one in audits),
    )


def episode_evidence(
    traces: Iterable[Trace],
    records: Mapping[str, EpisodeRecord],
    audits: Iterable[StepAudit],
) -> list[EpisodeEvidence]:
    """Episodes that were drawn, with what they cost; the others are left out.

    An episode was drawn if its decisions carry the chance of it. What has no price at all (a
    request that was only passed through) is left out as well.
    """
    from tutelage.cascade.evidence import EpisodeEvidence

    steps: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        steps[trace.episode_id].append(trace)
    asked: dict[str, list[StepAudit]] = defaultdict(list)
    for audit in audits:
        asked[audit.episode_id].append(audit)
    found = []
    for id, served in steps.items():
        drawn = [one.decision for one in served if one.decision.propensity is not None]
        if not drawn:
            continue
        holdout = any(one.reason is Reason.HOLDOUT for one in drawn)
        chance = drawn[0].propensity
        assert chance is not None
        record = records.get(id)
        extra = asked[id]
        found.append(
            EpisodeEvidence(
                episode_id=id,
                holdout=holdout,
                propensity=chance if holdout else 1 - chance,
                cost_usd=_total(served, lambda one: one.cost_usd)
                + sum(one.cost_usd for one in extra),
                uncached_cost_usd=_total(served, lambda one: one.uncached_cost_usd)
                + sum(one.uncached_cost_usd for one in extra),
                success=record.success if record is not None else None,
            )
        )
    return found


def audit_evidence(audits: Iterable[StepAudit], traces: Mapping[str, Trace]) -> list[AuditEvidence]:
    """Audits with an opinion, clustered by the first word of their episode's goal."""
    from tutelage.cascade.audit_risk import AuditEvidence

    found = []
    for audit in audits:
        if audit.agrees is None:
            continue
        trace = traces.get(audit.trace_id)
        words = trace.goal.lower().split() if trace is not None else []
        found.append(
            AuditEvidence(
                episode_id=audit.episode_id,
                wrong=not audit.agrees,
                propensity=audit.propensity,
                cluster=words[0] if words else None,
            )
        )
    return found


def lines(report: SavingsReport, confidence: float = 0.95) -> list[str]:
    """The report as lines for a person; what is missing says what to set."""
    told = [
        f"{report.episodes} episodes were drawn, {report.holdouts} of them for the teacher alone"
    ]
    if report.cached is None:
        told.append(
            "savings: no estimate yet; set evidence.holdout (for example 0.05) and let both the "
            "teacher and the cascade have at least 2 episodes"
        )
    for title, saved in (("with prompt caches", report.cached), ("uncached", report.uncached)):
        if saved is not None:
            usd, share = saved.usd, saved.share
            told.append(
                f"saved an episode, {title}: ${usd.value:.5f} "
                f"(${usd.interval.low:.5f} to ${usd.interval.high:.5f}), that is {share.value:.0%} "
                f"({share.interval.low:.0%} to {share.interval.high:.0%}) of the teacher's "
                f"${saved.teacher_usd:.5f}; {confidence:.0%} {usd.method}"
            )
    if report.quality is not None:
        quality = report.quality
        told.append(
            f"success: cascade {quality.cascade_rate:.3f}, teacher alone "
            f"{quality.teacher_rate:.3f}; difference {quality.difference.value:+.3f} "
            f"({quality.difference.interval.low:+.3f} to {quality.difference.interval.high:+.3f}); "
            f"{quality.unknown} episodes without feedback"
        )
    elif report.episodes:
        told.append("success: no estimate yet; send feedback on episodes of both kinds")
    if report.risk is None:
        told.append("risk: no audits yet; set evidence.audits (for example 0.02)")
    else:
        risk = report.risk
        told.append(
            f"the teacher would have done otherwise in {risk.risk:.3f} of the student's steps "
            f"({risk.interval.low:.3f} to {risk.interval.high:.3f}; at most {risk.bound:.3f}), "
            f"from {risk.audits} audits in {risk.episodes} episodes"
        )
    for name, part in sorted(report.risk_by_goal.items()):
        told.append(
            f"  {name} ...: {part.risk:.3f}, at most {part.bound:.3f} ({part.audits} audits)"
        )
    if report.audits_without_opinion:
        told.append(f"{report.audits_without_opinion} audits have no answer and are left out")
    return told


def to_json(report: SavingsReport) -> dict[str, Any]:
    """The report as JSON values; infinite ends of intervals are ``null``."""
    plain = asdict(report)
    return {name: _finite(value) for name, value in plain.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _total(traces: Sequence[Trace], cost: Callable[[Trace], Mapping[Any, float]]) -> float:
    return sum(sum(cost(trace).values()) for trace in traces)
