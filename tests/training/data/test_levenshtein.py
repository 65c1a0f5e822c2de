from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from tutelage.training.data.levenshtein import ActionSequences


def plain(one: str, other: str) -> int:
    """The definition, by recursion."""

    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(one), len(other))


@given(st.lists(st.text("abc", max_size=6), min_size=1, max_size=6), st.data())
def test_distances_are_those_of_the_definition(rows: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    assert ActionSequences(rows).distances(index).tolist() == [plain(rows[index], r) for r in rows]


def test_an_action_is_one_symbol() -> None:
    sequences = ActionSequences([["open box", "look"], ["open chest", "look"], []])
    assert sequences.distances(0).tolist() == [0, 1, 2]
