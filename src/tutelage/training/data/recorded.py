"""A recorded episode: its outcome, its steps and what the teacher said of them afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.runtime.types import EpisodeRecord, StepAudit, Trace

REFUSALS = ("nothing happens",)
"""What an observation starts with when the environment has refused the action before it."""


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """All that the store holds of one episode."""

    episode: EpisodeRecord
    traces: tuple[Trace, ...]
    """In any order; a step may have been asked more than once."""
    audits: Mapping[str, StepAudit] = field(default_factory=dict)
    """By trace id."""
    family: str = ""
    """Kind of task, where it is known."""

    def latest(self) -> dict[int, Trace]:
        """The finished trace that counts for each step: the latest, by time and then by id."""
        ordered = sorted(self._own(), key=lambda trace: (trace.created_at_s, trace.id))
        return {trace.step_index: trace for trace in ordered if trace.finished}

    def steps(self) -> tuple[Trace, ...]:
        """One trace for each step from the first; empty if a step is missing or broke off."""
        latest = self.latest()
        asked = sorted({trace.step_index for trace in self._own()})
        if asked != list(range(len(latest))):
            return ()
        return tuple(latest[index] for index in range(len(latest)))

    def _own(self) -> list[Trace]:
        own = (self.episode.tenant, self.episode.id)
        return [trace for trace in self.traces if (trace.tenant, trace.episode_id) == own]


def record_episodes(
    traces: Iterable[Trace],
    episodes: Iterable[EpisodeRecord],
    audits: Iterable[StepAudit] = (),
    families: Mapping[str, str] | None = None,
) -> tuple[RecordedEpisode, ...]:
    """Joins what the stores return, by tenant and episode; ordered by tenant and id.

    A trace whose episode is not given is judged as one of an episode without outcome.

    Args:
        traces: In any order.
        episodes: Their outcomes.
        audits: What the teacher said afterwards.
        families: Kind of task by the environment's id of the task.
    """
    families = families or {}
    by_episode: dict[tuple[str, str], list[Trace]] = defaultdict(list)
    for trace in traces:
        by_episode[trace.tenant, trace.episode_id].append(trace)
    said: dict[tuple[str, str], dict[str, StepAudit]] = defaultdict(dict)
    for audit in audits:
        said[audit.tenant, audit.episode_id][audit.trace_id] = audit
    records = {(episode.tenant, episode.id): episode for episode in episodes}
    found = []
    for key in sorted({*by_episode, *records}):
        own = tuple(sorted(by_episode.get(key, ()), key=lambda trace: trace.id))
        record = records.get(key)
        if record is None:
            record = EpisodeRecord(tenant=key[0], id=key[1], created_at_s=own[0].created_at_s)
        family = families.get(record.task_id or "", "")
        found.append(RecordedEpisode(record, own, said.get(key, {}), family))
    return tuple(found)


def is_refusal(observation: str, marks: Sequence[str] = REFUSALS) -> bool:
    """Whether an observation says that the action before it was refused.

    Args:
        observation: What the agent saw.
        marks: Openings of such an observation, compared without case and leading blanks.
    """
    seen = observation.lstrip().casefold()
    return any(seen.startswith(mark.casefold()) for mark in marks)
