from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cascade.decided_steps import UNUSABLE, shown, step_after, voted

from tutelage.cascade import features
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import ToolCanonicalizer
from tutelage.cascade.features import FEATURES, StepDescriber
from tutelage.cascade.guards import observation, rejection
from tutelage.cascade.guards.observation import ObservationForms, same_form
from tutelage.cascade.prompt_score import PromptScore
from tutelage.runtime.types import Action, Agreement, Choice, Message, Retrieved, Step, Turn

FORM = TextCanonicalizer()


def described(
    step: Step | None = None,
    agreement: Agreement | None = None,
    demonstrations: Sequence[Retrieved] = (),
    **options: Any,
) -> Mapping[str, float]:
    made = StepDescriber(FORM, **options)
    return made.describe(step or step_after(), agreement or voted("look"), demonstrations)


def asked_by(*vector: float) -> Retrieved:
    """A demonstration that was found by a vector of the step."""
    return dataclasses.replace(shown("look"), query=np.array(vector))


def acted(*actions: str) -> Step:
    history = tuple(Turn("o", action, "student") for action in actions)
    return Step("t", "e", len(history), "g", "o", history)


def seen(*observations: str) -> Step:
    """An episode with these observations, the last one now."""
    history = tuple(Turn(text, "look", "student") for text in observations[:-1])
    return Step("t", "e", len(history), "g", observations[-1], history)


def test_every_feature_is_known_of_a_full_step_and_has_a_name() -> None:
    agreement = dataclasses.replace(voted("look"), logprobs=(-0.1,))
    found = described(
        agreement=agreement,
        demonstrations=[asked_by(0.5, -1.0)],
        is_mutating=bool,
        prompt=PromptScore(np.array([2.0, 1.0]), 0.5),
    )
    assert tuple(sorted(found)) == FEATURES
    assert found["prompt"] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert all(isinstance(value, float) for value in found.values())


def test_a_demonstration_without_the_steps_vector_tells_nothing_of_the_prompt() -> None:
    prompt = PromptScore(np.array([2.0, 1.0]), 0.5)
    assert "prompt" not in described(demonstrations=[shown("look")], prompt=prompt)
    assert "prompt" not in described(demonstrations=[asked_by(0.5, -1.0)])
    assert "prompt" not in described(prompt=prompt)


def test_what_is_missing_is_left_out() -> None:
    assert set(described()) == {"agreement", "step_index", "refusals", "deferrals", "repeats"}
    assert set(described(agreement=UNUSABLE, is_mutating=bool)) == {
        "agreement",
        "step_index",
        "refusals",
        "deferrals",
    }


def test_agreement_is_the_share_and_the_index_counts_from_nothing() -> None:
    assert described(agreement=voted("look", 2))["agreement"] == pytest.approx(2 / 3)
    later = step_after("teacher", "student", None, "student")
    assert [described(step)["step_index"] for step in (step_after(), later)] == [0.0, 4.0]


def test_the_teachers_share_is_that_of_the_last_five_steps() -> None:
    assert described()["deferrals"] == 0.0
    assert described(step_after("teacher", None))["deferrals"] == 0.5
    old = step_after("teacher", "student", "student", "student", "student", "teacher")
    assert described(old)["deferrals"] == pytest.approx(1 / 5)


def test_repeats_are_all_earlier_turns_with_the_same_action() -> None:
    assert described(acted("Look.", "open drawer 1", "> look", ""))["repeats"] == 2.0
    assert described(acted("open drawer 1"))["repeats"] == 0.0


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (seen("Nothing happens."), 0.0),
        (seen("A room.", "NOTHING\n happens."), 1.0),
        (seen("Nothing happens.", "A desk."), 0.0),
        (seen("a", *["Nothing happens."] * 7), 5.0),
        (seen("a", "Nothing happens.", *"bcdef"), 0.0),
        (seen("a", "Nothing happens.", *"bcde"), 1.0),
    ],
)
def test_refusals_are_those_of_the_last_five_actions(step: Step, expected: float) -> None:
    assert described(step)["refusals"] == expected


def test_the_worlds_own_refusals_are_known() -> None:
    step = seen("a", "Unknown  Command")
    assert described(step, refusals=("unknown command",))["refusals"] == 1.0
    assert described(step)["refusals"] == 0.0


def test_mutating_is_what_the_caller_says_of_the_chosen_action() -> None:
    asked: list[Action] = []

    def is_mutating(action: Action) -> bool:
        asked.append(action)
        return action.key == "open"

    assert described(agreement=voted("open"), is_mutating=is_mutating)["mutating"] == 1.0
    assert described(agreement=voted("look"), is_mutating=is_mutating)["mutating"] == 0.0
    assert asked == [Action("text", "open"), Action("text", "look")]


def test_demonstrations_support_an_action_or_agree_on_another() -> None:
    given_ = [shown("Look.", 0.5), shown("open", 0.8), shown("open", 0.6), shown("", 0.7)]
    found = described(demonstrations=given_)
    assert (found["similarity"], found["support"], found["consensus"]) == (0.8, 0.25, 0.5)
    found = described(agreement=voted("close"), demonstrations=given_)
    assert (found["support"], found["consensus"]) == (0.0, 0.5)
    found = described(agreement=UNUSABLE, demonstrations=[shown("")])
    assert (found["support"], found["consensus"]) == (0.0, 0.0)


def test_an_unusable_demonstration_supports_no_unusable_answer() -> None:
    assert described(agreement=UNUSABLE, demonstrations=[shown("")])["support"] == 0.0


def test_log_probabilities_are_their_mean_and_lower_decile() -> None:
    twenty = tuple(-n / 10 for n in range(20))
    found = described(agreement=dataclasses.replace(voted("look"), logprobs=twenty))
    assert found["logprob_mean"] == pytest.approx(-0.95)
    assert found["logprob_low"] == pytest.approx(-1.8)
    found = described(agreement=dataclasses.replace(voted("look"), logprobs=(-0.5,)))
    assert (found["logprob_mean"], found["logprob_low"]) == (-0.5, -0.5)


@given(
    actions=st.lists(st.sampled_from(["look", "Look.", "open", "the open", ""]), max_size=8),
    observations=st.lists(st.sampled_from(["a", "Nothing happens.", "B"]), min_size=9, max_size=9),
    shared=st.booleans(),
)
def test_what_is_remembered_changes_nothing(
    actions: list[str], observations: list[str], shared: bool
) -> None:
    history = tuple(map(Turn, observations, actions))
    step = Step("t", "e", len(history), "g", observations[-1], history)
    demonstrations = [shown("open"), shown("look")]
    warm = StepDescriber(FORM)
    warm.describe(seen("Nothing happens.", "a"), voted("look"), [shown("Look."), shown("")])
    if shared:
        warm.describe(step, voted("open"), demonstrations)
    cold = StepDescriber(FORM)
    for agreement in (voted("look"), voted("open"), UNUSABLE):
        assert warm.describe(step, agreement, demonstrations) == cold.describe(
            step, agreement, demonstrations
        )


def test_actions_are_compared_by_the_tools_of_the_step() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    tools = ({"type": "function", "function": {"name": "f", "parameters": parameters}},)
    short, full = (
        f'{{"tool_calls":[{{"name":"f","arguments":"{text}"}}]}}' for text in ("{}", r"{\"n\":3}")
    )
    form = ToolCanonicalizer(FORM)
    made = StepDescriber(form)
    demonstrations = [shown(full), shown(short), shown("look")]
    for offered, repeats, support in (((), 1.0, 1 / 3), (tools, 2.0, 2 / 3)):
        chosen = form.for_tools(offered).past(short)
        assert chosen is not None
        agreement = Agreement(votes=((chosen, 3),), samples=3, chosen=0, agreed=True)
        step = dataclasses.replace(acted(short, full, "look"), tools=offered)
        found = made.describe(step, agreement, demonstrations)
        assert found["repeats"] == repeats
        assert found["support"] == pytest.approx(support)


class Counting:
    """A canonical form that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def action(self, answer: Choice | Message) -> Action | None:
        raise AssertionError("only past turns are read")

    def past(self, action: str) -> Action | None:
        self.asked += 1
        return FORM.past(action)


def test_a_past_action_is_read_once_until_too_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "_MOST_REMEMBERED", 3)
    form = Counting()
    made = StepDescriber(form)
    for _ in range(5):
        made.describe(acted("a", "b", "a", ""), voted("look"), [])
    assert form.asked == 3
    assert made.describe(acted("a", "b", "c", "look"), voted("look"), [])["repeats"] == 1.0
    assert made.describe(acted("a", "b", "c", "look"), voted("look"), [])["repeats"] == 1.0
    assert form.asked > 5


def test_refusals_are_told_when_more_are_seen_than_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rejection, "_MOST_REMEMBERED", 2)
    made = StepDescriber(FORM)
    step = seen("a", "b", "Nothing happens.", "c", "nothing happens")
    for _ in range(3):
        assert made.describe(step, voted("look"), [])["refusals"] == 2.0


@given(first=st.text("aA \n"), second=st.text("aA \n"))
def test_observations_of_one_form_have_one_number(first: str, second: str) -> None:
    forms = ObservationForms()
    is_same = same_form(first) == same_form(second)
    assert (forms.of(first) == forms.of(second)) == is_same
    assert (forms.of(first) == forms.of(second)) == is_same


def test_forms_are_told_when_more_are_seen_than_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observation, "_MOST_REMEMBERED", 2)
    forms = ObservationForms()
    numbers = [forms.of(text) for text in ("a", "b", "C", "A", "B ", "c")]
    assert numbers[:3] == numbers[3:]
    assert len(set(numbers)) == 3
