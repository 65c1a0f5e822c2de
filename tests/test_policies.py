from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cascade.decided_steps import PLAN, UNUSABLE, shown, step_after, voted
from tests.configured_policies import SCORES, layers, policies, settings, written
from tests.isolation import isolate

from tutelage.cascade.agreement import Majority, MOfN, Unanimous, Weighted
from tutelage.cascade.asymmetric import Asymmetric
from tutelage.cascade.episode_budget import EpisodeBudget
from tutelage.cascade.holdout import Holdout
from tutelage.cascade.routing import Routed
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.sticky import Sticky
from tutelage.policies import Choice, Policies
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import rule_for
from tutelage.runtime.types import (
    Action,
    Decision,
    Message,
    Reason,
    SamplePlan,
    Step,
    Turn,
)
from tutelage.runtime.types import Choice as Sampled

NO_GUARDS: dict[str, Any] = {"cascade__guards": []}


def says(text: str, index: int = 0) -> Sampled:
    return Sampled(index=index, message=Message(role="assistant", content=text))


def as_configured(made: Policies, rule: type) -> Any:
    """The rule itself, with the same options."""
    form = made.canonicalizer
    options: dict[type, tuple[Any, ...]] = {
        MOfN: (form, 2),
        Majority: (form, 0.9),
        Weighted: (form, 0.5),
        Asymmetric: (form, made.effects.is_mutating),
    }
    return rule(*options.get(rule, (form,)))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


# The layers.


EVERYTHING: dict[str, Any] = {
    "routing__coverage": 0.1,
    "episode__sticky_deferrals": 2,
    "episode__max_deferrals": 5,
    "evidence__holdout": 0.1,
}


def test_by_default_policy_and_guards_decide_alone() -> None:
    assert layers(policies().policy(Choice()))[-1] == "Paper"
    assert layers(policies(**NO_GUARDS).policy(Choice())) == ["ToolGuard", "Paper"]


def test_the_layers_stand_in_a_fixed_order() -> None:
    made = policies(**EVERYTHING, cascade__guards=["stall", "loop", "rejection"])
    assert layers(made.policy(Choice())) == [
        "Holdout",
        "ToolGuard",
        "EpisodeBudget",
        "StallGuard",
        "RejectionGuard",
        "LoopGuard",
        "Sticky",
        "Routed",
        "Paper",
    ]


def test_a_bare_choice_has_policy_and_guards_only() -> None:
    made = policies(**EVERYTHING, cascade__guards=["loop"])
    assert layers(made.policy(Choice(bare=True))) == ["ToolGuard", "LoopGuard", "Paper"]
    assert layers(made.policy(Choice(guards=(), bare=True))) == ["ToolGuard", "Paper"]


@pytest.mark.parametrize(
    ("changes", "layer"),
    [
        ({"routing__coverage": 0.5}, Routed),
        ({"routing__recall": 0.5}, Routed),
        ({"routing__easy": 0.5}, Routed),
        ({"episode__sticky_deferrals": 1}, Sticky),
        ({"episode__max_cost_usd": 0.5}, EpisodeBudget),
        ({"episode__max_steps": 0}, EpisodeBudget),
        ({"episode__max_deferrals": 1}, EpisodeBudget),
        ({"evidence__holdout": 0.5}, Holdout),
    ],
)
def test_each_setting_adds_its_layer(changes: dict[str, Any], layer: type) -> None:
    made = layers(policies(**NO_GUARDS, **changes).policy(Choice()))
    assert set(made) == {"ToolGuard", layer.__name__, "Paper"}


@pytest.mark.parametrize(
    "changes",
    [{"routing__votes": 5}, {"episode__sticky_window": 3}, {"evidence__seed": 3}],
)
def test_a_setting_of_what_is_off_adds_nothing(changes: dict[str, Any]) -> None:
    made = policies(**NO_GUARDS, **changes).policy(Choice())
    assert layers(made) == ["ToolGuard", "Paper"]


def test_more_deferrals_than_the_window_holds_are_one_clear_line() -> None:
    made = policies(episode__sticky_deferrals=7, episode__sticky_window=6)
    with pytest.raises(ConfigError, match=r"sticky_deferrals = 7: .* window of 6"):
        made.policy(Choice())


# What the layers do together.


def test_guards_veto_what_is_recalled() -> None:
    made = policies(routing__recall=0.5, routing__recall_mutating=True, routing__votes=2).policy(
        Choice()
    )
    both = [shown("look"), shown("look")]
    step = step_after("student", now="A desk.")
    planned = made.plan(step, both)
    assert isinstance(planned, SamplePlan)
    assert planned.recalled == "look"
    refused = step_after("student", now="Nothing happens.")
    assert made.plan(refused, both) == Decision(served="teacher", reason=Reason.REJECTED)
    again = Step("t", "e", 1, "g", "o", (Turn("o", "look", "student"),))
    agreement = dataclasses.replace(voted("look", 2, 2), recalled=True)
    assert made.decide(again, agreement, both).reason is Reason.LOOP
    assert made.decide(step, agreement, both).reason is Reason.RECALLED


def test_nothing_that_may_write_is_recalled_unless_it_is_said() -> None:
    made = policies(routing__recall=0.5, routing__votes=2, **NO_GUARDS)
    action = Action("text", "wipe everything")
    assert made.effects.is_mutating(action)
    both = [shown(action.key), shown(action.key)]
    planned = made.policy(Choice()).plan(step_after(), both)
    assert isinstance(planned, SamplePlan)
    assert planned.recalled is None


def test_a_stuck_episode_is_not_recalled() -> None:
    made = policies(
        routing__recall=0.5,
        routing__recall_mutating=True,
        routing__votes=2,
        episode__sticky_deferrals=2,
        **NO_GUARDS,
    ).policy(Choice())
    both = [shown("look"), shown("look")]
    stuck = Decision(served="teacher", reason=Reason.STICKY)
    assert made.plan(step_after("teacher", "teacher"), both) == stuck


def test_beyond_the_budget_the_student_serves_what_a_guard_would_veto_and_what_sticks() -> None:
    made = policies(episode__max_deferrals=2, episode__sticky_deferrals=2).policy(Choice())
    step = step_after("teacher", "teacher", "student", now="Nothing happens.")
    assert made.plan(step) == SamplePlan(1, 0.0)
    assert made.decide(step, voted("look", 1, 1), []).reason is Reason.BUDGET
    assert made.decide(step, UNUSABLE, []).served == "teacher"


def test_no_budget_ends_a_held_out_episode() -> None:
    made = policies(episode__max_deferrals=0, evidence__holdout=0.5).policy(Choice())
    arms = [made.plan(step_after(episode_id=f"e{n}")) for n in range(100)]
    held = Decision(served="teacher", reason=Reason.HOLDOUT, propensity=0.5)
    assert 0 < arms.count(held) < 100
    assert all(arm == held or isinstance(arm, SamplePlan) for arm in arms)


# Policies from a file.


def test_a_calibrated_policy_is_as_its_file_says(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings())
    made = policies(
        cascade__policy="calibrated", cascade__policy_file=str(path), **NO_GUARDS
    ).policy(Choice())
    assert made.plan(step_after()) == PLAN
    for share, expected in ((0.6, Reason.CERTIFIED), (0.59, Reason.UNCERTAIN)):
        decision = made.decide(step_after(), voted("look", agreement=share), [])
        assert decision.reason is expected
        assert decision.score == pytest.approx(share)


def test_benefit_knows_value_cost_and_the_teachers_success(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings())
    given: dict[str, Any] = {
        "cascade__policy": "benefit",
        "cascade__policy_file": str(path),
        **NO_GUARDS,
    }
    with pytest.raises(ConfigError, match=r"needs cascade\.value_usd"):
        policies(**given).policy(Choice())
    made = policies(cost_usd=0.1, cascade__value_usd=1.0, **given).policy(Choice())
    for right, expected in ((0.79, Reason.BENEFIT), (0.81, Reason.NO_BENEFIT)):
        decision = made.decide(step_after(), voted("look", agreement=right), [])
        assert decision.reason is expected
        assert decision.score == pytest.approx(0.9 - right - 0.1)


@pytest.mark.parametrize("name", ["calibrated", "benefit"])
def test_a_policy_without_its_file_says_how_to_get_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' needs cascade.policy_file: `tutelage calib"):
        policies(cascade__policy=name, cascade__value_usd=1.0).policy(Choice())
    gone = policies(cascade__policy=name, cascade__policy_file="gone.json")
    with pytest.raises(ConfigError, match=r"'gone.json' does not exist: run `tutelage calibrate`"):
        gone.policy(Choice())


def test_an_unknown_policy_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="'xyz' is unknown"):
        policies(cascade__policy="xyz").policy(Choice())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, Unanimous),
        ({"cascade__agree": 2}, MOfN),
        ({"cascade__rule": "majority", "cascade__rule_threshold": 0.9}, Majority),
        ({"cascade__rule": "likelihood", "cascade__rule_threshold": 0.5}, Weighted),
        ({"cascade__rule": "asymmetric"}, Asymmetric),
    ],
)
@pytest.mark.parametrize("tools", [(), ({"function": {"name": "f"}},)])
def test_agreement_is_as_the_rule_says(
    changes: dict[str, Any], rule: type, tools: tuple[Any, ...]
) -> None:
    made = policies(**changes)
    looks = [says(text, index) for index, text in enumerate(["look", "Look.", "inventory"])]
    for samples in (looks, looks[:2], looks[1:], []):
        plain = as_configured(made, rule)
        assert rule_for(made.agreement(), tools).measure(samples, 3) == plain.measure(samples, 3)


def test_a_likely_first_sample_is_enough_where_the_configuration_says_so() -> None:
    first = says("look").model_copy(update={"logprobs": {"content": [{"logprob": -0.1}]}})
    asked = {"cascade__agree": 2, "student__logprobs": True}
    for level, settled in ((-0.2, True), (-0.05, False), (None, False)):
        rule = policies(**asked, cascade__enough_logprob=level).agreement()
        assert rule.measure([first], 3).settled is settled


def test_a_likely_first_sample_does_not_decide_alone_what_may_write() -> None:
    likely = {"logprobs": {"content": [{"logprob": -0.1}]}}
    asked: dict[str, Any] = {"cascade__rule": "asymmetric", "cascade__enough_logprob": -0.2}
    asked |= {"cascade__effects": {"look*": "read"}, "student__logprobs": True}
    rule = policies(**asked).agreement()
    for text, settled in (("look around", True), ("delete all", False)):
        assert rule.measure([says(text).model_copy(update=likely)], 3).settled is settled


def test_a_level_without_log_probabilities_names_what_they_take() -> None:
    made = policies(cascade__enough_logprob=-0.2)
    with pytest.raises(ConfigError, match=r"enough_logprob = -0.2 needs student.logprobs = true"):
        made.agreement()


def test_the_describer_reads_the_same_form_as_the_agreement() -> None:
    made = policies(cascade__grammar="household")
    step = Step("t", "e", 1, "g", "o", (Turn("o", "Goto desk 1", "student"),))
    found = made.describer().describe(step, voted("go to desk 1"), [])
    assert found["repeats"] == 1.0


def test_below_the_floor_of_the_file_the_student_is_not_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings(), floor=0.5)
    made = policies(
        cascade__policy="calibrated", cascade__policy_file=str(path), **NO_GUARDS
    ).policy(Choice())
    assert made.plan(step_after()) == dataclasses.replace(PLAN, waits=True)
    assert made.plan(step_after(), [shown("look", 0.5)]) == PLAN
    unlikely = made.plan(step_after(), [shown("look", 0.4)])
    assert isinstance(unlikely, Decision)
    assert (unlikely.served, unlikely.reason) == ("teacher", Reason.UNLIKELY)


def test_tools_of_the_teacher_are_its_own() -> None:
    made = policies(cascade__policy="always-student", **NO_GUARDS)
    call = {"id": "c", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    step = dataclasses.replace(step_after(), tools=({"function": {"name": "pay"}},))
    agreement = dataclasses.replace(
        voted("x", 1, 1), answer=Message(role="assistant", tool_calls=[call])
    )
    free = made.policy(Choice(), prepare=True)
    assert free.decide(step, agreement, []).served == "student"
    decision = made.policy(Choice(), ("pa*",)).decide(step, agreement, [])
    assert (decision.reason, decision.detail) == (Reason.TEACHER_ONLY_TOOL, "pay")


def test_no_file_is_no_file() -> None:
    assert policies(cascade__policy_file="").file is None


def test_from_the_level_of_the_file_on_one_sample_is_drawn(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings(), sure=0.0)
    never = written(tmp_path / "never.json", settings(), sure=2.0)
    plain = written(tmp_path / "plain.json", settings())

    drawn = []
    for file in (path, never, plain):
        made = policies(cascade__policy="calibrated", cascade__policy_file=str(file))
        plan = made.policy(Choice()).plan(step_after(), [shown("look", 0.5)])
        assert isinstance(plan, SamplePlan)
        drawn.append(plan.samples)

    assert drawn == [1, 3, 3]


def test_benefit_takes_no_floor_that_was_chosen_for_a_threshold(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings(), floor=0.5)
    given: dict[str, Any] = {
        "cascade__policy": "benefit",
        "cascade__policy_file": str(path),
        "cascade__value_usd": 1.0,
        **NO_GUARDS,
    }
    assert policies(**given).policy(Choice()).plan(step_after(), [shown("look", 0.1)]) == PLAN
    chosen = policies(**given).policy(Choice(options={"floor": 0.5}))
    planned = chosen.plan(step_after(), [shown("look", 0.1)])
    assert isinstance(planned, Decision)
    assert planned.reason is Reason.UNLIKELY


def test_exploring_is_a_choice_with_the_configured_seed_and_plan() -> None:
    made = policies(cascade__samples=4, cascade__seed=7, **NO_GUARDS)
    policy = made.policy(Choice("explore"))
    assert policy.plan(step_after()) == SamplePlan(4, 0.7)
    steps = [step_after(episode_id=f"e{number}") for number in range(50)]

    def served(options: dict[str, Any]) -> list[str]:
        chosen = made.policy(Choice("explore", options=options))
        return [chosen.decide(step, voted("look"), []).served for step in steps]

    assert served({}) == served({"seed": 7, "p_teacher": 0.5})
    assert served({}) != served({"seed": 8})
    assert set(served({"p_teacher": 0.0})) == {"student"}


# What is known of a step.


def test_the_vector_of_a_step_counts_by_the_scores_of_the_options_else_of_the_file(
    tmp_path: Path,
) -> None:
    def scores(intercept: float) -> dict[str, Any]:
        return {**SCORES, "prompt": {"weights": [0.0, 0.0], "intercept": intercept}}

    path = written(tmp_path / "p.json", settings(), scores=scores(0.0))
    asked = [dataclasses.replace(shown("look"), query=np.ones(2))]

    def prompt(made: Policies, options: dict[str, Any] | None = None) -> float | None:
        found = made.describer(options).describe(step_after(), voted("look"), asked)
        return found.get("prompt")

    with_file = policies(cascade__policy_file=str(path))
    assert prompt(with_file) == prompt(with_file, {"threshold": 0.5}) == 0.5
    assert prompt(with_file, {"scores": scores(math.log(3))}) == pytest.approx(0.75)
    assert prompt(with_file, {"scores": SCORES}) is None
    assert prompt(policies()) is None


def test_the_gate_counts_the_vector_as_the_score_does() -> None:
    prior = IsotonicScore("prompt", (0.0, 1.0), (0.0, 1.0), missing_rate=1.0).to_json()
    scores = {**SCORES, "prompt": {"weights": [1.0], "intercept": 0.0}, "prior": prior}
    options = {"scores": scores, "threshold": 0.5, "floor": 0.5}
    policy = policies(**NO_GUARDS).policy(Choice("calibrated", options=options))
    for value, is_asked in ((0.1, True), (-0.1, False)):
        found = [dataclasses.replace(shown("look"), query=np.array([value]))]
        assert isinstance(policy.plan(step_after(), found), SamplePlan) == is_asked


# Options in place of the file's.


def test_a_choice_brings_its_own_score_and_threshold() -> None:
    made = policies(**NO_GUARDS)
    policy = made.policy(Choice("calibrated", options={"scores": SCORES, "threshold": 0.3}))
    assert policy.decide(step_after(), voted("look", agreement=0.3), []).served == "student"
    policy = made.policy(Choice("calibrated", options={"scores": SCORES}))
    decision = policy.decide(step_after(), voted("look", agreement=1.0), [])
    assert decision.reason is Reason.UNCERTAIN, "nothing is certified without a file"


def test_a_choice_brings_its_own_value_and_success_of_the_teacher() -> None:
    options = {"scores": SCORES, "value_usd": 1.0, "p_teacher": 0.5, "samples": 1}
    policy = policies(cost_usd=0.1, **NO_GUARDS).policy(Choice("benefit", options=options))
    assert policy.plan(step_after()) == SamplePlan(1, 0.7)
    decision = policy.decide(step_after(), voted("look", agreement=0.3), [])
    assert decision.score == pytest.approx(0.5 - 0.3 - 0.1)


def test_a_threshold_on_one_feature_is_a_choice() -> None:
    options = {"feature": "agreement", "threshold": 0.5}
    policy = policies(**NO_GUARDS).policy(Choice("threshold", options=options))
    for share, expected in ((0.5, "student"), (0.4, "teacher")):
        assert policy.decide(step_after(), voted("a", agreement=share), []).served == expected
    with pytest.raises(ConfigError, match="policy 'threshold' needs the options feature and"):
        policies(cascade__policy="threshold").policy(Choice())


def test_a_random_mix_is_as_configured_or_chosen() -> None:
    made = policies(cascade__policy="random", cascade__p_teacher=1.0, **NO_GUARDS)
    assert made.policy(Choice()).decide(step_after(), UNUSABLE, []).served == "teacher"
    chosen = made.policy(Choice(p_teacher=0.0, seed=3))
    assert chosen.decide(step_after(), UNUSABLE, []).served == "student"


def test_no_more_samples_than_are_drawn_may_have_to_agree() -> None:
    with pytest.raises(ConfigError, match=r"no more than 3 can agree"):
        policies(cascade__agree=4).agreement()
