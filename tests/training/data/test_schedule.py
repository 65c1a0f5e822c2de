from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import TrainingError
from tutelage.training.data.schedule import Carried, Position, Schedule, Stage


def stage(name: str, steps: int = 3, **update: object) -> Stage:
    given = {"teacher": "base", "data": "general", "losses": {"sft": 1.0}}
    return Stage(name=name, steps=steps, **{**given, **update})  # type: ignore[arg-type]


FOUR = (
    stage("general"),
    stage("task", 4, data="ours", carries=frozenset({"optimizer"})),
    stage("expert", 2, data="ours", teacher="expert"),
    stage("redi", 3, data="ours", teacher="expert", losses={"sft": 1.0, "redi": 0.5}),
)


@dataclass
class Descent:
    """Gradient descent with momentum on a square, its goal set by the stage."""

    weight: float = 0.0
    momentum: float = 0.0
    losses: list[float] = field(default_factory=list)
    resets: list[frozenset[Carried]] = field(default_factory=list)

    def step(self, stage: Stage, index: int) -> None:
        gradient = self.weight - len(stage.name) - 0.1 * index
        self.losses.append(gradient**2)
        self.momentum = 0.9 * self.momentum + gradient
        self.weight -= 0.1 * self.momentum

    def reset(self, parts: frozenset[Carried]) -> None:
        self.resets.append(parts)
        if "optimizer" in parts:
            self.momentum = 0.0


def test_stages_that_change_one_thing_are_not_doubted(caplog: pytest.LogCaptureFixture) -> None:
    assert Schedule(FOUR).doubts == ()
    assert caplog.records == []


def test_a_stage_that_changes_two_things_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        schedule = Schedule((FOUR[0], FOUR[2]))
    (doubt,) = schedule.doubts
    assert "'expert' changes teacher and data at once" in doubt
    assert [record.message for record in caplog.records] == [doubt]


def test_a_schedule_of_one_stage_is_a_plain_run() -> None:
    plain, staged = Descent(), Descent()
    for index in range(5):
        plain.step(stage("only", 5), index)
    Schedule((stage("only", 5),)).run(staged.step, staged.reset)
    assert staged.losses == plain.losses
    assert staged.resets == []


def test_state_that_a_stage_does_not_carry_starts_anew() -> None:
    descent = Descent()
    Schedule(FOUR).run(descent.step, descent.reset)
    both: frozenset[Carried] = frozenset({"optimizer", "objective"})
    assert descent.resets == [frozenset({"objective"}), both, both]
    assert len(descent.losses) == Schedule(FOUR).steps == 12


@given(st.integers(0, 12))
def test_a_run_resumed_anywhere_reproduces_the_losses(done: int) -> None:
    schedule, whole = Schedule(FOUR), Descent()
    schedule.run(whole.step, whole.reset)
    killed = Descent()

    class Killed(Exception):
        pass

    def step(stage: Stage, index: int) -> None:
        if len(killed.losses) == done:
            raise Killed
        killed.step(stage, index)
        kept.update(weight=killed.weight, momentum=killed.momentum)

    kept = {"weight": 0.0, "momentum": 0.0}
    try:
        schedule.run(step, killed.reset)
    except Killed:
        pass
    else:
        assert done == schedule.steps
    resumed = Descent(kept["weight"], kept["momentum"])
    schedule.run(resumed.step, resumed.reset, done=done)
    assert killed.losses + resumed.losses == whole.losses


def test_a_position_is_a_stage_and_a_step_in_it() -> None:
    found = [Schedule(FOUR).position(steps) for steps in (0, 2, 3, 8, 12, 99)]
    assert found == [
        Position(0, 0),
        Position(0, 2),
        Position(1, 0),
        Position(2, 1),
        Position(4, 0),
        Position(4, 0),
    ]
    assert Schedule(FOUR).resets(12) == frozenset()


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ((), "no stage"),
        ((stage("a", 0),), "'a' has 0 steps"),
        ((stage("a"), stage("a")), "two stages are called 'a'"),
    ],
)
def test_a_schedule_that_cannot_run_is_told(stages: tuple[Stage, ...], problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        Schedule(stages)
