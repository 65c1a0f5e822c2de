"""How much larger than its student a teacher had best be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tutelage.runtime.errors import TrainingError

LEAST_RATIO, MOST_RATIO = 2.0, 5.0
"""Between the law that was fitted below 3e9 parameters (2.5) and the best ratio seen of small
pretrained students (4.7)."""

Fit = Literal["within", "teacher too small", "teacher too large", "not applicable"]


@dataclass(frozen=True, slots=True)
class CapacityAdvice:
    """Where a teacher lies in the advised range."""

    fit: Fit
    ratio: float | None
    """Teacher's parameters over the student's."""
    low_parameters: float
    high_parameters: float
    """The advised range of the teacher."""
    text: str


def capacity_advice(
    student_parameters: float, teacher_parameters: float | None, *, text_only: bool = False
) -> CapacityAdvice:
    """Advises a range, which a trial may overrule; it is no gate.

    Sources, as secondary digests report them: the law of capacity gap (a ratio of 2.5, by pruning,
    used at 2.3 for 7e9 to 3e9 parameters) and a 1.5e9 student that did best with a teacher of
    7e9. Neither studied training on text alone.

    Args:
        student_parameters: Of the student; active ones of a mixture of experts.
        teacher_parameters: Likewise; ``None``: an API that does not say.
        text_only: Whether the student sees the teacher's text and no probabilities.

    Raises:
        TrainingError: A number of parameters is not above 0.
    """
    for name, value in (("student", student_parameters), ("teacher", teacher_parameters)):
        if value is not None and value <= 0:
            raise TrainingError(f"capacity: {name}_parameters = {value}: give a number above 0")
    low, high = LEAST_RATIO * student_parameters, MOST_RATIO * student_parameters
    if teacher_parameters is None or text_only:
        why = (
            "its size is unknown" if teacher_parameters is None else "only its text is learnt from"
        )
        text = f"no advice on the teacher's size: {why}"
        ratio = None if teacher_parameters is None else teacher_parameters / student_parameters
        return CapacityAdvice("not applicable", ratio, low, high, text)
    ratio = teacher_parameters / student_parameters
    fit: Fit = "within"
    advice = "inside the advised range"
    if ratio < LEAST_RATIO:
        fit, advice = "teacher too small", "it may have little to teach: try a larger one"
    elif ratio > MOST_RATIO:
        fit, advice = (
            "teacher too large",
            "try a smaller one that is an expert of the task, or a progressive recipe",
        )
    text = (
        f"the teacher is {ratio:.3g} times the student; advised are {LEAST_RATIO:g} to "
        f"{MOST_RATIO:g} ({low:.3g} to {high:.3g} parameters): {advice}; a trial overrules this"
    )
    return CapacityAdvice(fit, ratio, low, high, text)
