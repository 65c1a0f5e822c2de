from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tutelage.retrieval.dropout import DemonstrationDropout, draw
from tutelage.retrieval.exposures import Exposure
from tutelage.retrieval.window import cut
from tutelage.runtime.types import Retrieved, Step

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeStep, MakeTrajectory


class Listed:
    def __init__(self, found: Sequence[Retrieved]) -> None:
        self._found = found

    async def search(self, step: Step) -> Sequence[Retrieved]:
        return self._found


class Notes:
    def __init__(self) -> None:
        self.seen: list[Exposure] = []

    def post(self, exposure: Exposure) -> None:
        self.seen.append(exposure)


@pytest.fixture
def found(trajectory: MakeTrajectory) -> list[Retrieved]:
    return [
        Retrieved(cut(trajectory(f"t{i}"), 1, before=1, after=0), 1.0 - i / 100) for i in range(10)
    ]


def dropping(found: Sequence[Retrieved], notes: Notes, **change: Any) -> DemonstrationDropout:
    given: dict[str, Any] = {"share": 0.3, "seed": 7, "clock": lambda: 5.0, **change}
    return DemonstrationDropout(Listed(found), log=notes, **given)


def ids(found: Sequence[Retrieved]) -> list[str]:
    return [one.demonstration.trajectory_id for one in found]


async def test_seed_and_step_say_what_is_left_out(found: list[Retrieved], step: MakeStep) -> None:
    first, again, other = Notes(), Notes(), Notes()

    shown = await dropping(found, first).search(step())
    assert ids(shown) == ids(await dropping(found, again).search(step()))
    assert ids(shown) != ids(await dropping(found, other, seed=8).search(step()))

    (note,) = first.seen
    assert first.seen == again.seen
    assert list(note.shown) == ids(shown)
    assert sorted([*note.shown, *note.left_out]) == ids(found)
    assert (note.share, note.at_s, note.layer, note.tools) == (0.3, 5.0, "step", {})


async def test_an_episode_is_with_or_without_a_trajectory_in_all_of_its_steps(
    found: list[Retrieved], step: MakeStep
) -> None:
    notes = Notes()
    retriever = dropping(found, notes)

    for index in range(5):
        await retriever.search(step(f"sight {index}", index=index))
    await retriever.search(replace(step(), episode_id="another"))

    *same, another = [note.left_out for note in notes.seen]
    assert len(set(same)) == 1
    assert another != same[0]


async def test_nothing_is_left_out_without_a_share(found: list[Retrieved], step: MakeStep) -> None:
    notes = Notes()

    shown = await dropping(found, notes, share=0.0, layer="pinned").search(step())

    assert shown == found
    assert (notes.seen[0].left_out, notes.seen[0].layer) == ((), "pinned")


async def test_the_tools_of_the_step_are_noted(step: MakeStep) -> None:
    notes = Notes()
    tools = ({"type": "function", "function": {"name": "find", "parameters": {}}},)

    assert await dropping([], notes).search(replace(step(), tools=tools)) == []

    assert list(notes.seen[0].tools) == ["find"]


def test_chance_is_fair() -> None:
    drawn = [draw(1, "acme", f"e{number}", "t") for number in range(4000)]

    assert all(0 <= one < 1 for one in drawn)
    # Five standard errors of a share of 0.1.
    assert abs(sum(one < 0.1 for one in drawn) / 4000 - 0.1) < 5 * 0.0048


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="is not in"):
        dropping([], Notes(), share=share)
