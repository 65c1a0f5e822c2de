"""A runtime that opens its parts at the first request, in the event loop that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from tutelage.runtime.config import Config
from tutelage.runtime.episode import Episode
from tutelage.runtime.ids import new_id
from tutelage.runtime.types import Answer, ChatRequest

if TYPE_CHECKING:
    from tutelage.runtime.models.sdk import ClientModel
    from tutelage.runtime.pipeline import Runtime


class LazyRuntime:
    """Serves as ``Runtime`` does; opens database, bank and student when first used.

    Args:
        config: What to open.
        teacher: Makes the teacher.
    """

    def __init__(self, config: Config, teacher: Callable[[], ClientModel]) -> None:
        self._config = config
        self._teacher = teacher
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._runtime: Runtime | None = None

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Answer:
        """Serves one step.

        Raises:
            ModelError: The teacher was needed and failed.
            TutelageError: A part could not be opened.
        """
        return await (await self._opened()).complete(request, episode=episode)

    async def stream(
        self, request: ChatRequest, *, episode: Episode | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """Serves one step as chunks.

        Raises:
            ModelError: The teacher was needed and failed.
            TutelageError: A part could not be opened.
        """
        async with aclosing((await self._opened()).stream(request, episode=episode)) as live:
            async for chunk in live:
                yield chunk

    def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> Episode:
        """Opens an episode; use it as ``async with``."""
        return Episode(
            self,
            id=id or new_id(),
            tenant=tenant or self._config.tenant,
            goal=goal,
            task_id=task_id,
        )

    async def record_episode(
        self, episode: Episode, *, success: bool | None = None, reward: float | None = None
    ) -> None:
        """Stores an episode and its outcome.

        Raises:
            StoreError: It could be neither stored nor spooled.
        """
        runtime = await self._opened()
        await runtime.record_episode(episode, success=success, reward=reward)

    async def aclose(self) -> None:
        """Closes what was opened; a later request opens it again."""
        async with self._lock:
            self._runtime = None
            await self._stack.aclose()

    async def _opened(self) -> Runtime:
        from tutelage.assembly import open_assembly

        async with self._lock:
            if self._runtime is None:
                # What was opened before a part failed is closed again; the next request retries.
                async with AsyncExitStack() as stack:
                    assembly = await stack.enter_async_context(open_assembly(self._config))
                    student = await assembly.student()
                    teacher = self._teacher()
                    stack.push_async_callback(teacher.aclose)
                    self._runtime = assembly.runtime(
                        teacher=teacher, student=student, releases=True
                    )
                    # First of all, what it still does with teacher and store is finished.
                    stack.push_async_callback(self._runtime.aclose)
                    self._stack = stack.pop_all()
            return self._runtime
