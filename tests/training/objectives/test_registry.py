"""Every row of the registry keeps its contract, and its limits hold."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.training.objectives.batches import full, number
from torch import Tensor

from tutelage.runtime.errors import CheckpointDamaged, MissingExtra, TrainingError
from tutelage.training.objectives.given import Given, Scored, TeacherSignal
from tutelage.training.objectives.objective import Limit, Objective, part
from tutelage.training.objectives.registry import OBJECTIVES, objective
from tutelage.training.objectives.signal import Need, Signal

LIMITS = [(name, limit) for name in OBJECTIVES for limit in objective(name).limits]


def value_and_gradient(aim: Objective, given: Given) -> tuple[float, Tensor]:
    loss, figures = aim.loss(given)
    assert loss.shape == ()
    assert all(isinstance(value, float) for value in figures.values())
    (gradient,) = torch.autograd.grad(loss, given.chosen.logits)
    return number(loss), gradient


@pytest.mark.parametrize(("name", "limit"), LIMITS, ids=lambda value: str(value)[:60])
def test_a_limit_holds(name: str, limit: Limit) -> None:
    for seed in range(3):
        given = full(seed, same_models=limit.same_models)
        aim = objective(name, limit.options)
        if isinstance(limit.equals, float):
            assert number(aim.loss(given)[0]) == pytest.approx(limit.equals, abs=1e-5)
            continue
        loss, gradient = value_and_gradient(aim, given)
        other = objective(limit.equals, limit.equal_options)
        expected, wanted = value_and_gradient(other, given)
        assert torch.allclose(gradient, wanted, atol=1e-6)
        if limit.compare == "value":
            assert loss == pytest.approx(expected, abs=1e-6)
        else:
            assert loss != pytest.approx(expected, abs=1e-6)


def test_every_divergence_has_a_limit_and_most_objectives_too() -> None:
    without = {name for name in OBJECTIVES if not objective(name).limits}

    assert without == {"sft", "alm", "top-k-kl"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_row_says_the_signal_and_name_of_its_objective(name: str) -> None:
    made = objective(name)

    assert (made.name, made.signal) == (name, OBJECTIVES[name].signal)
    assert OBJECTIVES[name].summary


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_is_finite_has_a_gradient_and_leaves_the_state_alone(name: str) -> None:
    aim = objective(name)
    before = aim.state_dict()

    first, gradient = value_and_gradient(aim, full())
    second, _ = value_and_gradient(aim, full())

    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    assert first == second
    assert aim.state_dict() == before


@pytest.mark.parametrize("name", OBJECTIVES)
def test_positions_outside_the_mask_change_nothing(name: str) -> None:
    given = full()
    changed = given.chosen.logits.detach().clone()
    changed[~given.chosen.mask] += torch.linspace(0, 3, changed.shape[-1], dtype=changed.dtype)
    other = Scored(changed.requires_grad_(), given.chosen.targets, given.chosen.mask)

    loss, gradient = value_and_gradient(objective(name), given)
    again, _ = value_and_gradient(objective(name), replace(given, chosen=other))

    assert loss == pytest.approx(again, abs=1e-9)
    assert (gradient[~given.chosen.mask] == 0).all()


@pytest.mark.parametrize(
    "name",
    [name for name, row in OBJECTIVES.items() if row.signal.tier and name != "alm"],
)
def test_a_missing_signal_is_named(name: str) -> None:
    given = replace(full(), teacher=TeacherSignal())

    with pytest.raises(TrainingError, match=rf"'{name}' needs the teacher's "):
        objective(name).loss(given)


@pytest.mark.parametrize(
    ("name", "field", "named"),
    [
        ("redi", "rejected", "pairs"),
        ("dpo", "rejected", "pairs"),
        ("step-by-step", "explained", "rationale"),
        ("alm", "chunks", "chunks"),
        ("context", "demonstrated", "demonstrations"),
        ("mi-alpha", "hidden", "hidden"),
    ],
)
def test_a_missing_part_is_named(name: str, field: str, named: str) -> None:
    absent: dict[str, Any] = {field: None}

    with pytest.raises(TrainingError, match=f"needs {named} and this batch has none"):
        objective(name).loss(replace(full(), **absent))


def test_a_preference_without_the_rejected_log_probs_is_refused() -> None:
    given = full()
    teacher = TeacherSignal(log_probs=given.teacher.log_probs)

    with pytest.raises(TrainingError, match="log-probs"):
        objective("dpo").loss(replace(given, teacher=teacher))


def test_another_vocabulary_is_refused_with_the_way_out() -> None:
    given = full()
    assert given.teacher.logits is not None
    teacher = TeacherSignal(logits=given.teacher.logits[..., :-1])

    with pytest.raises(TrainingError, match="5 tokens, the student 6: use objective 'alm'"):
        objective("fkl").loss(replace(given, teacher=teacher))


def test_the_richer_signal_gives_the_poorer_and_not_the_other_way() -> None:
    tiers = [signal.tier for signal in Signal]

    assert tiers == [0, 1, 2, 3, 4]
    for name, row in OBJECTIVES.items():
        for signal in Signal:
            if signal.tier >= row.signal.tier:
                objective(name).require(signal)
            else:
                with pytest.raises(TrainingError, match=f"gives {signal.value}"):
                    objective(name).require(signal)


def test_an_unknown_name_or_option_lists_what_there_is() -> None:
    with pytest.raises(TrainingError, match="unknown objective 'sfd': give one of sft, "):
        objective("sfd")
    with pytest.raises(TrainingError, match="its options are beta"):
        objective("dpo", {"gamma": 1})
    with pytest.raises(TrainingError, match="its options are none"):
        objective("sft", {"beta": 1})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step-by-step", {"action_share": 1.5}),
        ("fkl", {"temperature": 0.0}),
        ("jsd", {"beta": -0.1}),
        ("taid", {"steps": 0}),
        ("taid", {"start": 0.9, "end": 0.5}),
        ("certainty", {"beta": -1.0}),
        ("context", {"divergence": "fisher"}),
        ("context", {"beta": 0.0}),
        ("clipped-kl", {"low": 0.5, "high": 0.5}),
        ("mi-alpha", {"alpha": 2.0}),
        ("alm", {"difference": "l2"}),
        ("alm", {"tau": 0.0}),
    ],
)
def test_an_option_out_of_range_is_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="give "):
        objective(name, options)


def test_a_third_party_gives_an_objective_by_module_and_function() -> None:
    made = objective("tutelage.training.objectives.supervised:sft_objective")

    assert made.name == "sft"
    with pytest.raises(TrainingError, match="has no nothing"):
        objective("tutelage.training.objectives.supervised:nothing")
    with pytest.raises(TrainingError, match="there is no module not_there"):
        objective("not_there:thing")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tutelage.training.objectives.supervised")
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(MissingExtra, match=r"torch is not installed: pip install"):
        objective("sft")


def test_listing_objectives_loads_no_torch() -> None:
    code = (
        "import sys; from tutelage.training.objectives.registry import OBJECTIVES\n"
        "print(len(OBJECTIVES), 'torch' in sys.modules)"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == [str(len(OBJECTIVES)), "False"]


def test_a_stateless_objective_saves_nothing_and_refuses_another_ones_state() -> None:
    aim = objective("sft")
    aim.stepped(1.0)
    aim.load_state_dict({})

    assert aim.state_dict() == {}
    with pytest.raises(CheckpointDamaged, match=r"state of objective 'sft' has the keys \['t'\]"):
        aim.load_state_dict({"t": 0.5})


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(TrainingError, match="the batch has no chunks"):
        part("chunks", None)


def test_a_causal_pass_is_shifted_by_one() -> None:
    tokens = torch.tensor([[4, 5, 3, 2]])
    supervised = torch.tensor([[False, False, True, True]])
    values = torch.randn(1, 4, 6)

    given = Scored.causal(values, tokens, supervised)

    assert given.targets.tolist() == [[5, 3, 2]]
    assert given.mask.tolist() == [[False, True, True]]
    assert torch.equal(given.logits, values[:, :3])


def test_every_need_is_one_of_an_objective() -> None:
    needed = {need for name in OBJECTIVES for need in objective(name).needs}

    assert needed == set(Need)
