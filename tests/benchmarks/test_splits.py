from __future__ import annotations

import pytest

from tutelage.benchmarks.splits import Split, read_split
from tutelage.runtime.errors import WorldMissing

KNOWN = ("train", "dev")


def test_a_split_is_named_with_or_without_a_count() -> None:
    assert read_split("dev", KNOWN, "chess") == Split("dev", None)
    assert read_split("train:20", KNOWN, "chess") == Split("train", 20)


@pytest.mark.parametrize("text", ["dev:", "dev:0", "dev:-3", "dev:x", "dev:²"])
def test_a_count_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(WorldMissing, match=f"split '{text}' of chess: write it like 'dev:20'"):
        read_split(text, KNOWN, "chess")


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(WorldMissing, match="unknown split 'test' of chess: use one of train, dev"):
        read_split("test:3", KNOWN, "chess")
