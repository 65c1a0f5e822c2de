"""Small recorded episodes: who served each step, what was seen and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tutelage.runtime.offered_tools import tools_sha256
from tutelage.runtime.types import (
    Decision,
    EpisodeRecord,
    Reason,
    Sample,
    Served,
    StepAudit,
    Trace,
)
from tutelage.training.data.recorded import RecordedEpisode

Row = tuple[str, str, Served]
"""Observation, answer, who served."""

SYSTEM = {"role": "system", "content": "You play."}


def words(text: str) -> int:
    return len(text.split())


def record(
    id: str = "e1",
    *,
    success: bool | None = True,
    tenant: str = "acme",
    task_id: str | None = "game-1",
    goal: str = "put a mug away",
) -> EpisodeRecord:
    return EpisodeRecord(
        id=id, tenant=tenant, goal=goal, task_id=task_id, success=success, created_at_s=1.0
    )


def chat(rows: Sequence[Row], upto: int, goal: str) -> list[dict[str, Any]]:
    """What an agent sends when it asks for a step."""
    messages: list[dict[str, Any]] = [
        SYSTEM,
        {"role": "user", "content": f"Task: {goal}\n{rows[0][0]}"},
    ]
    for index in range(upto):
        messages.append({"role": "assistant", "content": rows[index][1]})
        messages.append({"role": "user", "content": rows[index + 1][0]})
    return messages


def played(
    rows: Sequence[Row],
    episode: EpisodeRecord | None = None,
    *,
    samples: Sequence[str] = (),
    family: str = "",
    audits: Sequence[tuple[int, str | None, bool | None]] = (),
) -> RecordedEpisode:
    """An episode; ``audits`` are step, the teacher's action and whether it agrees."""
    episode = episode or record()
    traces = [
        Trace(
            id=f"{episode.id}-{index}",
            tenant=episode.tenant,
            episode_id=episode.id,
            step_index=index,
            created_at_s=float(index),
            model="agent",
            goal=episode.goal or "",
            observation=seen,
            answer=done,
            action=done.strip().lower() or None,
            decision=Decision(served=served, reason=Reason.ALWAYS),
            samples=tuple(Sample(text=one, action=one) for one in samples),
            prompt=tuple(chat(rows, index, episode.goal or "")),
        )
        for index, (seen, done, served) in enumerate(rows)
    ]
    said = {
        f"{episode.id}-{step}": StepAudit(
            trace_id=f"{episode.id}-{step}",
            tenant=episode.tenant,
            episode_id=episode.id,
            step_index=step,
            created_at_s=9.0,
            propensity=1.0,
            action=action,
            agrees=agrees,
        )
        for step, action, agrees in audits
    }
    return RecordedEpisode(episode, tuple(traces), said, family)


def offering(recorded: RecordedEpisode, *names: str) -> RecordedEpisode:
    """The episode with a tool of such a name offered at each step; an empty name: none."""
    traces = []
    for trace, name in zip(recorded.traces, names, strict=True):
        tools = ({"type": "function", "function": {"name": name}},) if name else ()
        offered = {"tools": tools, "tools_sha256": tools_sha256(tools)}
        traces.append(trace.model_copy(update=offered))
    return replace(recorded, traces=tuple(traces))


def all_ids(recorded: RecordedEpisode) -> frozenset[str]:
    return frozenset(trace.id for trace in recorded.traces)


TAUGHT: list[Row] = [
    ("a room", "open box", "teacher"),
    ("a mug", "take mug", "teacher"),
    ("you hold it", "move mug to shelf", "teacher"),
]
MIXED: list[Row] = [
    ("a room", "open box", "teacher"),
    ("a mug", "go to shelf 9", "student"),
    ("Nothing happens.", "take mug", "teacher"),
    ("you hold it", "go to shelf", "student"),
    ("a shelf", "move mug to shelf", "teacher"),
]
