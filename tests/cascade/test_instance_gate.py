from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage.cascade.instance_gate import GatedTier, InstanceGate, fit_instance_gate
from tutelage.runtime.errors import ConfigError

pytest.importorskip("sklearn")

GENERATOR = np.random.default_rng(0)
DOMAIN = np.repeat([0, 1], 100)
VECTORS = GENERATOR.normal(size=(200, 8)) + np.outer(2.0 * DOMAIN - 1.0, np.ones(8))
ON_A, ON_B = [bool(one) for one in DOMAIN == 0], [bool(one) for one in DOMAIN == 1]


def chosen(gate: InstanceGate) -> np.ndarray:
    return np.array([gate.first(vector) for vector in VECTORS])


def test_a_teacher_that_is_right_on_one_domain_only_wins_that_domain() -> None:
    gate = fit_instance_gate(VECTORS, {"a": ON_A, "b": ON_B}, {"a": 0.1, "b": 0.1}, 1.0)

    found = chosen(gate)

    assert (found[DOMAIN == 0] == 0).mean() > 0.9
    assert (found[DOMAIN == 1] == 1).mean() > 0.9


def test_of_two_equal_teachers_the_cheaper_one_is_asked() -> None:
    equal = {"cheap": ON_A, "dear": ON_A}

    assert not chosen(fit_instance_gate(VECTORS, equal, {"cheap": 0.1, "dear": 0.2}, 1.0)).any()
    assert not chosen(fit_instance_gate(VECTORS, equal, {"cheap": 0.1, "dear": 0.1}, 1.0)).any()


def test_one_that_is_never_right_is_never_asked_and_value_pays_for_the_dear_one() -> None:
    right = {"bad": [False] * 200, "good": [True] * 200}
    cost_usd = {"bad": 0.0, "good": 1.0}

    assert chosen(fit_instance_gate(VECTORS, right, cost_usd, 10.0)).all()
    assert not chosen(fit_instance_gate(VECTORS, right, cost_usd, 0.5)).any()


def test_a_written_gate_decides_as_before(tmp_path: Path) -> None:
    right = {"a": ON_A, "b": [True] * 200}
    gate = fit_instance_gate(VECTORS, right, {"a": 0.1, "b": 0.5}, 1.0)
    gate.write(tmp_path / "gate.json")

    read = InstanceGate.read(tmp_path / "gate.json", ("a", "b"))

    assert (chosen(read) == chosen(gate)).all()
    assert {0, 1} == set(chosen(read).tolist())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no gate"),
        ("[]", "is no gate"),
        ('{"tiers": 3, "value_usd": 1}', "tiers must be a list of tables"),
        ('{"tiers": [{"name": "a", "right": 0.5}], "value_usd": 1}', "cost_usd"),
        ('{"tiers": [], "value_usd": "much"}', "value_usd"),
    ],
)
def test_a_damaged_gate_is_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "gate.json").write_text(content)

    with pytest.raises(ConfigError, match=told):
        InstanceGate.read(tmp_path / "gate.json", ("a",))


def test_a_gate_of_other_models_or_of_none_is_refused(tmp_path: Path) -> None:
    InstanceGate((GatedTier("a", 0.5, 0.1),), 1.0).write(tmp_path / "gate.json")

    with pytest.raises(ConfigError, match="was fitted for a, and the chain is a, b: fit it again"):
        InstanceGate.read(tmp_path / "gate.json", ("a", "b"))
    with pytest.raises(ConfigError, match="No such file"):
        InstanceGate.read(tmp_path / "none.json", ("a",))
    assert json.loads((tmp_path / "gate.json").read_text())["tiers"][0]["right"] == 0.5
