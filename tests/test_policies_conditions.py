"""What a calibration holds for, and what declarations of actions change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cascade.decided_steps import shown, step_after, voted
from tests.configured_policies import policies, settings, written
from tests.isolation import isolate

from tutelage.policies import Choice, student_identity
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Action, Message, SamplePlan
from tutelage.runtime.types import Choice as Sampled


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def says(text: str, index: int = 0) -> Sampled:
    return Sampled(index=index, message=Message(role="assistant", content=text))


# The conditions.


def conditions(bank: str = "b", **changes: Any) -> Any:
    return policies(**changes).conditions(bank, "gpt-4.1")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"student__model": "other"}, "student"),
        ({"student__checkpoint": "/models/other"}, "student"),
        ({"cascade__samples": 5}, "samples"),
        ({"cascade__temperature": 0.2}, "temperature"),
        ({"cascade__draw": "sequential"}, "draw"),
        ({"cascade__greedy_first": True}, "greedy_first"),
        ({"cascade__agree": 2}, "rule"),
        ({"cascade__rule": "majority", "cascade__rule_threshold": 0.9}, "rule"),
        ({"cascade__enough_logprob": -0.2}, "rule"),
        ({"cascade__grammar": "household"}, "form"),
        ({"cascade__guards": []}, "guards"),
        ({"retrieval__k": 5}, "prompt"),
        ({"retrieval__rebind": False}, "prompt"),
        ({"prompt__layout": "pinned"}, "prompt"),
        ({"prompt__max_prompt_tokens": 900}, "prompt"),
        ({"cascade__canonical": "code"}, "form"),
        ({"cascade__effects": {"get_*": "read"}}, "form"),
        ({"cascade__order_free": {"f": ["tags"]}}, "form"),
        ({"cascade__ordered": {"f": ["tags"]}}, "form"),
        ({"cascade__stateful": False}, "form"),
        ({"cascade__react_tools": ["f"]}, "form"),
        ({"routing__coverage": 0.2}, "routing"),
        ({"routing__recall": 0.9}, "routing"),
        ({"routing__easy": 0.9}, "routing"),
        ({"episode__sticky_deferrals": 2}, "routing"),
    ],
)
def test_what_the_student_is_shown_and_how_it_is_asked_is_a_condition(
    changes: dict[str, Any], named: str
) -> None:
    (difference,) = conditions().differences(conditions(**changes))
    assert difference.startswith(f"{named} was ")


@pytest.mark.parametrize(
    "changes",
    [
        {"cascade__policy": "always-teacher"},
        {"cascade__guards": ["stall", "rejection", "loop"]},
        {"teacher__priced_as": "gpt-4o"},
        {"evidence__holdout": 0.5},
        {"evidence__audits": 0.5},
        {"gateway__port": 4321},
        {"routing__votes": 5},
        {"routing__recall_mutating": True},
        {"episode__sticky_window": 3},
    ],
)
def test_what_does_not_touch_the_students_answers_is_none(changes: dict[str, Any]) -> None:
    before = conditions(cascade__guards=["loop", "rejection", "stall"])
    after = conditions(**{"cascade__guards": ["loop", "rejection", "stall"], **changes})
    assert before.differences(after) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"routing__recall": 0.9}, {"routing__recall": 0.8}),
        ({"routing__recall": 0.9}, {"routing__recall": 0.9, "routing__recall_mutating": True}),
        ({"routing__recall": 0.9}, {"routing__recall": 0.9, "routing__votes": 2}),
        ({"routing__recall": 0.9}, {}),
        ({"episode__sticky_deferrals": 2}, {"episode__sticky_deferrals": 3}),
    ],
)
def test_what_routes_around_the_policy_is_a_condition(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    (difference,) = conditions(**before).differences(conditions(**after))
    assert difference.startswith("routing was ")


def test_a_policy_that_was_calibrated_without_recall_is_refused_with_it(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings())
    made = policies(cascade__policy_file=str(path), routing__recall=0.9)
    assert made.file is not None
    with pytest.raises(ConfigError, match=r"else: routing was 'off' and is 'recall=0\.9, .*'; run"):
        made.file.check(made.conditions("", "oracle: test"), path)


def test_the_order_in_which_declarations_are_written_is_no_condition() -> None:
    one: dict[str, Any] = {
        "cascade__effects": {"a": "read", "b": "write"},
        "cascade__order_free": {"f": ["x", "y"], "g": ["z"]},
        "cascade__react_tools": ["f", "g"],
    }
    other: dict[str, Any] = {
        "cascade__effects": {"b": "write", "a": "read"},
        "cascade__order_free": {"g": ["z"], "f": ["y", "x"]},
        "cascade__react_tools": ["g", "f"],
    }
    assert conditions(**one).differences(conditions(**other)) == []


def test_without_retrieval_there_is_no_bank() -> None:
    assert conditions(bank="b1").bank == "b1"
    assert conditions(bank="b1", retrieval__enabled=False).bank == ""


def test_the_student_is_named_by_its_model_then_its_folder() -> None:
    assert student_identity(settings(student__model="m", student__checkpoint="/c")) == "m"
    assert student_identity(settings(student__checkpoint="/c")) == "/c"
    assert student_identity(settings()) == "SmolLM2-135M-Instruct"


# What the declared effects change.


READS: dict[str, Any] = {"cascade__effects": {"find *": "read"}}


def test_what_is_declared_to_read_is_recalled() -> None:
    both = [shown("find desk 1"), shown("Find desk 1.")]
    recall: dict[str, Any] = {"routing__recall": 0.5, "routing__votes": 2, "cascade__guards": []}
    plans = [
        policies(**recall, **effects).policy(Choice()).plan(step_after(), both)
        for effects in ({}, READS)
    ]
    assert [isinstance(plan, SamplePlan) and plan.recalled for plan in plans] == [
        None,
        "find desk 1",
    ]


def test_what_is_declared_to_read_may_be_outvoted() -> None:
    samples = [says(text, index) for index, text in enumerate(["find a", "find a", "find b"])]
    agreed = [
        policies(cascade__rule="asymmetric", **effects).agreement().measure(samples, 3).agreed
        for effects in ({}, READS)
    ]
    assert agreed == [False, True]


def test_what_is_declared_to_read_is_known_of_a_step() -> None:
    found = [
        policies(**effects).describer().describe(step_after(), voted("find a"), [])["mutating"]
        for effects in ({}, READS)
    ]
    assert found == [1.0, 0.0]


@pytest.mark.parametrize(
    "changes", [{"cascade__grammar": "household"}, {"cascade__canonical": "household"}]
)
def test_what_reads_in_a_household_is_known_unless_it_is_said_otherwise(
    changes: dict[str, Any],
) -> None:
    look = Action("text", "look")
    assert policies().effects.is_mutating(look)
    assert not policies(**changes).effects.is_mutating(look)
    assert policies(cascade__effects={"look": "write"}, **changes).effects.is_mutating(look)


@pytest.mark.parametrize(
    ("changes", "agree"),
    [({}, False), ({"cascade__canonical": "code"}, True), ({"cascade__canonical": "text"}, False)],
)
def test_answers_are_compared_as_the_form_says(changes: dict[str, Any], agree: bool) -> None:
    samples = [says("x = 1\nprint(x)"), says("y = 1  # one\nprint(y)", 1)]
    given = {"cascade__stateful": False, **changes}
    assert policies(**given).agreement().measure(samples).agreed == agree


def test_an_unknown_form_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="'cod' is unknown: did you mean 'code'"):
        policies(cascade__canonical="cod").agreement()
