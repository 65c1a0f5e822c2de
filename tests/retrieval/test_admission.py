from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine
from tests.retrieval.poisoning import gate

from tutelage.retrieval.admission import WRITER_FULL, Gate, Offer
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.neighbours import NeighbourRule
from tutelage.retrieval.origins import Origins
from tutelage.retrieval.rules import CurationRules
from tutelage.runtime.types import Trajectory

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory


@pytest.fixture
def origins(database: Engine) -> Origins:
    return Origins(database)


def letting(bank: Bank, origins: Origins, **rules: Any) -> Gate:
    neighbours = NeighbourRule(least_writers=3)
    return gate(bank, origins, CurationRules(neighbours=neighbours, **rules))


def offer(made: Trajectory, *writers: str) -> Offer:
    return Offer(made, frozenset(writers))


async def test_the_same_actions_for_the_same_goal_enter_once(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    keeper = letting(bank, origins)
    numbered = trajectory("c", goal="Put a mug on the shelf 2")

    outcomes = await keeper.admit(
        "acme",
        [
            offer(trajectory("a"), "k1"),
            offer(trajectory("b"), "k2"),
            offer(numbered, "k3"),
            offer(trajectory("a"), "k1"),
        ],
        cause="test",
    )

    assert [one.outcome for one in outcomes] == ["added", "rejected", "rejected", "duplicate"]
    assert outcomes[1].reason == "the bank has the same already (a)"
    later = await keeper.admit("acme", [offer(trajectory("d"), "k4")], cause="test")
    assert later[0].reason == "the bank has the same already (a)"
    # Those who wrote the same count as witnesses.
    assert origins.writers("acme", ["a"]) == {"a": {"k1", "k2", "k3", "k4"}}


async def test_who_wrote_the_same_again_still_wrote_it(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    offers = [offer(trajectory("a"), "k1"), offer(trajectory("b"), "k1")]
    await letting(bank, origins).admit("acme", offers, cause="test")

    assert await bank.revoke("acme", "k1") == 1
    assert await bank.trajectories("acme") == ()


async def test_nearly_the_same_actions_are_a_copy_too(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    keeper = letting(bank, origins)
    turns = [(turn.observation, turn.action) for turn in trajectory().turns]
    other_shelf = trajectory("b", turns=[(o, a.replace("fridge 1", "fridge 2")) for o, a in turns])
    shorter = trajectory("c", turns=turns[:-1])

    await keeper.admit("acme", [offer(trajectory("a"))], cause="test")
    outcomes = await keeper.admit("acme", [offer(other_shelf), offer(shorter)], cause="test")

    assert [one.outcome for one in outcomes] == ["rejected", "added"]


async def test_a_goal_has_so_many_demonstrations_and_no_more(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    keeper = letting(bank, origins, per_goal=2)
    offers = [offer(trajectory(f"t{i}", turns=[("a", f"{i * 'x'}")])) for i in range(1, 5)]

    outcomes = [*await keeper.admit("acme", offers[:3], cause="test")]
    outcomes += await keeper.admit("acme", offers[3:], cause="test")

    assert [one.outcome for one in outcomes] == ["added", "added", "rejected", "rejected"]
    assert outcomes[3].reason == "the bank has 2 of its goal already"


async def test_one_writer_does_not_fill_the_bank_where_others_write(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    keeper = letting(bank, origins, writer_floor=2, writer_share=0.5)

    def several(name: str, count: int) -> list[Offer]:
        return [
            offer(trajectory(f"{name}{i}", goal=f"goal {name} {i * 'x'}"), name)
            for i in range(count)
        ]

    alone = await keeper.admit("acme", several("ann", 5), cause="test")
    other = await keeper.admit("acme", several("bob", 1), cause="test")
    more = await keeper.admit("acme", several("ann", 7)[5:], cause="test")

    assert {one.outcome for one in [*alone, *other]} == {"added"}
    assert {one.reason for one in more} == {WRITER_FULL}


async def test_what_contradicts_its_neighbours_is_stored_but_not_shown(
    bank: Bank, origins: Origins, trajectory: MakeTrajectory
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(3)])
    turns = [(turn.observation, "smash window 1") for turn in trajectory().turns]
    keeper = letting(bank, origins)

    (held,) = await keeper.admit("acme", [offer(trajectory("bad", turns=turns), "k")], cause="x")

    assert held.outcome == "quarantined"
    assert [one.id for one in await bank.trajectories("acme")] == ["t0", "t1", "t2"]
    (found,) = origins.held("acme")
    assert (found.trajectory_id, found.writers, found.state) == ("bad", ("k",), "quarantined")
    assert found.reason.startswith("it contradicts its neighbours (step 0: 'smash window 1'")
    assert origins.state("acme", "bad") == ("quarantined", found.reason)
    assert origins.state("acme", "unknown") is None
