"""The risk of accepted steps from audits, against the truth."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from tests.cascade.synthetic_student import SyntheticWorld, play

from tutelage.cascade.audit_risk import AuditEvidence, AuditRisk, audit_risk, audit_risk_by_cluster
from tutelage.cascade.bounds import clopper_pearson, upper_bound


def audited(
    accepted: np.ndarray, wrong: np.ndarray, generator: np.random.Generator
) -> list[AuditEvidence]:
    """Audits of a third of the accepted steps, of two thirds where the episode is odd."""
    audits = []
    for place, (steps, errors) in enumerate(zip(accepted, wrong, strict=True)):
        share = 2 / 3 if place % 2 else 1 / 3
        for step in np.flatnonzero(generator.random(int(steps)) < share):
            audits.append(AuditEvidence(str(place), bool(step < errors), share, f"c{place % 2}"))
    return audits


def repeated(threshold: float, episodes: int) -> tuple[float, list[AuditRisk]]:
    """The true risk of accepted steps, and what 1,000 sets of audits say of it."""
    generator = np.random.default_rng(0)
    population = play(SyntheticWorld(), np.array([threshold]), 20_000, generator)
    accepted, wrong = population.accepted[:, 0], population.wrong_accepted[:, 0]
    found = []
    for _ in range(1000):
        rows = generator.integers(0, len(accepted), episodes)
        risk = audit_risk(audited(accepted[rows], wrong[rows], generator))
        assert risk is not None
        found.append(risk)
    return float(wrong.sum() / accepted.sum()), found


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "episodes"), [(0.8, 200), (0.45, 200), (0.2, 60)])
def test_the_risk_is_unbiased_and_its_interval_covers(threshold: float, episodes: int) -> None:
    truth, found = repeated(threshold, episodes)
    values = np.array([one.risk for one in found])
    assert abs(values.mean() - truth) < 3 * values.std() / sqrt(len(values)) + 0.1 * values.std()
    assert np.mean([one.interval.low <= truth <= one.interval.high for one in found]) >= 0.94
    assert np.mean([one.bound >= truth for one in found]) >= 0.94


def test_rare_audits_count_for_the_steps_that_they_stand_for() -> None:
    audits = [AuditEvidence("a", True, 0.1), AuditEvidence("b", False, 1.0)]
    risk = audit_risk(audits)
    assert risk is not None
    assert risk.risk == pytest.approx(10 / 11)
    assert (risk.audits, risk.episodes) == (2, 2)


def test_steps_of_one_episode_tell_less_than_steps_of_many() -> None:
    generator = np.random.default_rng(1)
    lost = generator.random(60) < 0.2
    together = [
        AuditEvidence(str(place), bool(wrong), 0.5)
        for place, wrong in enumerate(lost)
        for _ in range(5)
    ]
    apart = [AuditEvidence(f"{place}", one.wrong, 0.5) for place, one in enumerate(together)]
    clustered, independent = audit_risk(together), audit_risk(apart)
    assert clustered is not None
    assert independent is not None
    assert clustered.risk == independent.risk
    assert clustered.bound > independent.bound
    # One episode of five equal steps is one unit; five of one step each are five.
    hits = int(lost.sum())
    assert clustered.bound == pytest.approx(upper_bound(hits, 60, 0.05))
    assert independent.bound == pytest.approx(upper_bound(5 * hits, 300, 0.05))
    exact = clopper_pearson(5 * hits, 300)
    assert (independent.interval.low, independent.interval.high) == pytest.approx(
        (exact.low, exact.high)
    )


def test_without_an_error_the_bound_is_that_of_as_many_episodes() -> None:
    audits = [AuditEvidence(str(place // 3), False, 0.2) for place in range(177)]
    risk = audit_risk(audits)
    assert risk is not None
    assert (risk.risk, risk.interval.low, risk.episodes) == (0.0, 0.0, 59)
    assert risk.bound == pytest.approx(upper_bound(0, 59, 0.05))


def test_even_errors_over_episodes_do_not_pass_for_more_steps_than_there_are() -> None:
    audits = [AuditEvidence(str(place // 2), place % 2 == 0, 0.2) for place in range(40)]
    risk = audit_risk(audits)
    assert risk is not None
    assert risk.risk == 0.5
    assert risk.bound >= upper_bound(20, 40, 0.05)


def test_a_single_episode_is_a_single_unit() -> None:
    risk = audit_risk([AuditEvidence("a", place == 0, 0.5) for place in range(9)])
    assert risk is not None
    assert risk.risk == pytest.approx(1 / 9)
    assert risk.bound > 0.95


def test_clusters_are_told_apart_the_largest_first() -> None:
    audits = [AuditEvidence(str(place), place < 5, 0.5, "kitchen") for place in range(10)]
    audits += [AuditEvidence(str(place), False, 0.5, "garden") for place in range(20)]
    audits += [AuditEvidence("x", True, 0.5)]
    found = audit_risk_by_cluster(audits)
    assert list(found) == ["garden", "kitchen", None]
    assert [one.risk for one in found.values()] == [0.0, 0.5, 1.0]


def test_no_audits_say_nothing() -> None:
    assert audit_risk([]) is None
    assert audit_risk_by_cluster([]) == {}


def test_a_step_that_could_not_be_audited_is_refused() -> None:
    with pytest.raises(ValueError, match=r"propensity = 0 is not in"):
        AuditEvidence("a", True, 0)
