"""The teacher mends the first bad step of the student's own episode, and the student goes on.

The step-level form of sequence correction in Liu et al., Multi-granularity semantic revision,
arXiv 2407.10068, of which the method section was not at hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.training.data.example import TrainingExample
from tutelage.training.data.examples import Lesson, corrected, is_disagreement
from tutelage.training.data.recorded import RecordedEpisode
from tutelage.training.data.transcript import transcript

Pick = Literal["first", "gravest"]
"""The first step that differs, or the one at which the teacher is surest that it is wrong."""


@dataclass(frozen=True, slots=True)
class ComparedStep:
    """What both would do in one state of the student's episode."""

    student: str
    """Canonical key."""
    teacher: str | None
    """Canonical key; ``None``: the teacher was not asked, or named no action."""
    divergence: float = 0.0
    """How far they are apart, such as KL(teacher || student) in nats; for ``gravest``."""


@dataclass(frozen=True, slots=True)
class Revision:
    """An episode with one step mended."""

    step: int | None
    """Which one; ``None``: there was nothing to mend."""
    actions: tuple[str, ...]


def bad_step(steps: Sequence[ComparedStep], pick: Pick = "first") -> int | None:
    """The step to mend; ``None`` if the teacher differs nowhere."""
    differing = [
        index
        for index, step in enumerate(steps)
        if step.teacher is not None and step.teacher != step.student
    ]
    if not differing or pick == "first":
        return differing[0] if differing else None
    return max(differing, key=lambda index: (steps[index].divergence, -index))


async def revise(
    steps: Sequence[ComparedStep],
    go_on: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    pick: Pick = "first",
) -> Revision:
    """Replaces one step by the teacher's; all after it is the student's, anew.

    Args:
        steps: The student's episode.
        go_on: The actions until and with the mended one -> what the student does after them.
        pick: Which step is mended.
    """
    index = bad_step(steps, pick)
    own = [step.student for step in steps]
    if index is None:
        return Revision(None, tuple(own))
    mended = steps[index].teacher
    assert mended is not None
    kept = [*own[:index], mended]
    return Revision(index, (*kept, *await go_on(kept)))


def compared_steps(recorded: RecordedEpisode) -> tuple[ComparedStep, ...]:
    """A recorded episode step by step, by its audits and by the samples beside the teacher.

    A step of the teacher compares the sample that the student was surest of; one without samples
    counts as equal. An audit that agrees, or names nothing, does too.
    """
    found = []
    for trace in recorded.steps():
        audit = recorded.audits.get(trace.id)
        if trace.decision.served == "teacher":
            named = [sample.action for sample in trace.samples if sample.action is not None]
            taught = trace.action or trace.answer.strip()
            modal = max(named, key=named.count) if named else taught
            found.append(ComparedStep(modal, taught))
        else:
            said = audit.action if audit is not None and is_disagreement(audit) else None
            found.append(ComparedStep(trace.action or trace.answer.strip(), said))
    return tuple(found)


def first_correction(recorded: RecordedEpisode) -> TrainingExample | None:
    """The chat until the first bad step, with loss on what the teacher did or said there.

    Returns:
        ``None`` if a step is missing, or student and teacher differ nowhere.
    """
    steps = recorded.steps()
    compared = compared_steps(recorded)
    index = bad_step(compared)
    if index is None:
        return None
    trace = steps[index]
    key = compared[index].teacher or ""
    answer = trace.answer.strip() if trace.decision.served == "teacher" else key
    lesson = Lesson(index, answer, "correction", trace.id, key)
    return corrected(recorded, transcript(steps), lesson)
