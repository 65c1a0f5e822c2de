"""Traces of a successful episode as a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.retrieval.credit import is_refused
from tutelage.runtime.types import EpisodeRecord, Trace, Trajectory, Turn

REFUSALS = ("Nothing happens",)
"""What an observation starts with when the environment has refused the action before it."""


def harvest(
    traces: Sequence[Trace],
    episode: EpisodeRecord,
    *,
    source: str,
    category: str | None = None,
    plan: str | None = None,
    mixed: bool = False,
    refusals: Sequence[str] = REFUSALS,
    keep_recovery: bool = False,
    keep_idle: bool = True,
    action: Callable[[Trace], str] = lambda trace: trace.answer,
) -> Trajectory | None:
    """The episode as a trajectory to learn from, or ``None`` if it is not fit for that.

    It is fit if it succeeded, if its finished traces cover every step from the first, if nobody
    forbade to learn from one of them, and if the teacher served them all or ``mixed`` is set; each
    turn then says who acted. A refused action is cut
    out, and the next one stands after the observation that both were meant for. With
    ``keep_recovery`` a student's refused action stays when the teacher acted next, so that the bank
    shows how to go on after a refusal; the student's turn is never imitated.

    Args:
        traces: Of this episode, in any order; the latest counts where a step was asked twice.
        episode: Its outcome.
        source: Who the teacher was: a model name, or ``oracle:<name>``.
        category: Kind of task, where it is known.
        plan: The teacher's plan, where there was one.
        mixed: Whether episodes in which the student acted are taken.
        refusals: Openings of an observation that says that the last action was refused; compared
            without case and leading blanks.
        keep_recovery: Whether a student's refused action before a teacher's turn is kept.
        keep_idle: Whether a teacher's turn stays after which the same was seen as before it.
        action: The action in a trace.
    """
    steps = episode_steps(traces, episode)
    if not episode.success or not steps or any(trace.no_train for trace in traces):
        return None
    if not mixed and any(trace.decision.served == "student" for trace in steps):
        return None
    turns = [
        Turn(trace.observation, action(trace).strip(), trace.decision.served) for trace in steps
    ]
    if not keep_idle:
        turns = _without_idle(turns)
    turns = _pruned(turns, tuple(mark.casefold() for mark in refusals), keep_recovery)
    if any(not turn.action for turn in turns) or all(turn.served == "student" for turn in turns):
        return None
    return Trajectory(
        id=episode.id,
        tenant=episode.tenant,
        goal=episode.goal or steps[0].goal,
        turns=tuple(turns),
        success=True,
        category=category,
        plan=plan,
        task_id=episode.task_id,
        source=source,
    )


def episode_steps(traces: Sequence[Trace], episode: EpisodeRecord) -> list[Trace]:
    """The latest finished trace of each step, in their order; empty if a step is missing."""
    own = [t for t in traces if t.tenant == episode.tenant and t.episode_id == episode.id]
    by_time = sorted(own, key=lambda t: t.created_at_s)
    latest = {trace.step_index: trace for trace in by_time if trace.finished}
    # A step whose only answer broke off is a gap, too.
    complete = sorted({trace.step_index for trace in own}) == list(range(len(latest)))
    return [latest[index] for index in range(len(latest))] if complete else []


def _without_idle(turns: Sequence[Turn]) -> list[Turn]:
    """Without the teacher's turns that left everything as it was seen to be."""
    return [
        turn
        for turn, after in zip(turns, [*turns[1:], None], strict=True)
        if turn.served == "student"
        or after is None
        or turn.observation.strip() != after.observation.strip()
    ]


def _pruned(turns: Sequence[Turn], marks: tuple[str, ...], keep_recovery: bool) -> list[Turn]:
    kept: list[Turn] = []
    for turn in turns:
        if kept and is_refused(turn.observation, marks):
            last = kept[-1]
            recovery = last.served == "student" and turn.served == "teacher"
            if not (keep_recovery and recovery):
                kept[-1] = Turn(last.observation, turn.action, turn.served)
                continue
        kept.append(turn)
    return kept
