from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tutelage.cascade.certificate import Certificate
from tutelage.cascade.policy_file import Conditions, PolicyFile
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.step_scores import StepScores
from tutelage.runtime.errors import ConfigError

SCORE = IsotonicScore("agreement", (0.3, 1.0), (0.4, 0.95), missing_rate=0.5)
SCORES = StepScores(
    prompt=None, prior=IsotonicScore("similarity", (0.1,), (0.6,), missing_rate=0.5), score=SCORE
)
CONDITIONS = Conditions(
    student="student@7",
    teacher="gpt-4.1",
    bank="b1",
    samples=3,
    temperature=0.7,
    draw="together",
    greedy_first=False,
    rule="votes",
    form="household",
    guards=("loop", "stall"),
    prompt="0123",
    routing="off",
)
OTHERS: dict[str, Any] = {
    "student": "student@8",
    "teacher": "gpt-5",
    "bank": "",
    "samples": 5,
    "temperature": 0.2,
    "draw": "sequential",
    "greedy_first": True,
    "rule": "majority:0.9",
    "form": "text",
    "guards": (),
    "prompt": "4567",
    "routing": "recall=0.9, votes=3",
}
CERTIFICATE = Certificate(
    threshold=0.8,
    risk=0.01,
    risk_bound=0.04,
    alpha=0.05,
    delta=0.1,
    units=200,
    unit="episode",
    scope="rollouts",
    loss_kind="binary",
    certified=3,
    tested=4,
)


def policy_file(**changes: Any) -> PolicyFile:
    made: dict[str, Any] = {
        "scores": SCORES.to_json(),
        "floor": 0.25,
        "threshold": 0.8,
        "p_teacher": 0.97,
        "certificate": CERTIFICATE.to_json(),
        "conditions": CONDITIONS,
        "source": "replay of 200 episodes",
        "created_at_s": 1000.5,
        **changes,
    }
    return PolicyFile(**made)


def refusal(path: Path) -> str:
    """Why a file cannot be read, in one line that names it and says what to do."""
    with pytest.raises(ConfigError) as caught:
        PolicyFile.read(path)
    text = str(caught.value)
    assert text.startswith(f"cascade.policy_file = {str(path)!r}")
    assert "\n" not in text
    assert caught.value.__cause__ is None
    return text


def damaged(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "policy.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return refusal(path)


def changed(tmp_path: Path, **changes: Any) -> str:
    values = json.loads(policy_file().model_dump_json())
    return damaged(tmp_path, json.dumps({**values, **changes}))


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "policy.json"
    policy_file().write(path)
    found = PolicyFile.read(path)
    assert found == policy_file()
    assert found.step_scores() == SCORES
    assert found.floor == 0.25
    assert found.certified() == CERTIFICATE


@given(threshold=st.floats(allow_nan=False, allow_infinity=False), p_teacher=st.floats(0, 1))
def test_numbers_come_back_to_the_last_bit(threshold: float, p_teacher: float) -> None:
    made = policy_file(threshold=threshold, p_teacher=p_teacher)
    assert PolicyFile.model_validate_json(made.model_dump_json()) == made


def test_a_policy_may_have_nothing_certified(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    policy_file(certificate=None, threshold=2.0).write(path)
    found = PolicyFile.read(path)
    assert (found.certified(), found.threshold) == (None, 2.0)


def test_a_second_file_replaces_the_first_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.json"
    policy_file(threshold=0.5).write(path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(ConfigError, match=r"policy\.json cannot be written: disk full"):
        policy_file().write(path)
    monkeypatch.undo()
    assert PolicyFile.read(path).threshold == 0.5
    policy_file().write(path)
    assert PolicyFile.read(path) == policy_file()
    assert os.listdir(tmp_path) == ["policy.json"]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        policy_file().write(tmp_path / "file" / "policy.json")


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.json").endswith("does not exist: run `tutelage calibrate`")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "nonsense", b"\xff\xfe", "null"])
def test_damage_is_one_clear_line(tmp_path: Path, text: str | bytes) -> None:
    said = damaged(tmp_path, text)
    assert "is no policy file: " in said
    assert ": :" not in said
    assert said.endswith("run `tutelage calibrate` again")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has the format 2, and this version of tutelage reads 1: upgrade"),
        ({"format": "next", "more": 1}, "has the format 'next'"),
        ({"threshold": "high"}, "threshold: Input should be a valid number"),
        ({"threshold": math.nan}, "threshold: Input should be a finite number"),
        ({"p_teacher": 1.5}, "p_teacher: Input should be less than or equal to 1"),
        ({"surplus": 1}, "surplus: Extra inputs are not permitted"),
        ({"conditions": {"student": "x"}}, "conditions: teacher: Field required"),
        ({"floor": math.nan}, "floor: Input should be a finite number"),
        ({"scores": {"prior": 1}}, "scores: prior and score must be tables"),
        ({"scores": {**SCORES.to_json(), "prompt": [1]}}, "scores: prompt = [1] is not a table"),
        (
            {"scores": {**SCORES.to_json(), "score": {"kind": "oracle"}}},
            "score model: kind = 'oracle' is unknown",
        ),
        (
            {"scores": {**SCORES.to_json(), "score": {**SCORE.to_json(), "rates": []}}},
            "score model: knots and rates",
        ),
        ({"certificate": {"unit": "day"}}, "certificate: unit = 'day'"),
    ],
)
def test_what_is_wrong_inside_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert message in changed(tmp_path, **changes)


@pytest.mark.parametrize("threshold", [math.inf, math.nan])
def test_a_threshold_that_json_cannot_hold_is_refused_before_it_is_written(
    threshold: float,
) -> None:
    with pytest.raises(ValidationError, match="finite"):
        policy_file(threshold=threshold)


def test_the_conditions_of_the_calibration_hold(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    assert CONDITIONS.differences(CONDITIONS) == []
    policy_file().check(CONDITIONS.model_copy(), path)


def test_the_table_of_other_conditions_is_complete() -> None:
    assert set(OTHERS) == set(Conditions.model_fields)


@given(st.sets(st.sampled_from(sorted(OTHERS)), min_size=1))
def test_a_refusal_names_every_condition_that_changed_and_no_other(names: set[str]) -> None:
    now = CONDITIONS.model_copy(update={name: OTHERS[name] for name in names})
    with pytest.raises(ConfigError) as caught:
        policy_file().check(now, Path("p.json"))
    text = str(caught.value)
    assert text.startswith("cascade.policy_file = 'p.json' was calibrated for something else: ")
    assert text.endswith("; run `tutelage calibrate` again")
    for name, after in OTHERS.items():
        phrase = f"{name} was {getattr(CONDITIONS, name)!r} and is {after!r}"
        assert (phrase in text) == (name in names)
