"""A step of a trajectory as a demonstration with the turns around it."""

from __future__ import annotations

from tutelage.runtime.types import Demonstration, Trajectory


def imitable_steps(trajectory: Trajectory) -> list[int]:
    """Indexes of the steps to imitate; a student's turn is shown, but not imitated."""
    return [i for i, turn in enumerate(trajectory.turns) if turn.served != "student"]


def cut(trajectory: Trajectory, step_index: int, *, before: int, after: int) -> Demonstration:
    """The demonstration of one step.

    Args:
        trajectory: Where it comes from.
        step_index: The step to imitate.
        before: Turns shown before it, fewer at the start of the trajectory.
        after: Turns shown after it, fewer at the end.
    """
    start = max(0, step_index - before)
    return Demonstration(
        id=f"{trajectory.id}:{step_index}",
        tenant=trajectory.tenant,
        trajectory_id=trajectory.id,
        step_index=step_index,
        goal=trajectory.goal,
        category=trajectory.category,
        plan=trajectory.plan,
        task_id=trajectory.task_id,
        window=trajectory.turns[start : step_index + 1 + after],
        target=step_index - start,
        source=trajectory.source,
    )
