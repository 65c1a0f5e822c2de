from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.training.data.example import TrainingExample
from tutelage.training.data.paraphrase import (
    ParaphraseReject,
    ParaphraseRules,
    choose_paraphrases,
    reject_reason,
    rouge_l,
    same_numbers,
    with_goal,
)

GOAL = "put 2 clean mugs on the desk"
GOOD = "onto the desk go 2 mugs after washing"
RULES = ParaphraseRules()


def surely(one: str, other: str) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (GOOD, None),
        ("?!", ParaphraseReject.EMPTY),
        ("place 2 mugs", ParaphraseReject.LENGTH),
        (f"{GOOD} and then do nothing else at all", ParaphraseReject.LENGTH),
        (GOOD.replace("2", "3"), ParaphraseReject.NUMBERS),
        (GOAL.upper(), ParaphraseReject.OVERLAP),
        ("please put 2 clean mugs on the desk", ParaphraseReject.OVERLAP),
    ],
)
def test_each_filter_has_a_name(candidate: str, reason: ParaphraseReject | None) -> None:
    assert reject_reason(GOAL, candidate, surely, RULES) == reason


@given(st.text(min_size=1))
def test_a_copy_never_passes(goal: str) -> None:
    assert reject_reason(goal, goal, surely, RULES) is not None


@pytest.mark.parametrize(
    ("forth", "back", "reason"),
    [
        (0.75, 0.75, None),
        (0.7, 1.0, ParaphraseReject.ENTAILMENT),
        (1.0, 0.7, ParaphraseReject.REVERSE_ENTAILMENT),
    ],
)
def test_both_must_imply_each_other(
    forth: float, back: float, reason: ParaphraseReject | None
) -> None:
    def entails(one: str, other: str) -> float:
        return forth if one == GOAL else back

    assert reject_reason(GOAL, GOOD, entails, RULES) == reason


def test_the_scorer_is_asked_only_of_what_is_left() -> None:
    asked: list[str] = []

    def entails(one: str, other: str) -> float:
        asked.append(one)
        return 1.0

    choose_paraphrases({GOAL: [GOAL, GOOD.replace("2", "3")]}, entails)
    assert asked == []


def test_one_paraphrase_a_goal_and_the_log_of_the_rest() -> None:
    nearer = "2 washed mugs go on the desk"
    found = choose_paraphrases({GOAL: [nearer, GOOD, GOOD, "no"], "wash it": ["no"]}, surely)
    assert found.chosen == {GOAL: min([nearer, GOOD], key=lambda one: rouge_l(GOAL, one))}
    assert found.counts == {
        ParaphraseReject.SOURCE_TAKEN: 1,
        ParaphraseReject.LENGTH: 2,
    }
    assert {one.goal for one in found.rejected} == {GOAL, "wash it"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2 of 3", "3 of 2", True),
        ("2 and 2", "2", False),
        ("1,5 l", "1.5 l", False),
        ("no", "none", True),
    ],
)
def test_numbers_are_compared_as_they_are_written(one: str, other: str, same: bool) -> None:
    assert same_numbers(one, other) is same


def test_rouge_is_the_f1_of_the_common_subsequence() -> None:
    assert rouge_l("a b c d", "a c e") == pytest.approx(2 * 2 / 7)
    assert rouge_l("A, b!", "a b") == 1
    assert rouge_l("", "a") == 0


def example(*messages: tuple[str, str], goal: str = GOAL) -> TrainingExample:
    return TrainingExample(
        id="e1:0",
        tenant="acme",
        episode_id="e1",
        messages=tuple({"role": role, "content": content} for role, content in messages),
        supervised=(len(messages) - 1,),
        goal=goal,
    )


def test_a_copy_asks_in_other_words() -> None:
    original = example(("system", "s"), ("user", f"Task: {GOAL}\na room"), ("assistant", "look"))
    copy = with_goal(original, GOOD)
    assert copy is not None
    assert copy.id == "e1:0:paraphrase"
    assert (copy.origin, copy.goal) == ("synthetic", GOOD)
    assert [m["content"] for m in copy.messages] == ["s", f"Task: {GOOD}\na room", "look"]
    assert (copy.supervised, copy.trace_ids) == (original.supervised, original.trace_ids)


@pytest.mark.parametrize(
    "original",
    [
        example(("user", "Task: another"), ("assistant", "look")),
        example(("user", f"Task: {GOAL}"), ("assistant", f"I will {GOAL}")),
        example(("user", "Task: "), ("assistant", "look"), goal=""),
    ],
)
def test_a_goal_that_cannot_be_replaced_everywhere_gives_no_copy(
    original: TrainingExample,
) -> None:
    assert with_goal(original, GOOD) is None


def test_content_in_parts_is_left_alone() -> None:
    parts = [{"type": "text", "text": "picture"}]
    original = example(("user", f"Task: {GOAL}"), ("assistant", "look"))
    messages = ({"role": "user", "content": parts}, *original.messages)
    copy = with_goal(original.model_copy(update={"messages": messages, "supervised": (2,)}), GOOD)
    assert copy is not None
    assert copy.messages[0]["content"] == parts
