"""Another bank of demonstrations under recorded traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tutelage.assembly import Assembly
from tutelage.labelling import MOST_TRACES
from tutelage.recorded import (
    choice_of,
    is_held_out,
    recorded_episodes,
    recorded_steps,
)
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.protocols import AgreementRule, Retriever, rule_for
from tutelage.runtime.types import EpisodeRecord, Retrieved, Step, StepAudit, Trace

if TYPE_CHECKING:
    from tutelage.benchmarks.bank_replay import BankReplay, RecordedEpisode, ShownStep
    from tutelage.retrieval.exposures import Exposure

Exposed = Mapping[tuple[str, int], "Exposure"]
"""What was found for steps, by episode and step."""


async def replay_bank(
    assembly: Assembly,
    tenant: str,
    *,
    bank: Assembly | None = None,
    since_s: float = 0.0,
    confidence: float = 0.95,
) -> BankReplay:
    """Searches a bank at recorded steps, and tells what is known of its effect.

    An episode's own trajectory, and those of its task, are never shown: the bank may have learnt
    them from it.

    Args:
        assembly: The store of the traffic.
        tenant: Whose traffic, and whose demonstrations.
        bank: Whose bank and retrieval; absent: those of ``assembly``.
        since_s: Unix time from which episodes count; one that began before is left out.
        confidence: Of the intervals.

    Raises:
        ConfigError: The prompt is laid out so that a step does not tell what it is shown.
        BenchmarkError: In no recorded step a student was asked.
        RetrievalError: The bank cannot be searched.
        StoreError: A store cannot be read.
    """
    from tutelage.benchmarks.bank_replay import bank_replay
    from tutelage.retrieval.exposures import Exposures

    searched = bank or assembly
    if searched.config.prompt.layout != "per-step":
        raise ConfigError(
            f"prompt.layout = {searched.config.prompt.layout!r} shows an episode what its first "
            "step found: --rerun bank needs 'per-step'"
        )
    everything = await recorded_episodes(assembly, tenant, since_s)
    records = {one.id: one for one in await assembly.traces.episodes(tenant, limit=MOST_TRACES)}
    audits = {one.trace_id: one for one in await assembly.audits.audits(tenant, since_s=since_s)}
    listed = await asyncio.to_thread(Exposures(assembly.engine).of_tenant, tenant)
    exposed = {(one.episode_id, one.step_index): one for one in listed if one.layer == "step"}
    looking = Looking(searched.retriever(), assembly.policies.agreement(), exposed, audits)
    in_time = sorted(everything.items(), key=lambda pair: pair[1][0].created_at_s)
    episodes = [
        await looking.episode(served, records.get(id))
        for id, served in in_time
        if not is_held_out(served) and any(trace.samples for trace in served)
    ]
    if not episodes:
        raise BenchmarkError("no student was asked in a recorded step: serve some by the cascade")
    version = await searched.bank.version(tenant)
    return bank_replay(episodes, bank=version, confidence=confidence)


class Looking:
    """Searches a bank at the steps of recorded episodes.

    Args:
        retriever: Searches the bank.
        rule: Names actions.
        exposed: What was found and left out when it was recorded.
        audits: By trace.
    """

    def __init__(
        self,
        retriever: Retriever,
        rule: AgreementRule,
        exposed: Exposed,
        audits: Mapping[str, StepAudit],
    ) -> None:
        self._retriever = retriever
        self._rule = rule
        self._exposed = exposed
        self._audits = audits

    async def episode(
        self, served: Sequence[Trace], record: EpisodeRecord | None
    ) -> RecordedEpisode:
        """An episode with what its steps would be shown."""
        from tutelage.benchmarks.bank_replay import RecordedEpisode

        task_id = record.task_id if record is not None else None
        steps = [
            await self._step(trace, step)
            for trace, step in zip(served, recorded_steps(served, task_id), strict=True)
            # Without samples the student was not asked, and what it would see changes nothing.
            if trace.samples
        ]
        return RecordedEpisode(
            episode_id=served[0].episode_id,
            steps=tuple(steps),
            chance=self._chance(served),
            cost_usd=sum(sum(trace.cost_usd.values()) for trace in served),
            uncached_cost_usd=sum(sum(trace.uncached_cost_usd.values()) for trace in served),
            success=record.success if record is not None else None,
        )

    async def _step(self, trace: Trace, step: Step) -> ShownStep:
        from tutelage.benchmarks.bank_replay import ShownStep

        ranked = [
            one
            for one in await self._retriever.search(step)
            if one.demonstration.trajectory_id != trace.episode_id
        ]
        found = tuple(one.demonstration.id for one in ranked)
        # In the prompt the best one stands last.
        recorded = tuple(reversed(trace.demonstrations))
        exposure = self._exposed.get((trace.episode_id, trace.step_index))
        return ShownStep(
            trace_id=trace.id,
            episode_id=trace.episode_id,
            step_index=trace.step_index,
            recorded=recorded,
            found=found,
            scores=tuple(float(one.score) for one in ranked),
            actions=tuple(self._named(one.demonstration.action, trace) for one in ranked),
            taught=self._taught(trace),
            reachable=exposure is not None and _reachable(ranked, exposure),
        )

    def _named(self, action: str, trace: Trace) -> str:
        return rule_for(self._rule, trace.tools).action(choice_of(0, action)) or action

    def _taught(self, trace: Trace) -> str | None:
        if trace.decision.served == "teacher":
            return self._named(trace.answer, trace)
        audit = self._audits.get(trace.id)
        return audit.action if audit is not None else None

    def _chance(self, served: Sequence[Trace]) -> float:
        """Chance draws once for an episode and trajectory."""
        kept: dict[str, float] = {}
        left_out: dict[str, float] = {}
        for trace in served:
            exposure = self._exposed.get((trace.episode_id, trace.step_index))
            if exposure is not None:
                kept.update(dict.fromkeys(exposure.shown, 1 - exposure.share))
                left_out.update(dict.fromkeys(exposure.left_out, exposure.share))
        chance = 1.0
        for one in (*kept.values(), *left_out.values()):
            chance *= one
        return chance


def _reachable(ranked: Sequence[Retrieved], exposure: Exposure) -> bool:
    then = {*exposure.shown, *exposure.left_out}
    return exposure.share > 0 and all(one.demonstration.trajectory_id in then for one in ranked)
