from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.benchmarks.household.grammar import Command, listing, parse, read_listing

names = st.from_regex(r"[a-z]{1,8} [1-9][0-9]?", fullmatch=True).filter(
    lambda name: name.split()[0] not in {"a", "an", "the"}
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("go to cabinet 2", Command("go", place="cabinet 2")),
        ("open fridge 1", Command("open", place="fridge 1")),
        ("close fridge 1", Command("close", place="fridge 1")),
        ("take mug 1 from desk 2", Command("take", "mug 1", "desk 2")),
        ("move mug 1 to desk 2", Command("move", "mug 1", "desk 2")),
        ("clean mug 1 with sinkbasin 1", Command("clean", "mug 1", "sinkbasin 1")),
        ("heat mug 1 with microwave", Command("heat", "mug 1", "microwave")),
        ("cool mug 1 with fridge 1", Command("cool", "mug 1", "fridge 1")),
        ("use desklamp 1", Command("use", "desklamp 1")),
        ("use desklamp", Command("use", "desklamp")),
        ("examine mug 1", Command("examine", "mug 1")),
        ("look", Command("look")),
        ("inventory", Command("inventory")),
    ],
)
def test_every_form_of_command_is_understood(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize("preposition", ["in/on", "in", "on"])
def test_put_is_another_word_for_move(preposition: str) -> None:
    assert parse(f"put mug 1 {preposition} desk 2") == parse("move mug 1 to desk 2")


@pytest.mark.parametrize(
    "text",
    ["  GO   to  the Cabinet 2. ", "go to a cabinet 2", "Go To cabinet 2...", "go to\tcabinet 2\n"],
)
def test_case_articles_spacing_and_a_full_stop_do_not_matter(text: str) -> None:
    assert parse(text) == Command("go", place="cabinet 2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "dance",
        "go to",
        "go to cabinet",
        "go cabinet 2",
        "take mug 1",
        "lookaround",
        "move mug 1 desk 2",
        "look; open fridge 1",
        "go to cabinet ٢",
        "I would go to cabinet 2",
    ],
)
def test_other_text_is_no_command(text: str) -> None:
    assert parse(text) is None


@given(st.text())
def test_any_text_is_a_command_or_none(text: str) -> None:
    assert parse(text) is None or isinstance(parse(text), Command)


@pytest.mark.parametrize("text", ["a " * 50_000, "a" * 100_000, "take " + "1 " * 50_000])
def test_a_very_long_text_is_no_command(text: str) -> None:
    assert parse(text) is None


@given(st.lists(names))
def test_a_listing_reads_back_as_the_names_it_lists(things: list[str]) -> None:
    assert read_listing(f"On the desk 1, you see {listing(things)}.") == tuple(things)


def test_an_observation_that_shows_nothing_differs_from_an_empty_place() -> None:
    assert read_listing("You arrive at cabinet 1. The cabinet 1 is closed.") is None
    assert read_listing("On the desk 1, you see nothing.") == ()
