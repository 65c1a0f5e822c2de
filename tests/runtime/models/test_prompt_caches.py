from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.models.prompt_caches import PromptCaches, shared_length

tokens = st.lists(st.integers(0, 2), max_size=12)


@given(tokens, tokens)
def test_the_shared_length_is_that_of_a_plain_loop(left: list[int], right: list[int]) -> None:
    expected = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        expected += 1
    assert shared_length(left, right) == expected


def test_the_longest_shared_beginning_wins() -> None:
    caches: PromptCaches[str] = PromptCaches(4)
    caches.keep((1, 2), "short")
    caches.keep((1, 3, 4, 5), "long")
    assert caches.longest((1, 3, 4, 9)) == (3, "long")
    assert caches.longest((1, 2, 9)) == (2, "short")
    assert caches.longest((7,)) == (0, None)


def test_the_prompt_that_was_not_used_for_longest_goes_first() -> None:
    caches: PromptCaches[str] = PromptCaches(2)
    caches.keep((1, 1), "one")
    caches.keep((2, 2), "two")
    assert caches.longest((1, 1, 5)) == (2, "one")
    caches.keep((3, 3), "three")
    assert caches.longest((2, 2)) == (0, None)
    assert caches.longest((1, 1)) == (2, "one")


def test_a_continued_prompt_replaces_its_beginning() -> None:
    caches: PromptCaches[str] = PromptCaches(8)
    caches.keep((1,), "first step")
    caches.keep((1, 2), "second step")
    assert len(caches) == 1
    assert caches.longest((1, 2, 3)) == (2, "second step")


def test_a_limit_of_zero_keeps_nothing() -> None:
    caches: PromptCaches[str] = PromptCaches(0)
    caches.keep((1,), "kept")
    assert len(caches) == 0
