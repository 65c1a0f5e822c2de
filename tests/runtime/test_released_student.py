"""Which release acts in an episode, and how soon a change of it reaches a step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.made_releases import Clock

from tutelage.runtime.errors import ConfigError, StoreError
from tutelage.runtime.loop_config import ReleaseConfig
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.protocols import ActingStudent
from tutelage.runtime.release import Served, Traffic
from tutelage.runtime.released_student import CurrentTraffic, ReleasedStudents, place
from tutelage.runtime.types import Agreement, Decision, Reason, SamplePlan, Step

OLD, NEW = Served("student@1", "a" * 64), Served("student@2", "b" * 64)


class Never:
    def plan(self, step: Step, demonstrations: object = None) -> SamplePlan | Decision:
        return Decision(served="teacher", reason=Reason.ALWAYS)

    def decide(self, step: Step, agreement: Agreement, demonstrations: object) -> Decision:
        return Decision(served="teacher", reason=Reason.ALWAYS)


class Board:
    """A database with one row."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        self.traffic = traffic or Traffic("student", "acme", current=OLD)
        self.asked = 0
        self.error: StoreError | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self) -> Mapping[str, Traffic]:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return {"acme": self.traffic}


class Maker:
    def __init__(self) -> None:
        self.made: list[str] = []

    async def __call__(self, served: Served) -> ActingStudent:
        self.made.append(served.name)
        return ActingStudent(ScriptedModel(["look"]), Never(), None, served.name)


def step(episode: str = "e", tenant: str = "acme", index: int = 0) -> Step:
    return Step(tenant=tenant, episode_id=episode, index=index, goal="g", observation="o")


def students(board: Board, clock: Clock, make: Maker | None = None, **changes: float):  # type: ignore[no-untyped-def]
    limits = {"refresh_s": 5.0, "patience_s": 2.0, **changes}
    current = CurrentTraffic(board.read, timer=clock, **limits)
    return ReleasedStudents(current, make or Maker())


async def acting(chosen: ReleasedStudents, *episodes: str) -> list[str | None]:
    found = [await chosen.student_for(step(one)) for one in episodes]
    return [one.release if one else None for one in found]


async def test_a_tenant_without_releases_has_the_configured_student() -> None:
    chosen = students(Board(), Clock())
    assert await chosen.student_for(step(tenant="other")) is None
    first = await chosen.student_for(step())
    assert first is not None
    assert first.release == "student@1"


async def test_a_first_release_leaves_the_rest_to_the_configured_student() -> None:
    board = Board(Traffic("student", "acme", canary=NEW, canary_share=0.5))
    names = [f"e{index}" for index in range(200)]
    found = await acting(students(board, Clock()), *names)
    assert set(found) == {None, "student@2"}
    assert 60 < found.count(None) < 140


async def test_a_rollback_reaches_every_step_within_30_seconds() -> None:
    limits = ReleaseConfig.model_fields
    longest = {
        name: next(one.le for one in limits[name].metadata if hasattr(one, "le"))
        for name in ("refresh_s", "patience_s")
    }
    assert sum(longest.values()) <= 30
    board, clock = Board(Traffic("student", "acme", current=NEW)), Clock()
    chosen = students(board, clock, refresh_s=longest["refresh_s"])
    assert await acting(chosen, "e") == ["student@2"]
    board.traffic = Traffic("student", "acme", current=OLD)
    clock.now_s += longest["refresh_s"] - 0.1
    assert await acting(chosen, "e") == ["student@2"]
    clock.now_s += 0.1
    assert await acting(chosen, "e") == ["student@1"]


async def test_a_worker_that_was_idle_asks_before_it_serves() -> None:
    board, clock = Board(Traffic("student", "acme", current=NEW)), Clock()
    chosen = students(board, clock)
    await acting(chosen, "e")
    clock.now_s += 3600
    board.traffic = Traffic("student", "acme", current=OLD)
    assert await acting(chosen, "e") == ["student@1"]


async def test_steps_between_two_readings_ask_nothing() -> None:
    board, clock = Board(), Clock()
    chosen = students(board, clock)
    await asyncio.gather(*(chosen.student_for(step(f"e{index}")) for index in range(20)))
    await acting(chosen, *"abc")
    assert board.asked == 1
    clock.now_s += 5
    await acting(chosen, *"abc")
    assert board.asked == 2


async def test_an_episode_keeps_its_student_while_the_share_grows() -> None:
    board, clock = Board(), Clock()
    chosen = students(board, clock)
    names = [f"e{index}" for index in range(300)]
    assert set(await acting(chosen, *names[:100])) == {"student@1"}
    seen: dict[str, str | None] = {}
    for share in (0.05, 0.3, 0.6):
        board.traffic = Traffic("student", "acme", OLD, None, NEW, share)
        clock.now_s += 5
        found = dict(zip(names, await acting(chosen, *names), strict=True))
        assert all(found[one] == student for one, student in seen.items())
        assert all(found[one] == "student@1" for one in names[:100])
        late = [place(step(one), "student@2") < share for one in names[100:]]
        seen = found
        if share == 0.05:
            assert [found[one] == "student@2" for one in names[100:]] == late


async def test_workers_agree_on_who_is_in_the_canary() -> None:
    board = Board(Traffic("student", "acme", OLD, None, NEW, 0.25))
    names = [f"e{index}" for index in range(400)]
    one, other = students(board, Clock()), students(board, Clock())
    found = await acting(one, *names)
    assert found == await acting(other, *names)
    assert 0.15 < found.count("student@2") / len(found) < 0.35


async def test_episodes_of_a_canary_that_was_taken_back_go_on_with_the_current_one() -> None:
    board, clock = Board(Traffic("student", "acme", OLD, None, NEW, 0.9)), Clock()
    chosen = students(board, clock)
    names = [f"e{index}" for index in range(50)]
    assert "student@2" in await acting(chosen, *names)
    board.traffic = Traffic("student", "acme", OLD)
    clock.now_s += 5
    assert set(await acting(chosen, *names)) == {"student@1"}


async def test_what_was_read_last_holds_while_the_database_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board, clock = Board(), Clock()
    chosen = students(board, clock)
    await acting(chosen, "e")
    board.error = StoreError("gone")
    clock.now_s += 60
    assert await acting(chosen, "e") == ["student@1"]
    assert "gone" in caplog.text
    assert await acting(chosen, "e") == ["student@1"]
    assert board.asked == 2


async def test_a_slow_database_is_not_waited_for_longer_than_the_patience(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board, clock = Board(), Clock()
    chosen = students(board, clock, patience_s=0.01)
    await acting(chosen, "e")
    board.answers.clear()
    board.traffic = Traffic("student", "acme", NEW)
    clock.now_s += 60
    assert await acting(chosen, "e") == ["student@1"]
    assert "slow" in caplog.text
    board.answers.set()
    clock.now_s += 5
    assert await acting(chosen, "e") == ["student@2"]
    assert board.asked == 2


async def test_nobody_acts_before_the_first_reading() -> None:
    board = Board()
    board.error = StoreError("gone")
    with pytest.raises(StoreError, match="could not be read yet"):
        await students(board, Clock()).student_for(step())


async def test_a_student_is_made_once_for_each_release_and_policy() -> None:
    board, clock, make = Board(), Clock(), Maker()
    chosen = students(board, clock, make)
    await asyncio.gather(*(chosen.student_for(step(f"e{index}")) for index in range(9)))
    assert make.made == ["student@1"]
    board.traffic = Traffic("student", "acme", Served("student@1", "a", None, {"threshold": 0.7}))
    clock.now_s += 5
    await acting(chosen, *"abc")
    assert make.made == ["student@1", "student@1"]


async def test_a_student_that_cannot_be_made_is_tried_again() -> None:
    async def make(served: Served) -> ActingStudent:
        raise ConfigError("no address")

    current = CurrentTraffic(Board().read, refresh_s=5, patience_s=1, timer=Clock())
    chosen = ReleasedStudents(current, make)
    for _ in range(2):
        with pytest.raises(ConfigError, match="no address"):
            await chosen.student_for(step())


async def test_no_more_episodes_are_remembered_than_allowed() -> None:
    current = CurrentTraffic(Board().read, refresh_s=5, patience_s=1, timer=Clock())
    chosen = ReleasedStudents(current, Maker(), remembered=10)
    await acting(chosen, *(f"e{index}" for index in range(50)))
    assert len(chosen._episodes) == 10
    assert current.serving == {"student@1"}
