from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.canonical.text import HOUSEHOLD_GRAMMAR, TextCanonicalizer
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Choice, Message

FORM = TextCanonicalizer()
ONE_LINE = TextCanonicalizer(first_line=True)
HOUSEHOLD = TextCanonicalizer(grammar=HOUSEHOLD_GRAMMAR, first_line=True)


def said(text: str | None) -> Message:
    return Message(role="assistant", content=text)


def key(text: str, form: TextCanonicalizer = FORM) -> str | None:
    action = form.action(said(text))
    return None if action is None else action.key


@pytest.mark.parametrize(
    "text",
    [
        "go to desk 1",
        "Go to Desk 1",
        "  go  to\tdesk 1 \n",
        "go to the desk 1",
        "go to desk 1.",
        "go to desk 1 !",
        "Action: go to desk 1",
        "Act: go to desk 1",
        "Action 3: go to desk 1",
        "**Action:** go to desk 1",
        "> go to desk 1",
        "`go to desk 1`",
        '"Go to desk 1."',
        "“go to desk 1”",
        "```\ngo to desk 1\n```",
        "```text\ngo to desk 1\n```",
        "Thought: the mug may be there.\nAction: go to desk 1",
        "Thought: Action is needed\n\nAction:\ngo to desk 1\nObservation: You see a mug.",
        "Thought: the mug may be there. Action: go to desk 1",
        "Action: look\nObservation: nothing\nAction: go to desk 1",
        "goto desk 1",
    ],
)
def test_surface_forms_of_a_command_are_one_action(text: str) -> None:
    assert FORM.action(said(text)) == Action(kind="text", key="go to desk 1")


@pytest.mark.parametrize(
    "text",
    [
        "put mug 1 in/on desk 1",
        "put the mug 1 in / on the desk 1",
        "put mug 1 in desk 1",
        "put mug 1 on desk 1",
        "Put mug 1 into desk 1",
        "put mug 1 onto desk 1",
        "move mug 1 to desk 1",
    ],
)
def test_the_forms_of_putting_are_one_action(text: str) -> None:
    assert key(text) == "move mug 1 to desk 1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("go to desk 1", "go to desk 2"),
        ("go to desk 1", "go to desk 12"),
        ("open drawer 1", "close drawer 1"),
        ("move mug 1 to desk 1", "move mug 2 to desk 1"),
        ("take mug 1 from desk 1", "move mug 1 to desk 1"),
        ("Action: search\nAction Input: cats", "Action: search\nAction Input: dogs"),
        ("if a:\n  b()\n  c()", "if a:\n  b()\nc()"),
        ("The answer is:\n42", "The answer is:\n43"),
        ("A", "B"),
    ],
)
def test_different_actions_stay_different(one: str, other: str) -> None:
    assert key(one) is not None
    assert key(other) is not None
    assert key(one) != key(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n ",
        "...",
        '""',
        "```\n```",
        "Thought: I wonder.",
        "> think: hmm",
        "Action:",
        "Action: .",
    ],
)
def test_an_answer_without_an_action_is_unusable(text: str) -> None:
    assert key(text) is None
    assert key(text, ONE_LINE) is None


def test_no_content_at_all_is_unusable() -> None:
    assert FORM.action(said(None)) is None


def test_the_tool_and_input_of_a_react_action_count_together() -> None:
    assert key("Thought: t\nAction: search\nAction Input: cats") == "search cats"


def test_several_lines_are_compared_as_they_stand() -> None:
    assert key("Dear A,\nthe mug.  \n\n") == "Dear A,\nthe mug."


def test_a_one_line_world_takes_the_first_line() -> None:
    assert key("go to desk 1\nYou see a mug.", ONE_LINE) == "go to desk 1"


def test_a_truncated_command_is_unusable() -> None:
    cut = Choice(index=0, message=said("go to desk 1"), finish_reason="length")
    assert FORM.action(cut) is None
    assert ONE_LINE.action(cut) is None
    assert FORM.action(cut.model_copy(update={"finish_reason": "stop"})) is not None


def test_a_complete_first_line_survives_truncation_after_it() -> None:
    cut = Choice(index=0, message=said("go to desk 1\nYou s"), finish_reason="length")
    assert ONE_LINE.action(cut) == Action(kind="text", key="go to desk 1")
    assert FORM.action(cut) is None


def test_the_grammar_makes_other_commands_unusable() -> None:
    assert key("Put the mug 1 on desk 1.", HOUSEHOLD) == "move mug 1 to desk 1"
    assert key("look", HOUSEHOLD) == "look"
    assert key("walk to desk 1", HOUSEHOLD) is None
    assert key("look around", HOUSEHOLD) is None


def test_synonyms_are_the_callers() -> None:
    own = TextCanonicalizer(synonyms=[(r"^l$", "look")])
    assert key("L", own) == "look"
    assert key("put mug 1 on desk 1", own) == "put mug 1 on desk 1"


def test_a_command_that_the_rules_keep_changing_is_unusable() -> None:
    restless = TextCanonicalizer(synonyms=[(r"^(a+)$", r"\1a"), (r"^ping$", "pong x")])
    assert key("aa", restless) is None
    assert key("ping", restless) == "pong x"


def test_case_and_articles_can_count() -> None:
    strict = TextCanonicalizer(synonyms=(), articles=(), fold_case=False)
    assert key("grep -V a b", strict) == "grep -V a b"


def test_a_pattern_that_does_not_compile_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"'\(' is not a regular expression"):
        TextCanonicalizer(grammar=["("])
    with pytest.raises(ConfigError, match="not a regular expression"):
        TextCanonicalizer(synonyms=[("[", "x")])


def test_a_past_action_equals_the_answer_that_led_to_it() -> None:
    assert FORM.past("Put mug 1 on desk 1") == FORM.action(said("move mug 1 to desk 1"))
    assert FORM.past("") is None


def test_hostile_lengths_are_read_in_linear_time() -> None:
    for text in ("\n" * 200_000, "* " * 100_000 + "\nx", "a " * 100_000, '"' * 100_000):
        FORM.action(said(text))
    assert key("Action: " * 50_000 + "look") is None


COMMANDS = ["put", "move", "goto", "go to", "the", "a", "mug 1", "in", "on", "in/on", "to"]
LABELS = ["Action:", "act 2:", "Thought:", "Observation:", "Action Input:", ">", "**", ":"]
ODDITIES = [
    "\n",
    "```",
    "`",
    '"',
    "“",
    "”",
    ".",
    "!",
    "İ",
    "Σ",
    "\x1c",
    "\u2028",
    '{"tool_calls":[]}',
]
WORDS = st.sampled_from([*COMMANDS, *LABELS, *ODDITIES])
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(WORDS, max_size=12).map(" ".join),
    st.lists(WORDS, max_size=12).map("".join),
)


@given(text=TEXTS, form=st.sampled_from([FORM, ONE_LINE, HOUSEHOLD]))
def test_canonical_forms_are_fixed_points(text: str, form: TextCanonicalizer) -> None:
    action = form.action(said(text))
    if action is not None:
        assert action.key.strip()
        assert form.action(said(action.key)) == action


@given(text=TEXTS)
def test_surrounding_space_never_matters(text: str) -> None:
    assert ONE_LINE.action(said(f"\n  {text}\n ")) == ONE_LINE.action(said(text.strip()))


@given(
    words=st.lists(st.sampled_from(["mug 1", "desk 2", "take", "from", "drawer"]), min_size=1),
    decorate=st.sampled_from(
        ["{}", "The {}", "Action: {}", "> {}", "`{}`", "Thought: so\nAction: {}.", "```\n{}\n```"]
    ),
)
def test_decoration_never_changes_the_action(words: list[str], decorate: str) -> None:
    command = " ".join(words)
    assert key(decorate.format(command.upper())) == key(command) == command
