from __future__ import annotations

import logging
from math import inf
from pathlib import Path

import pytest
from tests.cascade.decided_steps import PLAN, step_after, voted

from tutelage.cascade.alarm import alarm_for
from tutelage.cascade.calibrated import Calibrated
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.watch import PolicyWatch, ReleaseWatches, alarm_path, open_watch
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Decision, Reason

SCORE = IsotonicScore("agreement", (0.0, 1.0), (0.0, 1.0), missing_rate=0.5)
STEP = step_after("student")


def watch(path: Path | None = None, **targets: float) -> PolicyWatch:
    return PolicyWatch(alarm_for(targets or {"audits": 0.1}, delta=0.05), path)


def ring(made: PolicyWatch, level: str) -> int:
    """Disagrees in one new episode after another until the level is reached."""
    for episode in range(1000):
        if made.level == level:
            return episode
        made.audited(f"{level}-{episode}", agrees=False)
    raise AssertionError(f"{level} was not reached")


def test_disagreement_first_tightens_and_then_leaves_the_teacher_alone() -> None:
    made = watch()
    policy = Calibrated(PLAN, SCORE, 0.6, made)
    agreed = voted("a", votes=2, agreement=2 / 3)
    assert policy.plan(STEP) == PLAN
    assert policy.decide(STEP, agreed, []).served == "student"

    assert 0 < ring(made, "tightened") < 30
    assert policy.threshold == pytest.approx(0.8)
    assert policy.plan(STEP) == PLAN
    assert policy.decide(STEP, agreed, []).reason is Reason.UNCERTAIN

    ring(made, "teacher-only")
    assert policy.threshold == inf
    assert policy.plan(STEP) == Decision(served="teacher", reason=Reason.ALARM)


def test_an_episode_counts_once_however_many_of_its_steps_are_audited() -> None:
    made = watch()
    for _ in range(1000):
        made.audited("one", agrees=False)
    assert made.level == "normal"


def test_what_agrees_rings_nothing() -> None:
    made = watch()
    for episode in range(2000):
        made.audited(str(episode), agrees=episode % 20 != 0)
    assert made.level == "normal"


def test_failures_are_watched_only_where_a_share_is_allowed() -> None:
    audits_only, both = watch(), watch(audits=0.1, failures=0.2)
    for episode in range(200):
        for made in (audits_only, both):
            made.ended(str(episode), success=False)
    assert (audits_only.level, both.level) == ("normal", "teacher-only")


def test_a_level_is_kept_beside_the_policy_and_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = tmp_path / "policy.json"
    first = open_watch(policy, 0.05, None, 0.05)
    assert first is not None
    assert not alarm_path(policy).exists()

    with caplog.at_level(logging.WARNING):
        ring(first, "tightened")
    assert "the calibrated policy is tightened: its audits have drifted" in caplog.text

    second = open_watch(policy, 0.05, None, 0.05)
    assert second is not None
    assert second.level == "tightened"
    alarm_path(policy).unlink()
    third = open_watch(policy, 0.05, None, 0.05)
    assert third is not None
    assert third.level == "normal"


def test_without_a_target_nothing_is_watched(tmp_path: Path) -> None:
    assert open_watch(tmp_path / "policy.json", None, None, 0.05) is None


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"level": "odd"}'])
def test_a_damaged_level_is_an_error_and_not_normal(tmp_path: Path, content: bytes) -> None:
    policy = tmp_path / "policy.json"
    alarm_path(policy).write_bytes(content)
    with pytest.raises(ConfigError, match="holds the level of a policy's alarm"):
        open_watch(policy, 0.05, None, 0.05)


def test_a_level_that_cannot_be_kept_still_holds_in_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = watch(tmp_path / "absent" / "policy.json.alarm")
    ring(made, "tightened")
    assert made.level == "tightened"
    assert "the alarm's level cannot be kept" in caplog.text


def test_each_release_is_watched_by_itself_and_starts_anew() -> None:
    configured, first, second = watch(failures=0.1), watch(failures=0.1), watch(failures=0.1)
    made = ReleaseWatches(configured)
    assert made.joined("student@1", "a", first) is first
    # Another alias that decides by the same policy hears of the same drift.
    assert made.joined("student@1", "a", watch(failures=0.1)) is first
    assert made.joined("student@2", "b", second) is second
    for episode in range(100):
        made.ended(f"e{episode}", False, "student@1")
        made.ended(f"e{episode}", False, "unknown")
        made.audited(f"e{episode}", False, "unknown")
    assert (configured.level, first.level, second.level) == ("normal", "teacher-only", "normal")

    for episode in range(100):
        made.ended(f"f{episode}", False)
    assert (configured.level, second.level) == ("teacher-only", "normal")


def test_another_policy_of_a_release_is_watched_anew_and_one_without_a_watch_is_not() -> None:
    made = ReleaseWatches()
    first, second = watch(), watch()
    made.joined("student@1", "a", first)
    assert made.joined("student@1", "b", second) is second
    for episode in range(100):
        made.audited(f"e{episode}", False, "student@1")
        made.audited(f"e{episode}", False)
    assert (first.level, second.level) == ("normal", "teacher-only")

    assert made.joined("student@1", "c", None) is None
    assert made.joined("student@1", "b", first) is first
