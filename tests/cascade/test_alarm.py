"""What alarms do, and whether they come in time in a world that shifts."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from tests.cascade.synthetic_student import Played, SyntheticWorld, play

from tutelage.cascade.alarm import Alarm, alarm_for, alarm_from_json
from tutelage.cascade.bounds import bounded_upper_bound
from tutelage.cascade.calibration import certify
from tutelage.cascade.certificate import Certificate
from tutelage.runtime.errors import ConfigError

ALPHA, DELTA = 0.05, 0.05
GRID = [round(1 - 0.05 * place, 2) for place in range(21)]


def alarmed(alarm: Alarm, stream: str = "audits") -> Alarm:
    """The alarm after errors enough to raise it by one level."""
    before = alarm.level
    for _ in range(1000):
        alarm = alarm.observe(stream, 1.0)
        if alarm.level != before:
            return alarm
    raise AssertionError("the alarm never fired")


def test_errors_tighten_the_threshold_and_then_leave_the_teacher_alone() -> None:
    alarm = alarm_for({"audits": 0.05, "failures": 0.1}, delta=DELTA)
    assert (alarm.level, alarm.threshold(0.6)) == ("normal", 0.6)
    alarm = alarmed(alarm)
    assert (alarm.level, alarm.cause) == ("tightened", "audits")
    assert alarm.threshold(0.6) == pytest.approx(0.8)
    assert alarm.threshold(1.2) == 1.2
    alarm = alarmed(alarm, "failures")
    assert (alarm.level, alarm.cause) == ("teacher-only", "failures")
    assert alarm.threshold(0.6) == inf
    for _ in range(100):
        alarm = alarm.observe("audits", 1.0)
    assert alarm.level == "teacher-only"


def test_calm_does_not_bring_the_threshold_back_but_a_reset_does() -> None:
    fresh = alarm_for({"audits": 0.05}, delta=DELTA)
    alarm = alarmed(fresh)
    for _ in range(500):
        alarm = alarm.observe("audits", 0.0)
    assert alarm.level == "tightened"
    assert alarm.reset() == fresh


def test_every_level_starts_with_fresh_detectors() -> None:
    fresh = alarm_for({"audits": 0.05, "failures": 0.1}, delta=DELTA)
    assert alarmed(fresh).detectors == fresh.detectors


@pytest.mark.parametrize("kind", ["e-process", "cusum"])
def test_streams_share_delta(kind: Any) -> None:
    alarm = alarm_for({"audits": 0.05, "failures": 0.9}, delta=0.04, detector=kind)
    parts = [one.to_json()["delta"] for one in alarm.detectors.values()]
    assert parts == [0.02, 0.02]
    assert {one.to_json()["kind"] for one in alarm.detectors.values()} == {kind}
    assert alarmed(alarm, "failures").cause == "failures"


def test_an_alarm_goes_on_from_a_file() -> None:
    alarm = alarm_for({"audits": 0.05}, delta=DELTA).observe("audits", 1.0)
    for one in (alarm, alarmed(alarm), alarmed(alarm).observe("audits", 0.5)):
        assert alarm_from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"level": "panic"}, "level = 'panic': choose one of normal, tightened, teacher-only"),
        ({"detectors": []}, "detectors = .. is not a table"),
        ({"tighten": "half"}, "tighten = 'half' is not a number"),
        ({"tighten": 0}, "tighten = 0"),
    ],
)
def test_a_damaged_alarm_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        alarm_from_json(alarm_for({"audits": 0.05}, delta=DELTA).to_json() | change)


def test_unknown_streams_and_none_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="no stream is called 'audit'; known are: audits"):
        alarm_for({"audits": 0.05}, delta=DELTA).observe("audit", 0.0)
    with pytest.raises(ConfigError, match="no stream to watch"):
        alarm_for({}, delta=DELTA)


# A world that shifts. The threshold is certified before; then the student gets worse.

WORLD = SyntheticWorld()
AUDITED = 0.3
"""Share of accepted steps that are audited."""


def audit_losses(played: Played, generator: np.random.Generator) -> np.ndarray:
    """(episodes,): share of the audited steps that were wrong; NaN where none was audited."""
    accepted = played.accepted[:, 0].astype(np.int64)
    wrong = played.wrong_accepted[:, 0].astype(np.int64)
    audited = generator.binomial(accepted, AUDITED)
    found = generator.hypergeometric(wrong, accepted - wrong, audited)
    return np.where(audited > 0, found / np.maximum(1, audited), nan)


@pytest.fixture(scope="module")
def calibrated() -> tuple[float, float]:
    """The certified threshold, and the audit loss that is allowed."""
    played = play(WORLD, np.array(GRID), 600, np.random.default_rng(8))
    outcome = certify(played.lost, GRID, alpha=ALPHA, delta=DELTA)
    assert isinstance(outcome, Certificate)
    at = play(WORLD, np.array([outcome.threshold]), 600, np.random.default_rng(9))
    shares = at.wrong_accepted[:, 0] / np.maximum(1, at.accepted[:, 0])
    return outcome.threshold, bounded_upper_bound(float(shares.mean()), 600, DELTA)


def first_alarm(target: float, losses: np.ndarray) -> float:
    """The episode at which the level is raised; infinite if it never is."""
    alarm = alarm_for({"audits": target}, delta=DELTA)
    for episode, loss in enumerate(losses.tolist()):
        if loss == loss:
            alarm = alarm.observe("audits", loss)
            if alarm.level != "normal":
                return episode
    return inf


def test_without_a_shift_alarms_are_rarer_than_delta(calibrated: tuple[float, float]) -> None:
    threshold, target = calibrated
    generator = np.random.default_rng(10)
    fired = [
        first_alarm(
            target, audit_losses(play(WORLD, np.array([threshold]), 2000, generator), generator)
        )
        for _ in range(60)
    ]
    assert np.mean(np.array(fired) < inf) <= DELTA


def test_a_sudden_shift_is_found_before_200_episodes_above_twice_alpha(
    calibrated: tuple[float, float],
) -> None:
    threshold, target = calibrated
    generator = np.random.default_rng(11)
    worse = replace(WORLD, ceiling=0.9)
    at = np.array([threshold])
    assert play(worse, at, 20_000, generator).lost.mean() > 2 * ALPHA
    delays = []
    for _ in range(200):
        calm = audit_losses(play(WORLD, at, 300, generator), generator)
        after = audit_losses(play(worse, at, 600, generator), generator)
        delays.append(first_alarm(target, np.r_[calm, after]) - 300)
    assert np.quantile(delays, 0.95) < 200
    assert np.median(delays) < 100


def test_a_creeping_shift_is_found_before_200_episodes_above_twice_alpha(
    calibrated: tuple[float, float],
) -> None:
    threshold, target = calibrated
    generator = np.random.default_rng(12)
    at = np.array([threshold])
    ceilings = np.linspace(WORLD.ceiling, 0.7, 41)
    worlds = [replace(WORLD, ceiling=float(ceiling)) for ceiling in ceilings]
    # Twenty episodes at each stage: the risk climbs from below alpha to far above it.
    risks = [play(world, at, 4000, generator).lost.mean() for world in worlds]
    crossing = 20 * int(np.argmax(np.array(risks) > 2 * ALPHA))
    assert 0 < crossing < 400
    late = []
    for _ in range(100):
        losses = [audit_losses(play(world, at, 20, generator), generator) for world in worlds]
        late.append(first_alarm(target, np.concatenate(losses)) - crossing)
    assert np.quantile(late, 0.95) < 200
