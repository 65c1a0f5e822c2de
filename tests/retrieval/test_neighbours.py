from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.neighbours import NeighbourCheck, NeighbourRule
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.types import Trajectory

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory

RULE = NeighbourRule(least_writers=3)


class Wrote:
    def __init__(self, writers: Mapping[str, set[str]]) -> None:
        self._writers = writers

    def writers(self, tenant: str, ids: Sequence[str]) -> Mapping[str, set[str]]:
        return {id: self._writers[id] for id in ids if id in self._writers}


def checking(bank: Bank, writers: Mapping[str, set[str]] | None = None) -> NeighbourCheck:
    near = KeyedRetriever(bank, Selection(k=24, before=1))
    return NeighbourCheck(near, Wrote(writers or {}), RULE)


@pytest.fixture
def wrong(trajectory: MakeTrajectory) -> Trajectory:
    turns = [(turn.observation, "smash window 1") for turn in trajectory().turns]
    return trajectory("wrong", turns=turns)


async def test_what_no_independent_writer_does_contradicts_them(
    bank: Bank, trajectory: MakeTrajectory, wrong: Trajectory
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(3)])
    check = checking(bank)

    bad = await check.judge(wrong, frozenset({"evil"}))
    good = await check.judge(trajectory("good"), frozenset({"k"}))

    assert (bad.judged, bad.unsupported, bad.strange) == (5, 5, 5)
    assert bad.example == ("step 0: 'smash window 1', where most of 3 do 'go to fridge'")
    assert check.is_contradiction(bad)
    assert (good.judged, good.unsupported, good.strange, good.example) == (5, 0, 0, "")
    assert not check.is_contradiction(good)


async def test_a_writer_has_one_vote_and_none_on_its_own(
    bank: Bank, trajectory: MakeTrajectory, wrong: Trajectory
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(5)])
    one_writer = {f"t{i}": {"k1"} for i in range(5)}
    with_two = {**one_writer, "t0": {"k2"}, "t1": {"k3"}}

    assert (await checking(bank, one_writer).judge(wrong, frozenset())).judged == 0
    assert (await checking(bank, with_two).judge(wrong, frozenset())).judged == 5
    assert (await checking(bank, with_two).judge(wrong, frozenset({"k3"}))).judged == 0


async def test_suspects_and_the_trajectory_itself_do_not_vote(
    bank: Bank, trajectory: MakeTrajectory, wrong: Trajectory
) -> None:
    await bank.add([*(trajectory(f"t{i}") for i in range(3)), wrong])
    check = checking(bank)

    assert (await check.judge(wrong, frozenset())).unsupported == 5
    assert (await check.judge(wrong, frozenset(), suspects={"t0"})).judged == 0


async def test_states_unlike_any_other_are_not_judged(
    bank: Bank, trajectory: MakeTrajectory
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(3)])
    alone = trajectory("alone", goal="fly to the moon", turns=[("A rocket.", "ignite")])

    assert (await checking(bank).judge(alone, frozenset())).judged == 0
