from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tutelage.runtime.errors import Refused, TutelageError
from tutelage.runtime.sync import SyncRuntime
from tutelage.runtime.types import ChatRequest

REQUEST = ChatRequest.model_validate({"model": "m", "messages": []})


class FakeEpisode:
    def __init__(self) -> None:
        self.id = "e1"
        self.log: list[Any] = []

    async def __aenter__(self) -> FakeEpisode:
        self.log.append("entered")
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.log.append(("left", failure[0]))

    async def feedback(self, **outcome: Any) -> None:
        self.log.append(outcome)


class FakeRuntime:
    """Answers with what it was asked; ``hang`` and ``fail`` steer it."""

    def __init__(self) -> None:
        self.hang = False
        self.fail: Exception | None = None
        self.chunks = 3
        self.running = threading.Event()
        self.cancelled = threading.Event()
        self.closed = 0
        self.threads: set[str] = set()
        self.produced = 0

    async def complete(self, request: ChatRequest, *, episode: Any = None) -> Any:
        self.threads.add(threading.current_thread().name)
        await self._maybe_hang()
        if self.fail:
            raise self.fail
        return request, episode

    async def stream(self, request: ChatRequest, *, episode: Any = None) -> AsyncIterator[Any]:
        try:
            for index in range(self.chunks):
                self.produced += 1
                yield {"index": index, "episode": episode}
            await self._maybe_hang()
            if self.fail:
                raise self.fail
        except GeneratorExit:
            self.cancelled.set()
            raise

    async def _maybe_hang(self) -> None:
        if self.hang:
            self.running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    def episode(self, **_: Any) -> Any:
        return FakeEpisode()

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def fake() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def runtime(fake: FakeRuntime) -> Iterator[SyncRuntime]:
    with SyncRuntime(fake) as made:
        yield made


def runtime_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "tutelage-runtime"]


def test_a_call_returns_the_runtimes_answer(runtime: SyncRuntime) -> None:
    answer: Any = runtime.complete(REQUEST)

    assert answer == (REQUEST, None)


def test_a_call_raises_what_the_runtime_raises(runtime: SyncRuntime, fake: FakeRuntime) -> None:
    fake.fail = Refused("no", status=400)

    with pytest.raises(Refused) as caught:
        runtime.complete(REQUEST)

    assert caught.value is fake.fail


def test_the_thread_starts_with_the_first_call_and_ends_with_close(fake: FakeRuntime) -> None:
    runtime = SyncRuntime(fake)
    assert runtime_threads() == []

    runtime.complete(REQUEST)
    assert len(runtime_threads()) == 1
    runtime.close()

    assert runtime_threads() == []
    assert fake.closed == 1


def test_closing_twice_closes_once_and_later_calls_are_told(fake: FakeRuntime) -> None:
    runtime = SyncRuntime(fake)
    runtime.close()
    runtime.close()

    assert fake.closed == 1
    with pytest.raises(TutelageError, match="is closed"):
        runtime.complete(REQUEST)


def test_a_runtime_that_is_dropped_ends_its_thread(fake: FakeRuntime) -> None:
    runtime = SyncRuntime(fake)
    runtime.complete(REQUEST)

    del runtime
    gc.collect()

    assert runtime_threads() == []


def test_many_threads_share_one_loop(runtime: SyncRuntime, fake: FakeRuntime) -> None:
    requests = [REQUEST.model_copy(update={"model": str(index)}) for index in range(64)]

    with ThreadPoolExecutor(8) as pool:
        answers: list[Any] = list(pool.map(runtime.complete, requests))

    assert [answer[0] for answer in answers] == requests
    assert fake.threads == {"tutelage-runtime"}


async def test_a_call_works_inside_a_running_loop(runtime: SyncRuntime) -> None:
    answer: Any = runtime.complete(REQUEST)

    assert answer == (REQUEST, None)


def test_a_call_on_the_runtimes_own_loop_is_told_instead_of_hanging(
    runtime: SyncRuntime, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asks_itself(request: ChatRequest, *, episode: Any = None) -> Any:
        return runtime.complete(request)

    monkeypatch.setattr(fake, "complete", asks_itself)

    with pytest.raises(TutelageError, match="await the asynchronous form"):
        runtime.complete(REQUEST)


def test_an_interrupt_cancels_the_running_call(runtime: SyncRuntime, fake: FakeRuntime) -> None:
    fake.hang = True
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        assert fake.running.wait(10)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()

    with pytest.raises(KeyboardInterrupt):
        runtime.complete(REQUEST)
    assert fake.cancelled.wait(10)


def test_an_interrupt_while_the_call_is_being_scheduled_cancels_it(
    runtime: SyncRuntime, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.complete(REQUEST)
    fake.hang = True
    schedule = asyncio.BaseEventLoop.call_soon_threadsafe

    def interrupted(loop: Any, callback: Any, *values: Any, **named: Any) -> Any:
        monkeypatch.undo()
        schedule(loop, callback, *values, **named)
        assert fake.running.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupted)

    with pytest.raises(KeyboardInterrupt):
        runtime.complete(REQUEST)
    assert fake.cancelled.wait(10)


def test_closing_cancels_what_still_runs(runtime: SyncRuntime, fake: FakeRuntime) -> None:
    fake.hang = True
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(runtime.complete, REQUEST)
        assert fake.running.wait(10)
        runtime.close()

        assert fake.cancelled.wait(10)
        assert "by closing the runtime" in str(call.exception(10))


def test_a_stream_yields_its_chunks(runtime: SyncRuntime) -> None:
    assert [chunk["index"] for chunk in runtime.stream(REQUEST)] == [0, 1, 2]


def test_a_stream_raises_at_the_place_where_it_failed(
    runtime: SyncRuntime, fake: FakeRuntime
) -> None:
    fake.fail = Refused("no", status=400)
    chunks = runtime.stream(REQUEST)

    assert [next(chunks)["index"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(Refused):
        next(chunks)


@pytest.mark.parametrize("drop", [False, True])
def test_a_stream_that_is_left_early_is_cancelled(
    runtime: SyncRuntime, fake: FakeRuntime, drop: bool
) -> None:
    fake.hang = True
    chunks = runtime.stream(REQUEST)
    next(chunks)
    assert fake.running.wait(10)

    if drop:
        del chunks
    else:
        chunks.close()

    assert fake.cancelled.wait(10)


def test_a_slow_reader_is_not_read_ahead_of_without_bound(
    runtime: SyncRuntime, fake: FakeRuntime
) -> None:
    fake.chunks = 1000
    chunks = runtime.stream(REQUEST)
    next(chunks)
    # One more round trip of the loop lets the reader run as far as it may.
    runtime.complete(REQUEST)

    assert fake.produced < 50
    assert len(list(chunks)) == 999


def test_an_episode_is_entered_left_and_judged(runtime: SyncRuntime) -> None:
    with runtime.episode(goal="g", tenant="t") as episode:
        answer: Any = episode.complete(REQUEST)
        streamed = next(runtime.stream(REQUEST, episode=episode))
        episode.feedback(success=True, reward=0.5)

    inner: Any = episode.episode
    assert answer == (REQUEST, inner)
    assert streamed["episode"] is inner
    assert episode.id == "e1"
    assert inner.log == ["entered", {"success": True, "reward": 0.5}, ("left", None)]


def test_an_episode_learns_of_the_exception_that_leaves_it(runtime: SyncRuntime) -> None:
    opened = runtime.episode()

    with pytest.raises(KeyError), opened:
        raise KeyError

    inner: Any = opened.episode
    assert inner.log[-1] == ("left", KeyError)
