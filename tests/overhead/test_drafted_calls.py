from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.overhead.drafting_server import DraftingServer

from tutelage.overhead.drafted_calls import DraftedCalls, measured_calls, tree_cpu_s
from tutelage.runtime.models.draft_counters import DraftCounters
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.types import ChatRequest, Message

ASK = ChatRequest(model="student", messages=[Message(role="user", content="go")])


async def test_calls_are_timed_counted_and_their_answers_kept() -> None:
    ticks = iter([0.0, 1.0, 5.0, 8.0])
    done = []
    async with (
        DraftingServer(None) as server,
        OpenAIModel(server.base_url, "student") as model,
    ):
        found = await measured_calls(
            model,
            server.base_url,
            [ASK, ASK],
            n=2,
            pid=os.getpid(),
            told=lambda: done.append(1),
            clock=lambda: next(ticks),
        )

    assert found.call_s == (1.0, 3.0)
    assert (found.mean_ms, found.median_ms) == (2000.0, 2000.0)
    assert found.texts == ("look", "look")
    assert [texts[0] for texts in found.samples] == ["look", "look"]
    assert found.named_shares(["look", "go"]) == (1.0, 0.0)
    assert found.counters == DraftCounters(0, 0, 0, 32, 16)
    assert found.cpu_ms is not None
    assert found.cpu_ms >= 0
    assert len(done) == 2
    assert found.document()["tokens_a_forward"] == 2.0


def test_sums_keep_cpu_time_only_where_both_know_it() -> None:
    known = DraftedCalls(DraftCounters(), (1.0,), ("a",), 0.5)
    unknown = DraftedCalls(DraftCounters(), (2.0,), ("b",))

    assert (known + known).cpu_ms == 500.0
    assert (known + unknown).cpu_ms is None
    assert (known + unknown).texts == ("a", "b")
    assert known.same_share(unknown) == 0.0
    assert known.same_share(known) == 1.0


def process(folder: Path, pid: int, parent: int, user: int, system: int) -> None:
    (folder / str(pid)).mkdir()
    fields = ["S", str(parent), *["0"] * 9, str(user), str(system), "0"]
    (folder / str(pid) / "stat").write_text(f"{pid} (a (very) odd name) {' '.join(fields)}\n")


def test_cpu_time_is_that_of_a_process_and_its_descendants(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, 100, 50)
    process(tmp_path, 11, 10, 200, 0)
    process(tmp_path, 12, 11, 0, 25)
    process(tmp_path, 20, 1, 9999, 9999)
    (tmp_path / "13").mkdir()

    assert tree_cpu_s(10, tmp_path) == pytest.approx(3.75)
    assert tree_cpu_s(99, tmp_path) is None
    assert tree_cpu_s(None, tmp_path) is None


def test_cpu_time_of_this_process_grows_with_work() -> None:
    before = tree_cpu_s(os.getpid())
    assert before is not None
    spent = time.process_time()
    while time.process_time() < spent + 0.05:
        pass

    after = tree_cpu_s(os.getpid())

    assert after is not None
    assert after > before
