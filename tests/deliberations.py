"""Deliberations and what stands around them, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.paper import Paper
from tutelage.runtime.deliberation import (
    Deliberation,
    Deliberator,
    new_deliberation,
)
from tutelage.runtime.episode import Episode
from tutelage.runtime.prompt import PromptSettings
from tutelage.runtime.types import (
    ChatRequest,
    Completion,
    Decision,
    Demonstration,
    Mode,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
    Turn,
)


def words(text: str) -> int:
    return len(text.split())


class NoServer:
    """Episodes are only looked at here."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Any:
        raise AssertionError("no episode serves itself")

    async def record_episode(self, episode: Episode, **outcome: Any) -> None:
        raise AssertionError("no episode is recorded")


class Shelf:
    """Finds what it is told to; counts how often it is asked."""

    def __init__(self, id: str = "d", error: Exception | None = None) -> None:
        self.id, self.error, self.asked = id, error, 0

    async def search(self, step: Step) -> Sequence[Retrieved]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        shown = Demonstration(
            id=f"{self.id}:0",
            tenant=step.tenant,
            trajectory_id=self.id,
            step_index=0,
            goal="tidy the hall.",
            window=(Turn("A hall.", "sweep"),),
            source="oracle:test",
        )
        return [Retrieved(shown, 0.9)]


class Hanging:
    """A student or retriever that never comes back."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    async def search(self, step: Step) -> Sequence[Retrieved]:
        await asyncio.Event().wait()
        return ()


class Failing(Paper):
    """A policy with a fault, in its plan or in its decision."""

    def __init__(self, error: Exception, *, plans: bool = False) -> None:
        super().__init__()
        self.error, self.plans = error, plans

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        if self.plans:
            raise self.error
        return super().plan(step, demonstrations)

    def decide(self, *_: Any) -> Decision:
        raise self.error


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {
            "model": "alias",
            "messages": [{"role": "user", "content": "Task: tidy.\nA room."}],
            **fields,
        }
    )


def thought(mode: Mode = "cascade", **fields: Any) -> Deliberation:
    episode = Episode(NoServer(), id="e", tenant="acme")
    return new_deliberation(request(**fields), episode, "id", 0.0, mode)


def deliberator(student: Any = None, **parts: Any) -> Deliberator:
    made: dict[str, Any] = {
        "student": student,
        "retriever": None,
        "pinned_retriever": None,
        "agreement": Unanimous(TextCanonicalizer()),
        "policy": Paper(),
        "prompt": PromptSettings(),
        "count_tokens": words,
        "student_deadline_s": None,
        "timer": lambda: 1.0,
        **parts,
    }
    return Deliberator(**made)


async def decided(made: Deliberator, about: Deliberation, force: Any = None) -> tuple[str, Reason]:
    await made.deliberate(about, force)
    return about.decision.served, about.decision.reason
