"""A user's own successful episodes to demonstrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.assembly import Assembly

if TYPE_CHECKING:
    from tutelage.retrieval.bank import Admission
    from tutelage.runtime.types import EpisodeRecord, Trace

ALL_ROWS = 2**31 - 1

# How a replay names what it plays: the arm and 32 hexadecimal digits, and the model it asks for.
_REPLAYED_MODEL = "tutelage"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What became of a tenant's successful episodes: each is new, a duplicate, or rejected."""

    successful: int
    """Episodes with the feedback ``success=True``, those of benchmarks not counted."""
    added: int
    duplicates: int
    """Episodes that are in the bank already, or were retired from it."""
    rejected: Mapping[str, int]
    """Number of episodes by the reason why they are not fit."""
    benchmark: int
    """Successful episodes of replays: ``tutelage collect`` alone makes demonstrations of those."""
    demonstrations: int
    """Demonstrations of the tenant in the bank now."""


async def gather(
    assembly: Assembly, tenant: str, *, mixed: bool = False, source: str | None = None
) -> Gathered:
    """Puts a tenant's successful episodes into the bank; doing it again adds only new ones.

    Args:
        assembly: Store and bank.
        tenant: Whose episodes are taken, and whose demonstrations they become.
        mixed: Whether episodes in which the student took steps are taken, too; its steps are shown
            as what came before the teacher's, and never imitated.
        source: Who the teacher was; absent: the configured model, else the one asked for.

    Raises:
        StoreError: The store cannot be read, or the bank cannot be written.
        RetrievalError: The embedder fails, or another one built the bank.
    """
    from tutelage.curating import curator
    from tutelage.retrieval.admission import Offer
    from tutelage.retrieval.curation import writers_of
    from tutelage.retrieval.harvest import harvest
    from tutelage.retrieval.tool_schema import called_tools

    keeper = curator(assembly)
    source = source or assembly.config.teacher.model
    in_bank = {trajectory.id for trajectory in await assembly.bank.trajectories(tenant)}
    offers = []
    rejected: Counter[str] = Counter()
    successful = duplicates = benchmark = 0
    for episode in await assembly.traces.episodes(
        tenant, success=True, limit=ALL_ROWS, newest_first=False
    ):
        if await is_replayed(assembly, episode):
            benchmark += 1
            continue
        successful += 1
        if episode.id in in_bank:
            duplicates += 1
            continue
        traces = await assembly.traces.traces(tenant, episode_id=episode.id, limit=ALL_ROWS)
        found = harvest(
            traces,
            episode,
            source=source or (traces[0].model if traces else ""),
            mixed=mixed,
            keep_recovery=mixed,
        )
        if found is None:
            rejected[_why_not(traces, mixed=mixed)] += 1
            continue
        called = called_tools(found)
        seen = await keeper.tools(tenant, episode.id) if called else {}
        tools = {name: digest for name, digest in seen.items() if name in called}
        offers.append(Offer(found, writers_of(traces), tools))
    admissions = await keeper.admit(tenant, offers)
    await keeper.look(tenant)
    outcomes = Counter(admission.outcome for admission in admissions)
    rejected.update(_told(one) for one in admissions if one.outcome in ("rejected", "quarantined"))
    return Gathered(
        successful=successful,
        added=outcomes["added"],
        duplicates=duplicates + outcomes["duplicate"],
        rejected=dict(sorted(rejected.items())),
        benchmark=benchmark,
        demonstrations=await assembly.bank.size(tenant),
    )


async def is_replayed(assembly: Assembly, episode: EpisodeRecord) -> bool:
    """Whether a benchmark played the episode: games that measure must not become examples."""
    from tutelage.benchmarks.replay import is_replayed as has_such_an_id

    if not has_such_an_id(episode.id, episode.task_id):
        return False
    first = await assembly.traces.traces(episode.tenant, episode_id=episode.id, limit=1)
    return all(trace.model == _REPLAYED_MODEL for trace in first)


def _told(admission: Admission) -> str:
    """Why a trajectory was not taken, without what is particular to it."""
    reason = (admission.reason or "").partition(" (")[0]
    return f"quarantined: {reason}" if admission.outcome == "quarantined" else reason


def _why_not(traces: Sequence[Trace], *, mixed: bool) -> str:
    served = {trace.decision.served for trace in traces}
    if not traces:
        return "none of its steps is stored"
    if any(trace.no_train for trace in traces):
        return "its client forbade to learn from it (x-tutelage-no-train)"
    if "teacher" not in served:
        return "the student took every step"
    if "student" in served and not mixed:
        return "the student took a step (--mixed takes such episodes)"
    return "a step is missing or names no action"
