"""The runtime for callers that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.types import Answer, ChatRequest

T = TypeVar("T")

# Chunks read ahead of a caller who takes them slowly.
_READ_AHEAD = 16


class Serving(Protocol):
    """What is used of a ``Runtime``."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> Answer:
        """Serves one step."""
        ...

    def stream(
        self, request: ChatRequest, *, episode: Episode | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Serves one step as chunks."""
        ...

    def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> Episode:
        """Opens an episode."""
        ...

    async def aclose(self) -> None:
        """Writes what is pending and closes everything."""
        ...


class SyncRuntime:
    """A runtime whose calls block; usable from several threads, also inside a running event loop.

    Everything runs on one event loop in a thread of its own, which starts at the first call and
    ends with ``close``. Ctrl-C in the main thread cancels the call it waits for.

    Args:
        runtime: The runtime; it must be used through this object alone.
    """

    def __init__(self, runtime: Serving) -> None:
        self.runtime = runtime
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None
        self._closed = False

    def complete(self, request: ChatRequest, *, episode: SyncEpisode | None = None) -> Answer:
        """Serves one step.

        Raises:
            ModelError: The teacher was needed and failed.
        """
        inner = episode.episode if episode is not None else None
        return self._run(self.runtime.complete(request, episode=inner))

    def stream(
        self, request: ChatRequest, *, episode: SyncEpisode | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Serves one step as chunks; closing the iterator early cancels the call.

        Raises:
            ModelError: The teacher was needed and failed.
        """
        inner = episode.episode if episode is not None else None
        reader = self._run(_Reader.start(self.runtime, request, inner))
        try:
            while (chunk := self._run(reader.next())) is not None:
                yield chunk
        finally:
            # Not waited for: a stream that is dropped may be finalised in any thread.
            reader.stop()

    def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> SyncEpisode:
        """Opens an episode; use it as ``with``."""
        inner = self.runtime.episode(goal=goal, tenant=tenant, task_id=task_id, id=id)
        return SyncEpisode(self, inner)

    def close(self) -> None:
        """Closes the runtime and ends its thread; a second call does nothing."""
        if self._closed:
            return
        try:
            self._run(self.runtime.aclose())
        finally:
            self._closed = True
            with self._lock:
                stop, self._stop, self._loop = self._stop, None, None
            if stop is not None:
                stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs on the loop; waiting is what the caller does."""
        try:
            loop = self._started()
        except TutelageError:
            work.close()
            raise
        call = _Call(work)
        try:
            loop.call_soon_threadsafe(call.start)
            return call.future.result()
        except BaseException:
            # KeyboardInterrupt and the like reach this thread, not the call: stop that too.
            with suppress(RuntimeError):  # the loop has ended, and the call with it
                loop.call_soon_threadsafe(call.cancel)
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise TutelageError("the runtime is closed: make a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="tutelage-runtime", daemon=True
                )
                self._thread.start()
                self._stop = weakref.finalize(self, _end, self._loop, self._thread)
            elif self._thread is threading.current_thread():
                raise TutelageError(
                    "a blocking call was made on the event loop that would have to serve it: "
                    "await the asynchronous form there"
                )
            return self._loop


class SyncEpisode:
    """An episode for callers that are not asynchronous; ``with runtime.episode(goal=…)``.

    Args:
        runtime: What runs its calls.
        episode: The episode itself.
    """

    def __init__(self, runtime: SyncRuntime, episode: Episode) -> None:
        self.episode = episode
        self._runtime = runtime

    @property
    def id(self) -> str:
        """Unique within the tenant."""
        return self.episode.id

    def complete(self, request: ChatRequest) -> Answer:
        """Serves one step of this episode.

        Raises:
            ModelError: The teacher was needed and failed.
        """
        return self._runtime.complete(request, episode=self)

    def feedback(self, *, success: bool, reward: float | None = None) -> None:
        """Records how the episode ended.

        Raises:
            StoreError: The outcome could be neither stored nor spooled.
        """
        self._runtime._run(self.episode.feedback(success=success, reward=reward))

    def __enter__(self) -> Self:
        self._runtime._run(self.episode.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runtime._run(self.episode.__aexit__(kind, error, trace))


class _Call(Generic[T]):
    """A coroutine that runs on a loop while another thread waits for it.

    Unlike ``asyncio.run_coroutine_threadsafe`` it exists before anything is scheduled, so that no
    moment is left at which an interrupt would lose hold of a call that runs.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.future: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False

    def start(self) -> None:
        """Begins; called on the loop."""
        if self._cancelled:
            self._work.close()
            return
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._tell)

    def cancel(self) -> None:
        """Gives up; called on the loop."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _tell(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.future.set_exception(
                TutelageError("the call was cancelled, for instance by closing the runtime")
            )
        elif (error := task.exception()) is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())


class _Reader:
    """Reads a stream in one task, because timeouts and cancellation belong to a task."""

    def __init__(self, chunks: AsyncIterator[dict[str, Any]]) -> None:
        self._chunks = cast(AsyncGenerator[dict[str, Any], None], chunks)
        self._room = asyncio.Semaphore(_READ_AHEAD)
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._read())
        self._task.add_done_callback(self._end)

    @classmethod
    async def start(cls, runtime: Serving, request: ChatRequest, episode: Episode | None) -> Self:
        return cls(runtime.stream(request, episode=episode))

    async def next(self) -> dict[str, Any] | None:
        """The next chunk; ``None`` after the last. Raises what ended the stream."""
        chunk = await self._queue.get()
        self._room.release()
        if chunk is None:
            await self._task
        return chunk

    def stop(self) -> None:
        """Cancels the call, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and the call with it
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _end(self, task: asyncio.Task[None]) -> None:
        # Looked at here so that a failure nobody waits for any more is not reported as forgotten.
        _ = task.cancelled() or task.exception()
        self._queue.put_nowait(None)

    async def _read(self) -> None:
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                await self._room.acquire()
                self._queue.put_nowait(chunk)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    # The last reference to a runtime may go away on its own loop, which cannot wait for itself.
    if thread is not threading.current_thread():
        thread.join()
