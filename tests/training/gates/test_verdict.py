from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from pydantic import ValidationError
from tests.training.gates.planted import Student, outcomes, planted

from tutelage.training.gates.defaults import default_gates
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.verdict import Judgement, Verdict, judge


@dataclass(frozen=True)
class Fixed:
    """A gate that has made up its mind."""

    name: str
    passed: bool
    blocking: bool

    def check(self, evaluation: Evaluation) -> Verdict:
        return Verdict(
            gate=self.name, passed=self.passed, blocking=self.blocking, text=f"{self.name} says so"
        )


def test_every_gate_is_asked_also_after_one_has_blocked() -> None:
    gates = [Fixed("a", False, True), Fixed("b", False, False), Fixed("c", False, True)]
    judgement = judge(outcomes([(True, True)] * 4, repeats=2), gates)
    assert [one.gate for one in judgement.verdicts] == ["a", "b", "c"]
    assert [one.gate for one in judgement.blocked_by] == ["a", "c"]
    assert [one.gate for one in judgement.warnings] == ["b"]
    assert (judgement.tasks, judgement.episodes, judgement.passed) == (2, 4, False)
    assert judgement.refusal == "a: a says so; c: c says so"


def test_a_warning_does_not_block() -> None:
    assert judge(Evaluation(()), [Fixed("a", True, True), Fixed("b", False, False)]).passed


def test_without_a_gate_nothing_passes() -> None:
    judgement = judge(Evaluation(()), [])
    assert not judgement.passed
    assert judgement.refusal == "no gate judged the candidate"


def test_the_evidence_survives_json_and_is_the_same_again() -> None:
    judgement = judge(planted(Student(), 1, tasks=40), default_gates())
    content = orjson.dumps(judgement.model_dump(mode="json"))
    assert Judgement.model_validate_json(content) == judgement
    assert judge(planted(Student(), 1, tasks=40), default_gates()) == judgement
    assert {one["gate"] for one in orjson.loads(content)["verdicts"]} == {
        "overlap",
        "non-inferiority",
        "cost per solved task",
        "agreement quality",
        "tokens a step",
        "teacher hacking",
        "power law of the proxy",
        "fidelity",
        "improvement",
    }


def test_the_digest_changes_with_any_figure() -> None:
    pairs = [(True, True), (False, True)]
    assert outcomes(pairs).digest() == outcomes(pairs).digest()
    assert outcomes(pairs).digest() != outcomes(pairs[::-1]).digest()


def test_infinite_figures_become_none_and_unknown_fields_are_refused() -> None:
    verdict = Verdict(gate="a", passed=True, blocking=True, value=float("inf"), text="")
    assert verdict.value is None
    with pytest.raises(ValidationError, match="extra"):
        Verdict.model_validate({"gate": "a", "passed": 1, "blocking": 1, "text": "", "why": ""})
