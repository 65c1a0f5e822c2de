"""Certificates on their way through a file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tutelage.cascade.certificate import Certificate, certificate_from_json
from tutelage.runtime.errors import ConfigError

CERTIFICATE = Certificate(
    threshold=0.6,
    risk=0.01,
    risk_bound=0.03,
    alpha=0.05,
    delta=0.05,
    units=300,
    unit="episode",
    scope="rollouts",
    loss_kind="binary",
    certified=9,
    tested=10,
    teacher_share=0.4,
)


def test_a_certificate_survives_a_file() -> None:
    assert certificate_from_json(json.loads(json.dumps(CERTIFICATE.to_json()))) == CERTIFICATE


def test_the_statement_names_risk_confidence_and_size() -> None:
    assert CERTIFICATE.statement == (
        "threshold 0.6: episodes lost at most 0.05 with confidence 0.95 (300 episodes)"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"unit": "day"}, "unit = 'day': choose one of episode, step"),
        ({"scope": None}, "scope = None: choose one of"),
        ({"alpha": "5 %"}, "alpha = '5 %' is not a number"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_damaged_certificate_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        certificate_from_json(CERTIFICATE.to_json() | change)
