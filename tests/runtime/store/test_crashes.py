from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore

KILLS = 24


class Crasher:
    """Starts writing processes one after another and kills them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout

    def run(
        self,
        name: str,
        appends: int,
        *,
        kill_after: int | None = None,
        kill_when: Callable[[], bool] | None = None,
    ) -> list[str]:
        """The ids that the process acknowledged before it ended, or was killed."""
        self._input.write(f"{name} {appends}\n")
        self._input.flush()
        pid: int | None = None
        acknowledged: list[str] = []
        for line in self._output:
            word, _, value = line.strip().partition(" ")
            if word == "pid":
                pid = int(value)
                if kill_when is not None:
                    while not kill_when():
                        pass
                    os.kill(pid, signal.SIGKILL)
            elif word == "gone":
                is_killed = kill_after is not None or kill_when is not None
                assert int(value) == (signal.SIGKILL if is_killed else 0)
                return acknowledged
            else:
                acknowledged.append(word)
            if pid is not None and kill_after is not None and len(acknowledged) >= kill_after:
                os.kill(pid, signal.SIGKILL)
                pid = None
        raise AssertionError("the writing process ended by itself")


@contextmanager
def crasher(url: str, spool: Spool) -> Iterator[Crasher]:
    script = Path(__file__).with_name("crash_writer.py")
    with subprocess.Popen(
        [sys.executable, str(script), url, str(spool.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Crasher(process)


def stored_ids(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [id for (id,) in connection.execute("SELECT id FROM traces")]


@pytest.mark.slow
def test_no_acknowledged_trace_is_lost_by_sigkill(url: str, database: Path, spool: Spool) -> None:
    chance = random.Random(7)
    acknowledged: set[str] = set()
    with crasher(url, spool) as writers:
        for kill in range(KILLS):
            kill_after = chance.randint(0, 150)
            acknowledged.update(writers.run(f"k{kill}", 10**6, kill_after=kill_after))
    assert len(acknowledged) > KILLS
    counts = Counter(stored_ids(database))
    assert acknowledged <= set(counts)
    assert set(counts.values()) == {1}
    assert not spool.is_pending


@pytest.mark.slow
def test_no_spooled_trace_is_lost_by_sigkill(url: str, database: Path, spool: Spool) -> None:
    chance = random.Random(8)
    acknowledged: set[str] = set()
    hidden = database.parent.with_name("hidden")
    database.parent.mkdir()
    with crasher(url, spool) as writers:
        for kill in range(KILLS):
            # In two rounds of three a folder stands where the file was; in the third it is back.
            is_gone = kill % 3 != 2
            if is_gone:
                database.parent.rename(hidden)
                database.mkdir(parents=True)
            kill_after = chance.randint(1, 150)
            acknowledged.update(writers.run(f"k{kill}", 10**6, kill_after=kill_after))
            if is_gone:
                assert spool.is_pending
                database.rmdir()
                database.parent.rmdir()
                hidden.rename(database.parent)

    async def open_and_close() -> None:
        async with SqlTraceStore(url, spool=spool):
            pass

    asyncio.run(open_and_close())
    assert not spool.is_pending
    assert spool.damaged == 0
    counts = Counter(stored_ids(database))
    assert acknowledged <= set(counts)
    assert set(counts.values()) == {1}


def test_processes_that_start_together_and_write_lose_nothing(
    url: str, database: Path, spool: Spool
) -> None:
    script = Path(__file__).with_name("crash_writer.py")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), url, str(spool.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs: list[str] = []
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(f"p{number} 400\n")
        process.stdin.flush()
    for process in processes:
        outputs.append(process.communicate()[0])
    acknowledged = [
        line
        for output in outputs
        for line in output.splitlines()
        if line.startswith("p") and "-" in line
    ]
    assert all(output.endswith("gone 0\n") for output in outputs)
    assert len(acknowledged) == 1200
    assert sorted(stored_ids(database)) == sorted(acknowledged)
    assert not spool.is_pending


@pytest.mark.parametrize("first_sign", ["", "-wal", "-shm"])
def test_a_process_that_is_killed_while_it_migrates_leaves_a_usable_database(
    url: str, database: Path, spool: Spool, first_sign: str
) -> None:
    sign = database.with_name(database.name + first_sign)
    with crasher(url, spool) as writers:
        writers.run("dead", 10**6, kill_when=sign.exists)
        acknowledged = writers.run("alive", 10)
    assert len(acknowledged) == 10
    assert set(acknowledged) <= set(stored_ids(database))
