"""One chat to learn from, with the turns that carry loss and where it came from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Origin = Literal["teacher", "correction", "recovery", "synthetic"]
"""A step of an episode that the teacher played; its answer at a state that the student brought
about; its answer after the student's error; a rewritten copy of one of these."""
Task = Literal["act", "why", "react"]
"""Action alone; reason alone; reason, then action."""


class TrainingExample(BaseModel):
    """A chat and its lineage; loss is taken on the turns in ``supervised`` alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """``<episode id>:<step index>`` for a step, the episode's id for a whole trajectory."""
    tenant: str
    episode_id: str
    messages: tuple[dict[str, Any], ...]
    """The chat in the OpenAI shape, as the student will see it when it serves."""
    tools: tuple[dict[str, Any], ...] = ()
    """Definitions of the tools that are offered with it, in the OpenAI shape."""
    supervised: tuple[int, ...]
    """Indexes of the assistant's messages that carry loss, ascending."""
    origin: Origin = "teacher"
    task: Task = "act"
    family: str = ""
    """Kind of task, where it is known: what mixtures weigh."""
    task_id: str | None = None
    """The environment's id of the task: what decontamination compares."""
    goal: str = ""
    actions: tuple[str, ...] = ()
    """Canonical keys of the supervised turns, in their order, where they are known."""
    weight: float = Field(default=1.0, ge=0)
    """How much it counts beside the others."""
    trace_ids: tuple[str, ...] = ()
    """The traces it was made of."""
