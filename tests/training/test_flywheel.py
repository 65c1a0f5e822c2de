from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.training.wheel_stages import LEASE_S, LOCK, stages, wheel

from tutelage.runtime.errors import StoreError, TrainingError
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.locks import SqlLocks
from tutelage.training.flywheel import STAGES, StageOutcome, Work
from tutelage.training.runs import RunRecord, SqlRuns


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite:///{tmp_path / 'wheel.sqlite'}")
    yield made
    made.dispose()


def recorded(engine: Engine) -> list[RunRecord]:
    return list(SqlRuns(engine, time.time, lock="", holder="").runs("acme", "student"))


async def test_a_run_goes_through_all_stages_in_order(tmp_path: Path, engine: Engine) -> None:
    told: list[tuple[str, str]] = []
    turned = wheel(
        tmp_path,
        engine,
        stages(tmp_path, engine, lambda *_: None),
        told=lambda *said: told.append(said),
    )
    done = await turned.run("acme", "student")
    assert (done.state, done.text) == ("finished", "student@1 promoted")
    assert [stage for stage, said in told if said == "begins"] == list(STAGES)
    (run,) = recorded(engine)
    assert [one.stage for one in run.stages] == list(STAGES)
    # Each stage saw the results of all before it.
    assert [run.result(one)["seen"] for one in STAGES] == list(range(len(STAGES)))
    assert (run.state, run.result("nothing")) == ("finished", {})
    assert SqlLocks(engine, time.time).holder(LOCK) is None


async def test_a_second_run_is_a_new_one(tmp_path: Path, engine: Engine) -> None:
    made = stages(tmp_path, engine, lambda *_: None)
    first = await wheel(tmp_path, engine, made).run("acme", "student")
    second = await wheel(tmp_path, engine, made).run("acme", "student")
    assert (first.run_id, second.text) != (second.run_id, first.text)
    assert second.text == "student@2 promoted"


async def test_a_stage_may_end_the_run(tmp_path: Path, engine: Engine) -> None:
    async def judge(work: Work) -> StageOutcome:
        return StageOutcome({"passed": False}, "end", "success fell")

    made = {**stages(tmp_path, engine, lambda *_: None), "judge": judge}
    done = await wheel(tmp_path, engine, made).run("acme", "student")
    assert (done.state, done.text) == ("finished", "judge: success fell")
    (run,) = recorded(engine)
    assert [one.stage for one in run.stages][-1] == "judge"
    assert run.result("judge") == {"passed": False}


async def test_a_stage_may_wait_as_often_as_it_likes(tmp_path: Path, engine: Engine) -> None:
    asked = 0

    async def canary(work: Work) -> StageOutcome:
        nonlocal asked
        asked += 1
        if asked < 6:
            return StageOutcome({}, "wait", f"{asked} episodes so far")
        return StageOutcome({"text": "promoted"})

    made = {**stages(tmp_path, engine, lambda *_: None), "canary": canary}
    for count in range(1, 6):
        waits = await wheel(tmp_path, engine, made).run("acme", "student")
        assert (waits.state, waits.text) == ("waiting", f"{count} episodes so far")
    assert (await wheel(tmp_path, engine, made).run("acme", "student")).state == "finished"
    assert len(recorded(engine)) == 1


async def test_a_stage_that_fails_is_tried_again_and_then_given_up(
    tmp_path: Path, engine: Engine
) -> None:
    async def train(work: Work) -> StageOutcome:
        raise TrainingError("out of memory: lower training.settings.batch_size")

    made = {**stages(tmp_path, engine, lambda *_: None), "train": train}
    for _ in range(3):
        with pytest.raises(TrainingError, match="batch_size"):
            await wheel(tmp_path, engine, made).run("acme", "student")
    done = await wheel(tmp_path, engine, made).run("acme", "student")
    assert done.state == "failed"
    assert "train failed 3 times: out of memory" in done.text
    (run,) = recorded(engine)
    assert (run.state, run.outcome) == ("failed", done.text)
    with pytest.raises(TrainingError):
        await wheel(tmp_path, engine, made).run("acme", "student")
    assert len(recorded(engine)) == 2


async def test_two_processes_do_not_run_together(tmp_path: Path, engine: Engine) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def gather(work: Work) -> StageOutcome:
        begun.set()
        await go_on.wait()
        return StageOutcome({})

    made = {**stages(tmp_path, engine, lambda *_: None), "gather": gather}
    first = asyncio.create_task(wheel(tmp_path, engine, made).run("acme", "student"))
    await begun.wait()
    other = await wheel(tmp_path, engine, made, shift_s=1.0).run("acme", "student")
    assert (other.state, other.run_id) == ("busy", None)
    assert "is at it" in other.text
    go_on.set()
    assert (await first).state == "finished"


async def test_a_long_stage_keeps_its_lease(tmp_path: Path, engine: Engine) -> None:
    beats = asyncio.Semaphore(0)
    now_s = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        await beats.acquire()
        now_s += seconds

    locks = SqlLocks(engine, lambda: time.time() + now_s)

    async def gather(work: Work) -> StageOutcome:
        for _ in range(20):
            beats.release()
            while beats._value:  # noqa: ASYNC110 - the condition is another task's
                await asyncio.sleep(0.001)
        return StageOutcome({"lasted_s": now_s})

    made = {**stages(tmp_path, engine, lambda *_: None), "gather": gather}
    turned = wheel(tmp_path, engine, made, sleep=sleep)
    turned._locks = locks
    assert (await turned.run("acme", "student")).state == "finished"
    assert recorded(engine)[0].result("gather")["lasted_s"] > 4 * LEASE_S


@pytest.mark.parametrize("how", ["taken", "unreachable"])
async def test_a_process_that_lost_its_lease_stops(
    tmp_path: Path, engine: Engine, how: str
) -> None:
    begun = asyncio.Event()

    async def train(work: Work) -> StageOutcome:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    class Losing(SqlLocks):
        def take(self, name: str, holder: str, lease_s: float) -> bool:
            if not begun.is_set():
                return super().take(name, holder, lease_s)
            if how == "unreachable":
                raise StoreError("gone")
            return False

    async def sleep(seconds: float) -> None:
        await begun.wait()

    made = {**stages(tmp_path, engine, lambda *_: None), "train": train}
    turned = wheel(tmp_path, engine, made, sleep=sleep)
    turned._locks = Losing(engine, time.time)
    with pytest.raises(TrainingError, match="lost its lease"):
        await turned.run("acme", "student")
    assert recorded(engine)[0].state == "running"


async def test_a_process_that_was_overtaken_writes_nothing(tmp_path: Path, engine: Engine) -> None:
    locks = SqlLocks(engine, lambda: time.time() + 10 * LEASE_S)

    async def gather(work: Work) -> StageOutcome:
        assert await asyncio.to_thread(locks.take, LOCK, "another", 1000.0)
        return StageOutcome({"by": "the slow one"})

    made = {**stages(tmp_path, engine, lambda *_: None), "gather": gather}
    with pytest.raises(TrainingError, match="taken over"):
        await wheel(tmp_path, engine, made).run("acme", "student")
    (run,) = recorded(engine)
    assert run.result("gather") == {}
    assert locks.holder(LOCK) == "another"


def test_a_flywheel_without_a_stage_is_refused(tmp_path: Path, engine: Engine) -> None:
    made = stages(tmp_path, engine, lambda *_: None)
    del made["evaluate"]
    with pytest.raises(TrainingError, match="'evaluate'"):
        wheel(tmp_path, engine, made)
