from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.app import WIRES
from tutelage.runtime.gateway.conversations import Conversations
from tutelage.runtime.gateway.dictation import Dictation, Frames, frame
from tutelage.runtime.gateway.relayed import Note, Relayed
from tutelage.runtime.gateway.relayed_traces import RelayedTraces, Settle
from tutelage.runtime.gateway.scribe import Scribe
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.pricing import Price
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import Trace

LEDGER = Ledger({"teacher": Price(input=10, output=20), "student": Price(input=1, output=2)})


class Store(MemoryTraceStore):
    """Settles what is posted when it is told to.

    Attributes:
        held: Whether what is posted waits.
        is_full: Whether nothing can be posted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self.is_full = False
        self._waiting: list[tuple[Trace, Settle]] = []
        self._tasks: list[asyncio.Future[None]] = []

    def post(self, trace: Trace, settle: Settle) -> bool:
        if self.is_full:
            return False
        self._waiting.append((trace, settle))
        if not self.held:
            asyncio.get_running_loop().call_soon(self.settle)
        return True

    def settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for trace, settle in waiting:
            if trace.goal == "lose me":
                settle(StoreError("the disk is full"))
                continue
            self._tasks.append(asyncio.ensure_future(self.append(trace)))
            settle(None)


@dataclass
class Process:
    """Stands for the other process: takes down what it is told in the same loop."""

    loop: asyncio.AbstractEventLoop
    sock: socket.socket
    traces: RelayedTraces
    lives: bool = True
    task: asyncio.Task[None] | None = None
    kills: int = 0

    def begin(self) -> None:
        if not self.lives:
            self.sock.close()
            return
        self.task = self.loop.create_task(Dictation(self.traces, self.sock).take())

    def wait(self, timeout: float | None = None) -> int:
        return 0

    def kill(self) -> None:
        self.kills += 1


@dataclass
class Office:
    """Starts such processes, and says which of them die at once."""

    loop: asyncio.AbstractEventLoop
    store: Store = field(default_factory=Store)
    started: list[Process] = field(default_factory=list)
    stillborn: int = 0
    refusals: int = 0

    def start(self, sock: socket.socket) -> Process:
        if self.refusals:
            self.refusals -= 1
            raise OSError(12, "Cannot allocate memory")
        copy = sock.dup()
        copy.setblocking(False)
        traces = RelayedTraces(
            self.store,
            ledger=LEDGER,
            prices={"own": Price(input=1000, output=0)},
            wires=WIRES,
            conversations=Conversations(),
            count_tokens=len,
        )
        process = Process(self.loop, copy, traces, lives=self.stillborn == 0)
        self.stillborn = max(0, self.stillborn - 1)
        self.started.append(process)
        self.loop.call_soon_threadsafe(process.begin)
        return process

    async def end_last(self) -> None:
        """Kills the process that runs."""
        task = self.started[-1].task
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    made = Office(asyncio.get_running_loop())
    yield made
    for process in made.started:
        if process.task is not None and not process.task.done():
            process.task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await process.task


def said(id: str, text: str = "where to?", **changes: Any) -> Relayed:
    """A call of the chat wire that was answered."""
    messages = [{"role": "user", "content": text}]
    made = Relayed(
        id, "chat", "acme", "key-1", False, None,
        orjson.dumps({"model": "gpt", "messages": messages}),
        {"role": "assistant", "content": "go to desk 1"},
        (1_000_000, 0, 0, 0), False, "teacher", None, 1_800_000_000.0, 0.25, 0.5,
    )  # fmt: skip
    return made._replace(**changes)


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - it is the state of another task
            await asyncio.sleep(0.002)


async def test_calls_are_traced_and_noted_in_their_order(office: Office) -> None:
    notes: list[Note | None] = []
    scribe = Scribe(office.start)
    scribe.open()
    for number in range(3):
        assert scribe.post(said(f"id-{number}"), notes.append)
    unread = said("unread", raw=b'{"model": "gpt"}')
    assert scribe.post(unread, notes.append)
    await scribe.aclose()

    traces = {trace.id: trace for trace in await office.store.traces("acme")}
    assert set(traces) == {"id-0", "id-1", "id-2"}
    assert [note is None for note in notes] == [False, False, False, True]
    assert [note.episode_id for note in notes[:3] if note is not None] == [
        traces[f"id-{number}"].episode_id for number in range(3)
    ]
    assert notes[0] == Note(traces["id-0"].episode_id, 0, 10.0, 10.0)
    assert scribe.backlog == scribe.lost == 0


async def test_a_trace_says_what_the_call_told(office: Office) -> None:
    scribe = Scribe(office.start)
    scribe.open()
    calls = [
        said("plain"),
        said("own price", upstream="own", session="s-1", no_train=True, is_estimated=True),
        said("failed", session="s-1", message=None, usage=None, error="BadResponse: broke off"),
    ]
    for call in calls:
        scribe.post(call, lambda _: None)
    await scribe.aclose()

    found = {trace.id: trace for trace in await office.store.traces("acme")}
    plain, own, failed = (found[call.id] for call in calls)
    assert (plain.answer, plain.observation, plain.goal) == (
        "go to desk 1",
        "where to?",
        "where to?",
    )
    assert (plain.key_id, plain.mode, plain.model) == ("key-1", "passthrough", "gpt")
    assert (plain.created_at_s, plain.latency_s) == (
        1_800_000_000.0,
        {"teacher": 0.25, "total": 0.5},
    )
    assert plain.finished
    assert own.cost_usd == {"teacher": 1000.0}
    assert (own.episode_id, own.no_train, own.estimated) == ("s-1", True, ("teacher",))
    assert (failed.episode_id, failed.finished, failed.answer) == ("s-1", False, "")
    assert failed.error == "BadResponse: broke off"


async def test_a_conversation_without_a_session_stays_in_its_episode(office: Office) -> None:
    scribe = Scribe(office.start)
    scribe.open()
    turns = [
        {"role": "user", "content": "where to?"},
        {"role": "assistant", "content": "go to desk 1"},
        {"role": "user", "content": "and now?"},
    ]
    scribe.post(said("first"), lambda _: None)
    second = orjson.dumps({"model": "gpt", "messages": turns})
    scribe.post(said("second", raw=second), lambda _: None)
    await scribe.aclose()

    first, second_trace = sorted(await office.store.traces("acme"), key=lambda one: one.step_index)
    assert first.episode_id == second_trace.episode_id
    assert (first.step_index, second_trace.step_index) == (0, 1)


async def test_a_process_that_dies_is_replaced_and_told_again(office: Office) -> None:
    office.store.held = True
    notes: list[Note | None] = []
    scribe = Scribe(office.start, pause_s=0.0)
    scribe.open()
    scribe.post(said("one"), notes.append)
    await until(lambda: office.store._waiting)
    await office.end_last()
    office.store._waiting.clear()
    office.store.held = False
    scribe.post(said("two"), notes.append)
    await scribe.aclose()

    assert len(office.started) == 2
    assert {trace.id for trace in await office.store.traces("acme")} == {"one", "two"}
    assert len(notes) == 2
    assert scribe.lost == 0


async def test_a_process_that_cannot_be_started_is_tried_again(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.refusals = 2
    scribe = Scribe(office.start, pause_s=0.0)
    scribe.open()
    scribe.post(said("one"), lambda _: None)
    await scribe.aclose()

    assert [trace.id for trace in await office.store.traces("acme")] == ["one"]
    assert "Cannot allocate memory" in caplog.text


async def test_a_call_that_ends_process_after_process_is_given_up(office: Office) -> None:
    office.stillborn = 3
    notes: list[Note | None] = []
    scribe = Scribe(office.start, pause_s=0.0)
    scribe.post(said("deadly"), notes.append)
    scribe.post(said("harmless"), notes.append)
    scribe.open()
    await scribe.aclose()

    assert [trace.id for trace in await office.store.traces("acme")] == ["harmless"]
    assert notes[0] is None
    assert scribe.lost == 1


async def test_no_more_waits_than_there_is_room_for(office: Office) -> None:
    office.store.held = True
    scribe = Scribe(office.start, most_bytes=10)
    scribe.open()
    assert scribe.post(said("one"), lambda _: None)
    assert not scribe.post(said("two"), lambda _: None)
    assert not await scribe.place(0.0)
    waiting = asyncio.create_task(scribe.place(20.0))
    await until(lambda: office.store._waiting)
    office.store.settle()
    assert await waiting
    assert scribe.post(said("two"), lambda _: None)
    office.store.held = False
    await scribe.aclose()
    assert not scribe.post(said("three"), lambda _: None)
    assert not await scribe.place(0.0)


async def test_what_nobody_writes_in_time_is_lost_and_counted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.store.held = True
    notes: list[Note | None] = []
    scribe = Scribe(office.start, patience_s=0.01)
    scribe.open()
    scribe.post(said("one"), notes.append)
    await until(lambda: office.started)
    await scribe.aclose()

    assert notes == [None]
    assert scribe.lost == 1
    assert "1 traces are lost" in caplog.text


async def test_traces_that_the_store_loses_are_counted(office: Office) -> None:
    notes: list[Note | None] = []
    scribe = Scribe(office.start)
    scribe.open()
    scribe.post(said("one", text="lose me"), notes.append)
    scribe.post(said("two"), notes.append)
    await scribe.aclose()

    assert scribe.lost == 1
    assert len(notes) == 2


async def test_a_full_store_slows_the_reading_down_and_loses_nothing(office: Office) -> None:
    office.store.is_full = True
    notes: list[Note | None] = []
    scribe = Scribe(office.start)
    scribe.open()
    for number in range(5):
        scribe.post(said(f"id-{number}"), notes.append)
    await scribe.aclose()

    assert len(await office.store.traces("acme")) == 5
    assert None not in notes


async def test_a_process_that_does_not_end_is_killed(office: Office) -> None:
    class Stubborn(Process):
        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None:
                raise subprocess.TimeoutExpired("write", timeout)
            return -9

    made: list[Stubborn] = []

    def start(sock: socket.socket) -> Stubborn:
        process = office.start(sock)
        made.append(Stubborn(process.loop, process.sock, process.traces))
        return made[-1]

    scribe = Scribe(start)
    scribe.open()
    scribe.post(said("one"), lambda _: None)
    await scribe.aclose()

    assert made[0].kills == 1


async def test_a_large_backlog_is_sent_at_once(office: Office) -> None:
    scribe = Scribe(office.start)
    scribe.open()
    await until(lambda: scribe._transport is not None)
    scribe.post(said("large", text="x" * 200_000), lambda _: None)
    assert scribe._timer is None
    await scribe.aclose()

    assert [trace.id for trace in await office.store.traces("acme")] == ["large"]


def test_frames_are_cut_out_of_any_pieces() -> None:
    values = [("a", [1, 2.5, None]), ("b" * 300, {"c": b"d"})]
    written = b"".join(map(frame, values))
    for size in (1, 3, 7, len(written)):
        frames = Frames()
        found: list[object] = []
        for start in range(0, len(written), size):
            found += frames.feed(written[start : start + size])
        assert found == values
