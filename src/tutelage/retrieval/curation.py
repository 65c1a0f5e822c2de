"""The bank grows: candidates of live traffic are promoted, and what is no good is taken out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine

from tutelage.retrieval.admission import CONTRADICTS, WRITER_FULL, Gate, Offer
from tutelage.retrieval.bank import Admission, Bank
from tutelage.retrieval.bank_versions import State
from tutelage.retrieval.candidates import WAITING, Candidates, CandidateState
from tutelage.retrieval.credit import credit_steps
from tutelage.retrieval.exposures import Exposures, stale_tools
from tutelage.retrieval.harvest import REFUSALS, episode_steps, harvest
from tutelage.retrieval.neighbours import NeighbourCheck
from tutelage.retrieval.origins import Held, Origins
from tutelage.retrieval.rules import CurationRules
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.retrieval.tool_schema import called_tools
from tutelage.retrieval.utility import Utility, tally_episodes, tally_steps, utility
from tutelage.runtime.types import EpisodeRecord, Trace, Trajectory

_ALL = 2**31 - 1
_NEIGHBOURS = 24
OVERTURNED = "its episode was judged a failure afterwards"
HARMFUL = "episodes succeed less often with it than without it"


class EpisodeReader(Protocol):
    """Reads what happened."""

    async def episode(self, tenant: str, id: str) -> EpisodeRecord | None:
        """One episode of a tenant, or ``None``."""
        ...

    async def traces(
        self, tenant: str, *, episode_id: str | None = None, limit: int = 100
    ) -> Sequence[Trace]:
        """Traces of a tenant."""
        ...


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of the candidates of one episode."""

    episode_id: str
    promoted: int
    quarantined: int
    rejected: int
    reason: str = ""
    """Why the episode gave no demonstration."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What one run of curation did; numbers of trajectories but for the first four."""

    candidates: int
    """New answers of a teacher."""
    promoted: int
    """Answers that may be imitated from now on."""
    waiting: int
    """Answers whose episode has an outcome, but that are held back."""
    rejected: int
    """Answers that will not be imitated."""
    overturned: int
    outdated: int
    """Retired since a tool that they call has another schema."""
    idle: int
    """Retired since they were not shown for long."""
    contradicting: int
    restored: int
    """Active again, as their neighbours no longer contradict them."""
    harmful: int


@dataclass(frozen=True, slots=True)
class Worth:
    """A trajectory's utility by both measures; ``None`` where nothing is known."""

    trajectory_id: str
    episodes: Utility | None
    """Success of episodes."""
    steps: Utility | None
    """Agreement with the teacher at the steps at which it was heard."""


class Curator:
    """Promotes, dedups, caps, ages, quarantines and revokes; doing it again changes nothing.

    Args:
        bank: The demonstrations.
        engine: The database of bank and traces; migrated.
        episodes: Episodes and their traces.
        source: Who the teacher was; ``None``: the model that a request asked for.
        clock: Unix time in seconds.
        rules: Caps and thresholds.
        leave_out: Whether an episode must not become demonstrations, such as one that measures.
        refusals: Openings of an observation that says that the last action was refused.
    """

    def __init__(
        self,
        bank: Bank,
        engine: Engine,
        episodes: EpisodeReader,
        *,
        source: str | None,
        clock: Callable[[], float],
        rules: CurationRules | None = None,
        leave_out: Callable[[EpisodeRecord], Awaitable[bool]] | None = None,
        refusals: Sequence[str] = REFUSALS,
    ) -> None:
        self.rules = rules or CurationRules()
        self.origins = Origins(engine)
        self.candidates = Candidates(engine, overlap_s=self.rules.late_s)
        self.exposures = Exposures(engine)
        self._bank = bank
        self._episodes = episodes
        self._source = source
        self._clock = clock
        self._leave_out = leave_out
        self._refusals = refusals
        near = KeyedRetriever(bank, Selection(k=_NEIGHBOURS, before=1, rebind=True))
        self._check = NeighbourCheck(near, self.origins, self.rules.neighbours)
        self._gate = Gate(bank, self.origins, self._check, self.rules)

    async def admit(
        self, tenant: str, offers: Sequence[Offer], *, cause: str = "harvested"
    ) -> list[Admission]:
        """Lets trajectories of traffic into the bank, quarantines or refuses them.

        Raises:
            StoreError: The database cannot be used.
            RetrievalError: The embedder fails, or another one built the bank.
        """
        return await self._gate.admit(tenant, offers, cause=cause)

    async def promote(self, tenant: str, episode_id: str) -> Promotion:
        """Decides over the teacher's answers in one episode, as far as its outcome is known.

        Raises:
            StoreError: The database cannot be used.
            RetrievalError: The embedder fails, or another one built the bank.
        """
        episode = await self._episodes.episode(tenant, episode_id)
        traces = await self._episodes.traces(tenant, episode_id=episode_id, limit=_ALL)
        await asyncio.to_thread(self.candidates.take, traces)
        verdicts, reason = await self._verdicts(tenant, episode, traces)
        await asyncio.to_thread(self.candidates.settle, tenant, verdicts, self._clock())
        states = [state for state, _ in verdicts.values()]
        return Promotion(
            episode_id,
            states.count("promoted"),
            states.count("quarantined"),
            states.count("rejected"),
            reason,
        )

    async def look(self, tenant: str) -> int:
        """Takes the teacher's answers among new traces as candidates; how many are new.

        Raises:
            StoreError: The database cannot be used.
        """
        scan = await asyncio.to_thread(self.candidates.scan, tenant)
        await asyncio.to_thread(self.origins.mark_used, tenant, scan.used_at_s)
        return scan.candidates

    async def curate(self, tenant: str) -> Curated:
        """One run over all that is new, and over the bank.

        Raises:
            StoreError: The database cannot be used.
            RetrievalError: The embedder fails, or another one built the bank.
        """
        await self._complete(tenant)
        candidates = await self.look(tenant)
        overturned = await self._overturn(tenant)
        waiting = await asyncio.to_thread(self.candidates.waiting_episodes, tenant)
        promotions = [await self.promote(tenant, episode_id) for episode_id in waiting]
        outdated = await self._retire_outdated(tenant)
        idle = await self._retire_idle(tenant)
        restored = await self._restore(tenant)
        contradicting = await self._quarantine_contradicting(tenant)
        harmful = await self._quarantine_harmful(tenant)
        return Curated(
            candidates=candidates,
            promoted=sum(one.promoted for one in promotions),
            waiting=sum(one.quarantined for one in promotions),
            rejected=sum(one.rejected for one in promotions),
            overturned=overturned,
            outdated=outdated,
            idle=idle,
            contradicting=contradicting,
            restored=restored,
            harmful=harmful,
        )

    async def tools(self, tenant: str, episode_id: str) -> Mapping[str, str]:
        """Hash of each tool that the steps of an episode offered, by its name."""
        return await asyncio.to_thread(self.exposures.tools_of_episode, tenant, episode_id)

    async def revoke(self, tenant: str, key_id: str) -> tuple[int, int]:
        """Retires all that a key wrote, and refuses it from now on.

        Returns:
            Trajectories retired, and candidates rejected.
        """
        retired = await self._bank.revoke(tenant, key_id)
        rejected = await asyncio.to_thread(
            self.candidates.reject_writer, tenant, key_id, self._clock()
        )
        return retired, rejected

    async def quarantined(self, tenant: str) -> Sequence[Held]:
        """Trajectories in quarantine, with the reason, the latest first."""
        return await asyncio.to_thread(self.origins.held, tenant)

    async def candidate_counts(self, tenant: str) -> Mapping[tuple[str, str], int]:
        """Number of candidates by state and reason."""
        return await asyncio.to_thread(self.candidates.counts, tenant)

    async def worth(self, tenant: str, *, steps: bool = True) -> list[Worth]:
        """The utility of every trajectory that was found for a step, the worst first.

        Args:
            tenant: Whose.
            steps: Whether agreement is measured, too, for which traces have to be read.
        """
        since_s = self._clock() - self.rules.window_s
        exposures = await asyncio.to_thread(self.exposures.of_tenant, tenant, since_s=since_s)
        success = await asyncio.to_thread(self.exposures.outcomes, tenant, since_s=since_s)
        heard: dict[tuple[str, int], bool] = {}
        if steps:
            heard = await asyncio.to_thread(self.exposures.heard, tenant, since_s=since_s)
        measured: list[dict[str, Utility]] = []
        for tallies, rate in (tally_episodes(exposures, success), tally_steps(exposures, heard)):
            measured.append(
                {
                    id: utility(id, tally, rate, confidence=self.rules.confidence)
                    for id, tally in tallies.items()
                }
            )
        by_episode, by_step = measured
        found = [Worth(id, by_episode.get(id), by_step.get(id)) for id in {**by_episode, **by_step}]
        return sorted(found, key=_worst_first)

    async def _verdicts(
        self, tenant: str, episode: EpisodeRecord | None, traces: Sequence[Trace]
    ) -> tuple[dict[str, tuple[CandidateState, str]], str]:
        """State and reason by the id of a trace, and why there is no demonstration."""
        answers = [
            trace
            for trace in traces
            if trace.decision.served == "teacher" and trace.finished and not trace.no_train
        ]

        def all_of(state: CandidateState, reason: str) -> dict[str, tuple[CandidateState, str]]:
            return {trace.id: (state, reason) for trace in answers}

        if not answers:
            return {}, "it has no answer of a teacher to learn from"
        if episode is None or episode.success is None:
            return all_of("quarantined", WAITING), WAITING
        if not episode.success:
            reason = "its episode did not succeed"
            # It may be in quarantine since its outcome was another one.
            states = _all([episode.id], "retired")
            await self._bank.change(tenant, states, OVERTURNED, cause="outcomes overturned")
            return all_of("rejected", reason), reason
        if self._leave_out is not None and await self._leave_out(episode):
            reason = "its episode measures, and must not become an example"
            return all_of("rejected", reason), reason
        if any(trace.no_train for trace in traces):
            reason = "the client forbade to learn from a step of its episode"
            return all_of("rejected", reason), reason
        trajectory = harvest(
            traces,
            episode,
            source=self._source or answers[0].model,
            mixed=True,
            refusals=self._refusals,
            keep_recovery=True,
            keep_idle=False,
        )
        steps = episode_steps(traces, episode)
        if trajectory is None:
            newest_s = max(trace.created_at_s for trace in traces)
            if not steps and self._clock() - newest_s < self.rules.late_s:
                reason = "a step of its episode is not stored yet"
                return all_of("quarantined", reason), reason
            reason = "a step of its episode is missing or names no action"
            return all_of("rejected", reason), reason
        (admission,) = await self.admit(tenant, [await self._offer(tenant, trajectory, steps)])
        held = await asyncio.to_thread(self.origins.state, tenant, trajectory.id)
        verdicts = all_of("rejected", "another answer took its place")
        for step in credit_steps(steps, self._refusals):
            if step.trace.id in verdicts:
                verdicts[step.trace.id] = _verdict(admission, held, step.reason)
        return verdicts, admission.reason or ""

    async def _offer(self, tenant: str, trajectory: Trajectory, steps: Sequence[Trace]) -> Offer:
        called = called_tools(trajectory)
        tools: dict[str, str] = {}
        if called:
            offered = await self.tools(tenant, trajectory.id)
            tools = {name: digest for name, digest in offered.items() if name in called}
        return Offer(trajectory, writers_of(steps), tools)

    async def _complete(self, tenant: str) -> None:
        if not await asyncio.to_thread(self.origins.is_complete, tenant):
            rows = await self._bank.everything(tenant)
            await asyncio.to_thread(self.origins.complete, tenant, rows, self._clock())

    async def _overturn(self, tenant: str) -> int:
        ids = await asyncio.to_thread(self.candidates.overturned_episodes, tenant)
        for episode_id in ids:
            held = await asyncio.to_thread(self.candidates.of_episode, tenant, episode_id)
            verdicts: dict[str, tuple[CandidateState, str]] = {
                one.trace_id: ("rejected", OVERTURNED) for one in held
            }
            await asyncio.to_thread(self.candidates.settle, tenant, verdicts, self._clock())
        return await self._bank.change(
            tenant, _all(ids, "retired"), OVERTURNED, cause="outcomes overturned"
        )

    async def _retire_outdated(self, tenant: str) -> int:
        sets = await asyncio.to_thread(self.exposures.tool_sets, tenant)
        is_stale = stale_tools(sets, self.rules.tools_grace_s)
        by_tool: dict[str, list[str]] = {}
        for trajectory_id, tools in (await asyncio.to_thread(self.origins.tools, tenant)).items():
            stale = [name for name, digest in sorted(tools.items()) if is_stale(name, digest)]
            if stale:
                by_tool.setdefault(stale[0], []).append(trajectory_id)
        retired = 0
        for name, ids in sorted(by_tool.items()):
            reason = f"the schema of its tool {name} has changed"
            states = _all(ids, "retired")
            retired += await self._bank.change(tenant, states, reason, cause=f"tool {name} changed")
        return retired

    async def _retire_idle(self, tenant: str) -> int:
        if self.rules.idle_s is None:
            return 0
        before_s = self._clock() - self.rules.idle_s
        ids = await asyncio.to_thread(self.origins.idle, tenant, before_s)
        days = round(self.rules.idle_s / 86_400)
        reason = f"it was not shown for {days} days"
        states = _all(ids, "retired")
        return await self._bank.change(tenant, states, reason, cause="idle ones retired")

    async def _restore(self, tenant: str) -> int:
        held = [one for one in await self.quarantined(tenant) if one.reason.startswith(CONTRADICTS)]
        known = await self._bank.known(tenant, [one.trajectory_id for one in held])
        fine = []
        for one in held:
            trajectory = known[one.trajectory_id]
            judgement = await self._check.judge(trajectory, frozenset(one.writers))
            if not self._check.is_contradiction(judgement):
                fine.append(one.trajectory_id)
        states = _all(fine, "active")
        return await self._bank.change(tenant, states, "", cause="contradictions gone")

    async def _quarantine_contradicting(self, tenant: str) -> int:
        due = await asyncio.to_thread(self.origins.due, tenant, self.rules.checks)
        known = await self._bank.known(tenant, due)
        writers = await asyncio.to_thread(self.origins.writers, tenant, due, wrote_only=True)
        reasons: dict[str, str] = {}
        for trajectory_id in due:
            own = frozenset(writers.get(trajectory_id, ()))
            judgement = await self._check.judge(known[trajectory_id], own, suspects=reasons.keys())
            if self._check.is_contradiction(judgement):
                reasons[trajectory_id] = f"{CONTRADICTS} ({judgement.example})"
        await asyncio.to_thread(self.origins.mark_checked, tenant, due, self._clock())
        states = _all(reasons, "quarantined")
        return await self._bank.change(tenant, states, reasons, cause="contradictions quarantined")

    async def _quarantine_harmful(self, tenant: str) -> int:
        harmful = [
            one.trajectory_id
            for one in await self.worth(tenant, steps=False)
            if one.episodes is not None
            and one.episodes.left_out >= self.rules.least_left_out
            and one.episodes.is_harmful
        ]
        active = {trajectory.id for trajectory in await self._bank.trajectories(tenant)}
        states = _all([id for id in harmful if id in active], "quarantined")
        return await self._bank.change(tenant, states, HARMFUL, cause="harmful ones quarantined")


def writers_of(steps: Sequence[Trace]) -> frozenset[str]:
    """Ids of the keys that the teacher's steps came with."""
    return frozenset(
        trace.key_id
        for trace in steps
        if trace.key_id is not None and trace.decision.served == "teacher"
    )


def _all(ids: Iterable[str], state: State) -> dict[str, State]:
    return dict.fromkeys(ids, state)


def _verdict(
    admission: Admission, stored: tuple[State, str] | None, no_credit: str
) -> tuple[CandidateState, str]:
    if no_credit:
        return "rejected", no_credit
    if stored is None:
        waits = admission.reason == WRITER_FULL
        return "quarantined" if waits else "rejected", admission.reason or ""
    state, reason = stored
    if admission.outcome == "rejected":
        return "rejected", admission.reason or ""
    if state == "active":
        return "promoted", ""
    return "quarantined" if state == "quarantined" else "rejected", reason


def _worst_first(worth: Worth) -> tuple[float, float, str]:
    episodes, steps = (
        one.upper - one.lower_without if one is not None else 1.0
        for one in (worth.episodes, worth.steps)
    )
    return (episodes, steps, worth.trajectory_id)
