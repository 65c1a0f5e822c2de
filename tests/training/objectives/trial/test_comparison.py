"""The trial from feed to table."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import torch

from tutelage.training.objectives.registry import OBJECTIVES, objective
from tutelage.training.objectives.signal import Need
from tutelage.training.objectives.trial.__main__ import main
from tutelage.training.objectives.trial.arms import ARMS, CONTROL, Arm, ArmRun, run_arm
from tutelage.training.objectives.trial.comparison import ArmResult, compare, interval
from tutelage.training.objectives.trial.feed import BATCH, ToyFeed
from tutelage.training.objectives.trial.golden import Golden, auroc, golden
from tutelage.training.objectives.trial.report import as_table
from tutelage.training.objectives.trial.student import ToyStudent
from tutelage.training.objectives.trial.traces import gate
from tutelage.training.objectives.trial.wording import PROMPT, answer, prompt
from tutelage.training.objectives.trial.world import State, ToyTeacher, ToyWorld

WORLD = ToyWorld((1, 4, 6, 0))
SMALL = 4 * BATCH * 6


def feed() -> ToyFeed:
    teacher = ToyTeacher(WORLD, 1)
    return ToyFeed(gate(WORLD, teacher, random.Random(0), 30), teacher, random.Random(0))


class Oracle(ToyStudent):
    """Says what is right."""

    def answers(
        self, prompts: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        said = []
        for item, destination, room, hand, _ in prompts.tolist():
            state = State(item, destination - 4, room - 4, bool(hand - 12))
            said.append(answer(next(iter(WORLD.right(state)))))
        return torch.tensor(said)


def test_every_objective_but_none_twice_has_an_arm_and_the_control_comes_first() -> None:
    assert ARMS[0].name == CONTROL
    assert {arm.objective for arm in ARMS} == set(OBJECTIVES)
    assert len({arm.name for arm in ARMS}) == len(ARMS)


def test_the_oracle_solves_all_and_a_fresh_student_hardly_anything() -> None:
    fresh = ToyStudent.drawn(0)
    tasks = WORLD.tasks()[::7]

    best = golden(Oracle(fresh.weights), WORLD, tasks, set())
    untrained = golden(fresh, WORLD, tasks, set())

    assert (best.success, best.accuracy, best.auroc) == (1.0, 1.0, 0.5)
    assert untrained.success < 0.1
    assert untrained.kl > 1


def test_the_student_does_not_see_what_follows() -> None:
    student = ToyStudent.drawn(1)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 9, 9, 9]])

    hidden = student.hidden(tokens).detach()

    assert torch.allclose(hidden[0, :3], hidden[1, :3])
    assert not torch.allclose(hidden[0, 3:], hidden[1, 3:])


def test_drawn_answers_follow_the_generator() -> None:
    student, prompts = ToyStudent.drawn(2), torch.tensor([prompt(State(0, 1, 2))] * 40)

    first = student.answers(prompts, torch.Generator().manual_seed(0))
    again = student.answers(prompts, torch.Generator().manual_seed(0))

    assert torch.equal(first, again)
    assert len(first.unique(dim=0)) > 1
    assert len(student.answers(prompts).unique(dim=0)) == 1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_feed_gives_what_an_objective_needs_and_counts_every_token(name: str) -> None:
    source, aim = feed(), objective(name)

    loss, _ = aim.loss(source.batch(ToyStudent.drawn(0), aim.needs))

    pair_or_reason = bool(aim.needs & {Need.PAIRS, Need.RATIONALE})
    shown = Need.DEMONSTRATIONS in aim.needs
    expected = BATCH * (PROMPT + 1) * (1 + pair_or_reason + shown) + shown * BATCH * 3 * 7
    assert source.tokens == expected
    assert torch.isfinite(loss)


def test_revised_answers_are_the_students_with_the_teachers_token() -> None:
    source = feed()

    given = source.batch(ToyStudent.drawn(0), frozenset(), revised=True)

    gated = {tuple(answer(act)) for _, act in source.gated.steps}
    assert any(tuple(tokens) not in gated for tokens in given.chosen.targets.tolist())
    assert source.tokens > BATCH * (PROMPT + 1)


def test_demonstrations_never_show_the_state_itself() -> None:
    source = feed()
    steps = list(source.gated.steps[:20])

    shown = source._shown(steps)

    for (state, _), tokens in zip(steps, shown.tolist(), strict=True):
        told = [tokens[start : start + PROMPT] for start in (0, 7, 14)]
        assert prompt(state) not in told
        assert tokens[21:] == prompt(state)


def test_shuffled_likelihoods_are_those_of_other_texts() -> None:
    needs = frozenset({Need.CHUNKS})
    plain = feed().batch(ToyStudent.drawn(0), needs)
    mixed = feed().batch(ToyStudent.drawn(0), needs, shuffled=True)

    assert plain.chunks is not None
    assert mixed.chunks is not None
    first, second = plain.chunks.teacher_log_probs, mixed.chunks.teacher_log_probs
    assert not torch.equal(first, second)
    assert sorted(first.flatten().tolist()) == sorted(second.flatten().tolist())
    assert plain.teacher.log_probs is not None
    assert torch.allclose(first.squeeze(-1), plain.teacher.log_probs.sum(-1))


def test_training_lowers_the_distance_to_the_oracle_and_repeats_exactly() -> None:
    short = run_arm(ARMS[0], 3, budget=SMALL)
    longer = run_arm(ARMS[0], 3, budget=20 * SMALL)

    assert longer.golden.kl < short.golden.kl
    assert run_arm(ARMS[0], 3, budget=SMALL) == short


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_trains_within_the_budget_and_one_batch(arm: Arm) -> None:
    run = run_arm(arm, 0, budget=SMALL)

    assert SMALL <= run.tokens < SMALL + BATCH * 6 * 8
    assert 0 <= run.golden.success <= 1


@pytest.mark.parametrize(
    ("gains", "control", "verdict"),
    [
        ((0.1, 0.2, 0.1), False, "better"),
        ((-0.1, -0.2, -0.1), False, "worse"),
        ((0.3, -0.1, -0.1), False, "not shown"),
        ((0.0, 0.0, 0.0), False, "not shown"),
        ((0.1, 0.2, 0.1), True, "control"),
    ],
)
def test_a_verdict_is_the_threshold_applied(
    gains: tuple[float, ...], control: bool, verdict: str
) -> None:
    run = ArmRun(Golden(0.5, 0.6, 0.7, 1.0), 10, {})
    result = ArmResult(Arm("x", "sft", control=control), (run,) * 3, gains, interval(gains))

    assert result.verdict == verdict
    assert result.mean("success") == 0.5


def test_the_interval_is_around_the_mean_and_the_same_each_time() -> None:
    gains = [0.1, 0.3, 0.2, 0.0]

    low, high = interval(gains)

    assert low < 0.15 < high
    assert min(gains) <= low
    assert high <= max(gains)
    assert interval(gains) == (low, high)


def test_auroc_counts_pairs() -> None:
    assert auroc([0.9, 0.8, 0.1], [True, False, False]) == 1.0
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert auroc([0.5], [True]) == 0.5


def test_the_table_has_a_row_an_arm() -> None:
    results = compare(ARMS[:3], seeds=1, budget=SMALL)

    rows = as_table(results).splitlines()

    assert len(rows) == 5
    assert rows[2].startswith("| sft | T0 text | ")
    assert "| control |" in rows[3]


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--seeds", "1", "--budget", "800", "--arms", "fkl"]

    assert main(common) == 0
    table = capsys.readouterr().out
    assert main([*common, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert "| fkl | T3 logits |" in table
    assert "1 seeds, 800 tokens" in table
    assert [arm["arm"] for arm in found["arms"]] == ["sft", "fkl"]
    assert found["budget_tokens"] == 800


def test_an_unknown_arm_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--arms", "fkk"])

    assert stopped.value.code == 2
    assert "arms ['fkk']" in capsys.readouterr().err


def test_without_torch_the_command_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    assert main([]) == 1
    assert "pip install 'tutelage[train]'" in capsys.readouterr().err


def test_the_documentation_has_the_figures_of_every_experimental_objective() -> None:
    page = Path(__file__).parents[4] / "docs" / "how-to" / "objectives.md"
    rows = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and " T" in line
    }

    for name, row in OBJECTIVES.items():
        assert f"T{row.signal.tier} {row.signal.value}" in rows[name]
        if row.experimental is not None:
            assert row.experimental.removeprefix("gain in success ") in rows[name]
            assert "better" not in rows[name]
