from __future__ import annotations

import pytest
from tests.benchmarks.tiny_world import words

from tutelage.benchmarks.arms import ARMS, find_arms
from tutelage.runtime.errors import ConfigError


def test_every_arm_is_filed_under_its_name_and_has_its_own_title() -> None:
    assert all(name == arm.name for name, arm in ARMS.items())
    assert len({arm.title for arm in ARMS.values()}) == len(ARMS)
    assert all(words(arm.title) <= 6 for arm in ARMS.values())


def test_no_two_arms_do_the_same() -> None:
    definitions = [
        {key: value for key, value in arm.definition().items() if key != "name"}
        for arm in ARMS.values()
    ]
    assert all(definitions.count(one) == 1 for one in definitions)


def test_the_controls_are_what_they_control_for() -> None:
    assert ARMS["random-mix"].mix_of == "demos-cascade"
    assert ARMS["random-mix"].guards == ARMS["demos-cascade"].guards
    assert ARMS["recall"].student == "recall"
    for name in ("cascade", "demos-cascade"):
        guarded, plain = ARMS[name], ARMS[f"{name}-unguarded"]
        assert guarded.guards
        assert not plain.guards
        assert (guarded.policy, guarded.demonstrations) == (plain.policy, plain.demonstrations)


def test_arms_are_found_in_order_without_repeats() -> None:
    assert [arm.name for arm in find_arms(["demos", "teacher", "demos"])] == ["demos", "teacher"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["demo-cascade"], r"arm 'demo-cascade' is unknown; did you mean demos-cascade"),
        (["teacher", "zzz"], r"arm 'zzz' is unknown; known: teacher, student, "),
        ([], r"no arm to play; known: teacher"),
    ],
)
def test_an_unknown_arm_is_named_with_its_neighbours(names: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find_arms(names)
