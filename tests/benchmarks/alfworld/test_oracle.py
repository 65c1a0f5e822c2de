from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tutelage.benchmarks.environment import OracleAction
from tutelage.runtime.errors import BenchmarkError

if TYPE_CHECKING:
    from tutelage.benchmarks.alfworld.oracle import Expert, Oracle
    from tutelage.benchmarks.alfworld.simulator import Fact

pytestmark = pytest.mark.alfworld


class Corridor:
    """A simulator whose only fact is the room; plans lead from one room to the next."""

    def __init__(self) -> None:
        self.room = 0
        self.plans_made = 0
        self.won = False
        self.plan_length = 3

    @property
    def facts(self) -> tuple[Fact, ...]:
        from tutelage.benchmarks.alfworld.simulator import Fact

        return (Fact("in", (str(self.room),)),)

    @property
    def commands(self) -> Sequence[str]:
        return ("on", "back")

    def plan(self) -> tuple[str, ...]:
        self.plans_made += 1
        return tuple(f"on {self.room + i}" for i in range(self.plan_length))


class Guide:
    """An expert that says the same at every room, until it is told to be lost."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.lost = False

    def advise(self, seen: object) -> str:
        from tutelage.benchmarks.alfworld.oracle import Lost, Seen

        assert isinstance(seen, Seen)
        self.heard.append(seen.action)
        if self.lost:
            raise Lost("fog")
        return "on"


class Walk:
    """An oracle on a corridor, and who walks there."""

    def __init__(self) -> None:
        from tutelage.benchmarks.alfworld.oracle import Oracle

        self.corridor, self.guide = Corridor(), Guide()
        self.guides_made = 0
        self.oracle: Oracle = Oracle(cast("object", self.corridor), self.make)  # type: ignore[arg-type]

    def make(self) -> Expert:
        self.guides_made += 1
        return cast("Expert", self.guide)

    def ask(self) -> OracleAction:
        return self.oracle.ask()

    def go(self, action: str, room: int) -> None:
        self.corridor.room = room
        self.oracle.saw(action, "You walk.")


@pytest.fixture
def walk() -> Walk:
    return Walk()


def test_nothing_is_computed_before_it_is_asked_for(walk: Walk) -> None:
    for room in range(5):
        walk.go("on", room)
    assert (walk.guides_made, walk.corridor.plans_made) == (0, 0)
    assert walk.ask() == walk.ask() == OracleAction("on", "expert")
    assert walk.guide.heard == ["look", *["on"] * 5]
    assert (walk.guides_made, walk.corridor.plans_made) == (1, 0)


def test_the_expert_hears_nothing_of_steps_that_show_nothing(walk: Walk) -> None:
    for action in ("look", "inventory", "help"):
        walk.oracle.saw(action, "You see a room.")
    walk.oracle.saw("dance", "Nothing happens.")
    walk.ask()
    assert walk.guide.heard == ["look"]


def test_the_planner_stays_once_the_expert_is_lost(walk: Walk) -> None:
    walk.guide.lost = True
    assert walk.ask() == OracleAction("on 0", "planner")
    walk.guide.lost = False
    walk.go("back", 7)
    assert walk.ask() == OracleAction("on 7", "planner")
    assert walk.guide.heard == ["look"]


def test_a_plan_is_kept_while_it_is_followed(walk: Walk) -> None:
    walk.guide.lost = True
    walk.ask()
    walk.go("on 0", 1)
    walk.go("on 1", 2)
    assert walk.ask().text == "on 2"
    walk.oracle.saw("look", "You see a room.")
    walk.oracle.saw("dance", "Nothing happens.")
    assert walk.ask().text == "on 2"
    assert walk.corridor.plans_made == 1


def test_a_plan_is_made_anew_after_a_detour_and_only_when_asked(walk: Walk) -> None:
    walk.guide.lost = True
    walk.ask()
    for room in (5, 6, 7):
        walk.go("back", room)
    assert walk.corridor.plans_made == 1
    assert walk.ask().text == "on 7"
    assert walk.corridor.plans_made == 2


def test_a_goal_that_cannot_be_reached_any_more_is_found_out_once(walk: Walk) -> None:
    walk.guide.lost = True
    walk.corridor.plan_length = 0
    for room in (1, 2):
        assert walk.ask() == OracleAction("look", "planner")
        walk.go("on", room)
    assert walk.corridor.plans_made == 1


def test_a_game_that_is_over_has_no_next_action(walk: Walk) -> None:
    walk.corridor.won = True
    with pytest.raises(BenchmarkError, match="the game is over"):
        walk.ask()


def test_an_expert_that_comes_round_again_by_itself_is_lost(walk: Walk) -> None:
    for room in (1, 2, 0):
        assert walk.ask().knowledge == "expert"
        walk.go("on", room)
    assert walk.ask() == OracleAction("on 0", "planner")


def test_an_expert_whose_step_has_no_effect_is_lost(walk: Walk) -> None:
    assert walk.ask().knowledge == "expert"
    walk.go("on", 0)
    assert walk.ask().knowledge == "planner"


def test_an_expert_that_others_push_back_may_repeat_itself_a_few_times(walk: Walk) -> None:
    from tutelage.benchmarks.alfworld.oracle import PATIENCE

    for _ in range(PATIENCE):
        assert walk.ask().knowledge == "expert"
        walk.go("on", 1)
        walk.go("back", 0)
    assert walk.ask().knowledge == "planner"


def test_a_search_that_takes_too_long_ends_with_a_plan(walk: Walk) -> None:
    from tutelage.benchmarks.alfworld.oracle import SEARCH_STEPS

    for room in range(1, SEARCH_STEPS + 1):
        assert walk.ask().knowledge == "expert"
        walk.go("on", room)
    assert walk.ask().knowledge == "planner"


INTRO = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly "
    "around you, you see a desk 2, a desk 1, a drawer 2, a drawer 1, a fridge 1, and a shelf 1.\n\n"
    "Your task is to: put two pencil in shelf."
)


class Told:
    """The real expert for two pencils on a shelf, told of made-up steps."""

    def __init__(self, folder: Path, kind: str = "pick_two_obj_and_place") -> None:
        from tutelage.benchmarks.alfworld.oracle import Expert

        parameters = {"object_target": "Pencil", "parent_target": "Shelf", "toggle_target": ""}
        (folder / "traj_data.json").write_text(
            json.dumps({"task_type": kind, "pddl_params": parameters})
        )
        self.expert = Expert(folder / "game.tw-pddl", INTRO, "seed")
        self.commands = {
            *(
                f"go to {kind} {n}"
                for kind in ("desk", "drawer", "fridge", "shelf")
                for n in (1, 2)
            ),
        }

    def __call__(
        self,
        action: str,
        observation: str = "",
        facts: Sequence[Fact] = (),
        *,
        can: Sequence[str] = (),
        cannot: Sequence[str] = (),
    ) -> str:
        from tutelage.benchmarks.alfworld.oracle import Seen

        commands = sorted({*self.commands, *can} - {*cannot})
        return self.expert.advise(Seen(action, observation, tuple(facts), commands))


def test_the_expert_searches_place_after_place(tmp_path: Path) -> None:
    told = Told(tmp_path)
    first = told("look")
    place = first.removeprefix("go to ")
    second = told(first, f"You arrive at {place}. On the {place}, you see nothing.")
    assert first.startswith("go to ")
    assert second.startswith("go to ")
    assert first != second


def test_the_expert_looks_at_a_place_that_shares_its_spot(tmp_path: Path) -> None:
    told = Told(tmp_path)
    first = told("look")
    place = first.removeprefix("go to ")
    advice = told("look", cannot=[first], can=[f"examine {place}"])
    assert advice == f"examine {place}"
    after = told(advice, f"On the {place}, you see nothing.", cannot=[first])
    assert after not in (first, advice)


def test_the_expert_goes_on_when_it_would_close_a_place_that_it_has_left(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told("look")
    told("go to drawer 1", "You arrive at drawer 1. The drawer 1 is closed.", can=["open drawer 1"])
    told(
        "open drawer 1",
        "You open the drawer 1. The drawer 1 is open. In it, you see nothing.",
        can=["close drawer 1"],
    )
    advice = told("go to desk 1", "You arrive at desk 1. On the desk 1, you see a mug 1.")
    assert advice.startswith("go to ")


def test_the_expert_remembers_where_it_saw_a_second_thing(tmp_path: Path) -> None:
    from tutelage.benchmarks.alfworld.simulator import Fact

    told = Told(tmp_path)
    told("look")
    told("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", can=["open fridge 1"])
    desk = "You arrive at desk 2. On the desk 2, you see a pencil 2, and a pencil 1."
    take = [f"take pencil {number} from desk 2" for number in (1, 2)]
    chosen = told("go to desk 2", desk, can=take)
    assert chosen in take
    thing = " ".join(chosen.split()[1:3])
    holds = [Fact("holds", ("agent", thing))]
    advice = told(chosen, f"You pick up the {thing} from the desk 2.", holds)
    assert advice == "go to shelf 1"
    move = f"move {thing} to shelf 1"
    shelf = "You arrive at shelf 1. On the shelf 1, you see nothing."
    assert told("go to shelf 1", shelf, holds, can=[move]) == move
    placed = [Fact("inreceptacle", (thing, "shelf 1"))]
    done = f"You move the {thing} to the shelf 1."
    assert told(move, done, placed, can=[f"take {thing} from shelf 1"]) == "go to desk 2"


def test_an_expert_that_gives_up_is_lost(tmp_path: Path) -> None:
    from tutelage.benchmarks.alfworld.oracle import Lost

    told = Told(tmp_path)
    told("look")
    with pytest.raises(Lost, match="IndexError"):
        told("move pencil 1 to shelf 1", "You move the pencil 1 to the shelf 1.")


def test_an_expert_that_advises_the_impossible_is_lost(tmp_path: Path) -> None:
    from tutelage.benchmarks.alfworld.oracle import Lost

    told = Told(tmp_path)
    advice = told("look")
    with pytest.raises(Lost, match="is not possible"):
        told("look", cannot=[advice])


def test_the_experts_choices_do_not_depend_on_or_disturb_the_global_generator(
    tmp_path: Path,
) -> None:
    import random

    take = [f"take pencil {number} from desk 2" for number in range(1, 9)]
    pencils = ", a ".join(f"pencil {number}" for number in range(1, 9))
    desk = f"You arrive at desk 2. On the desk 2, you see a {pencils}."
    chosen = set()
    for seed in range(5):
        random.seed(seed)
        before = random.getstate()
        told = Told(tmp_path)
        told("look")
        chosen.add(told("go to desk 2", desk, can=take))
        assert random.getstate() == before
    assert len(chosen) == 1
