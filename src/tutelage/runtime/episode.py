"""An episode: the steps of one task, and its outcome."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from tutelage.runtime.types import Answer, ChatRequest, EpisodeRecord, Retrieved, Served


class EpisodeServer(Protocol):
    """What serves the steps of an episode and keeps its outcome."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Answer:
        """Serves one step."""
        ...

    async def record_episode(
        self, episode: Episode, *, success: bool | None = None, reward: float | None = None
    ) -> None:
        """Stores the episode and its outcome."""
        ...


class Episode:
    """The memory of one episode; ``async with runtime.episode(goal=…) as episode``.

    Args:
        runtime: What serves its requests.
        id: Unique within the tenant.
        tenant: Whose episode it is.
        goal: What it is for; read from the opening message if absent.
        task_id: The environment's id of the task; its own demonstrations are never retrieved.
    """

    __slots__ = (
        "_runtime", "goal", "id", "pinned", "release", "served", "spent_usd", "task_id", "tenant"
    )  # fmt: skip

    def __init__(
        self,
        runtime: EpisodeServer,
        *,
        id: str,
        tenant: str,
        goal: str | None = None,
        task_id: str | None = None,
    ) -> None:
        self.id = id
        self.tenant = tenant
        self.goal = goal
        self.task_id = task_id
        self.served: dict[int, Served] = {}
        self.pinned: tuple[Retrieved, ...] | None = None
        self.release: str | None = None
        """Release of the student that served last; ``None``: as it is configured."""
        self.spent_usd = 0.0
        self._runtime = runtime

    async def complete(self, request: ChatRequest) -> Answer:
        """Serves one step of this episode.

        Raises:
            ModelError: The teacher was needed and failed.
        """
        return await self._runtime.complete(request, episode=self)

    async def feedback(self, *, success: bool, reward: float | None = None) -> None:
        """Records how the episode ended.

        Args:
            success: Whether the task was solved.
            reward: A finer score, in the unit of the caller.

        Raises:
            StoreError: The outcome could be neither stored nor spooled.
        """
        await self._runtime.record_episode(self, success=success, reward=reward)

    def record(
        self, *, created_at_s: float, success: bool | None = None, reward: float | None = None
    ) -> EpisodeRecord:
        """The episode as the store keeps it."""
        return EpisodeRecord(
            id=self.id,
            tenant=self.tenant,
            goal=self.goal,
            task_id=self.task_id,
            success=success,
            reward=reward,
            created_at_s=created_at_s,
        )

    async def __aenter__(self) -> Self:
        await self._runtime.record_episode(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
