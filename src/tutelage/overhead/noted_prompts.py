"""What a student is sent at recorded steps: the prompts, without asking anybody."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tutelage.assembly import Assembly
from tutelage.policies import Choice
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import ChatRequest, Completion


class NotedModel:
    """A model that notes what it is asked, and always answers the same."""

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self._silent = ScriptedModel("look")

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Notes the request."""
        self.requests.append(request)
        return await self._silent.complete(request, n)

    def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Notes the request."""
        self.requests.append(request)
        return self._silent.stream(request)


async def noted_prompts(
    assembly: Assembly,
    tenant: str,
    episodes: Sequence[tuple[str | None, Sequence[ChatRequest]]],
    *,
    demonstrations: bool = True,
) -> list[ChatRequest]:
    """The student's requests at every step of episodes, one greedy answer a step.

    Args:
        assembly: With retrieval and layout.
        tenant: Whose demonstrations are shown.
        episodes: Id of the task, whose own demonstrations are left out, and the client's requests.
        demonstrations: Whether any are shown.
    """
    noted = NotedModel()
    runtime = assembly.runtime(
        teacher=ScriptedModel("look"),
        student=noted,
        choice=Choice(policy="always-student", guards=(), bare=True),
        demonstrations=demonstrations,
        traces=MemoryTraceStore(),
    )
    for task_id, requests in episodes:
        episode = runtime.episode(tenant=tenant, task_id=task_id)
        for request in requests:
            await runtime.complete(request, episode=episode)
    assert len(noted.requests) == sum(len(requests) for _, requests in episodes)
    return noted.requests
