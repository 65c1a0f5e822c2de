"""The four cases of the rule, noise, and runs in a world whose oracle is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tutelage.training.gates.evaluation import Checkpoint, Evaluation
from tutelage.training.gates.hacking import GoldenFall, PowerLaw
from tutelage.training.gates.verdict import Verdict

Array = NDArray[np.float64]


def _curves(
    proxy: Callable[[float], float], golden: Callable[[float], float], points: int = 20
) -> Evaluation:
    return Evaluation(
        (),
        checkpoints=tuple(
            Checkpoint(100 * place, proxy(place), golden(place), 0.02)
            for place in range(1, points + 1)
        ),
    )


def _power(place: float) -> float:
    return float(2.0 * place**-0.5)


def _rising(place: float) -> float:
    return 0.9 - 0.5 / place


def _arch(place: float) -> float:
    return 0.8 - 0.004 * (place - 8) ** 2


def test_a_pure_power_law_is_silent() -> None:
    evaluation = _curves(_power, _rising)
    assert PowerLaw().check(evaluation).passed
    assert "step ** -0.50" in PowerLaw().check(evaluation).text
    assert GoldenFall().check(evaluation).passed


def test_a_plateau_warns_and_does_not_block() -> None:
    evaluation = _curves(lambda place: max(0.7, _power(place)), _rising)
    warning = PowerLaw().check(evaluation)
    assert (warning.passed, warning.blocking) == (False, False)
    assert GoldenFall().check(evaluation).passed


def test_a_golden_metric_that_falls_while_the_proxy_improves_blocks() -> None:
    verdict = GoldenFall().check(_curves(_power, _arch))
    assert (verdict.passed, verdict.blocking) == (False, True)
    assert "golden fell from 0.8 at step 800" in verdict.text
    assert "take the checkpoint of step 800" in verdict.text


def test_a_rising_golden_metric_never_blocks_whatever_the_proxy_does() -> None:
    generator = np.random.default_rng(1)
    for _ in range(200):
        golden = np.sort(generator.random(12))
        proxies = generator.random(12)
        points = tuple(
            Checkpoint(place + 1, float(proxy), float(value), 0.0)
            for place, (proxy, value) in enumerate(zip(proxies, golden, strict=True))
        )
        assert GoldenFall().check(Evaluation((), checkpoints=points)).passed


def test_a_fall_without_a_closer_teacher_is_no_hacking() -> None:
    assert GoldenFall().check(_curves(lambda place: place, _arch)).passed


def test_one_bad_checkpoint_does_not_block_and_two_do_for_good() -> None:
    def points(*golden: float) -> Evaluation:
        return Evaluation(
            (),
            checkpoints=tuple(
                Checkpoint(place + 1, 1 / (place + 1), value, 0.02)
                for place, value in enumerate(golden)
            ),
        )

    assert GoldenFall().check(points(0.5, 0.8, 0.4, 0.8, 0.4)).passed
    assert not GoldenFall().check(points(0.5, 0.8, 0.4, 0.4, 0.79)).passed
    assert GoldenFall().check(points(0.5, 0.8, 0.4, 0.4, 0.9)).passed is False
    assert "not measured" in GoldenFall().check(points(0.5)).text


def test_few_checkpoints_are_not_measured() -> None:
    assert "too few" in PowerLaw().check(_curves(_power, _rising, points=9)).text


@pytest.mark.parametrize("checkpoints", [6, 10, 20])
def test_a_noisy_plateau_is_blocked_in_one_run_of_ten_at_most(checkpoints: int) -> None:
    generator = np.random.default_rng(7)
    runs, items = 400, 100
    blocked = 0
    for _ in range(runs):
        shares = generator.binomial(items, 0.7, size=checkpoints) / items
        points = tuple(
            Checkpoint(place + 1, 1 / (place + 1), share, (share * (1 - share) / items) ** 0.5)
            for place, share in enumerate(shares.tolist())
        )
        blocked += not GoldenFall().check(Evaluation((), checkpoints=points)).passed
    # Four standard errors above 0.1.
    assert blocked / runs <= 0.16


def test_noise_around_a_power_law_seldom_warns() -> None:
    generator = np.random.default_rng(8)
    warned = 0
    for _ in range(300):
        noise = np.exp(0.03 * generator.standard_normal(21))
        points = tuple(
            Checkpoint(100 * place, _power(place) * float(noise[place]), _rising(place), 0.02)
            for place in range(1, 21)
        )
        warned += not PowerLaw().check(Evaluation((), checkpoints=points)).passed
    assert warned / 300 <= 0.12


@dataclass(frozen=True)
class Run:
    """What a toy run brought."""

    verdict: Verdict
    golden: Array


def toy_run(seed: int, *, fresh: bool, golden_items: int = 400) -> Run:
    """A softmax student learns from a teacher that errs, in a world with an exact oracle.

    The oracle's logits are linear in the prompt; the teacher adds an error of its own to each
    prompt. A student that sees the same 200 prompts again and again fits those errors; one that
    sees fresh prompts averages them out. Golden is minus the exact KL from the oracle on a frozen
    slice, proxy the KL from the teacher on the prompts that it labelled.
    """
    generator = np.random.default_rng(seed)
    width, actions, labelled = 100, 4, 200
    oracle = generator.standard_normal((width, actions)) * 1.5 / width**0.5

    def prompts(count: int) -> Array:
        return generator.standard_normal((count, width))

    def teacher(batch: Array) -> Array:
        return _softmax(batch @ oracle + 2.0 * generator.standard_normal((len(batch), actions)))

    frozen = prompts(golden_items)
    truth = _softmax(frozen @ oracle)
    seen = prompts(labelled)
    labels = teacher(seen)
    weights = np.zeros((width, actions))
    points, golden = [], []
    for step in range(1, 401):
        batch, wanted = seen, labels
        if fresh:
            batch = prompts(labelled)
            wanted = teacher(batch)
        # It falls, so that the errors of fresh prompts average out; both ways alike.
        rate = 1.0 / (1 + step / 100)
        weights += rate * batch.T @ (wanted - _softmax(batch @ weights)) / labelled
        if step in (1, 2, 5, 10, 20, 40, 80, 120, 200, 300, 400):
            losses = _kl(truth, _softmax(frozen @ weights))
            proxy = float(_kl(wanted, _softmax(batch @ weights)).mean())
            golden.append(-float(losses.mean()))
            error = float(losses.std(ddof=1)) / golden_items**0.5
            points.append(Checkpoint(step, proxy, golden[-1], error))
    verdict = GoldenFall().check(Evaluation((), checkpoints=tuple(points)))
    return Run(verdict, np.array(golden))


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Array = powers / powers.sum(axis=1, keepdims=True)
    return found


def _kl(p: Array, q: Array) -> Array:
    found: Array = (p * (np.log(p) - np.log(q))).sum(axis=1)
    return found


@pytest.mark.slow
def test_clean_runs_with_fresh_prompts_are_blocked_in_5_percent_at_most() -> None:
    runs = [toy_run(seed, fresh=True) for seed in range(40)]
    assert sum(not run.verdict.passed for run in runs) <= 2


def test_every_run_that_fits_the_errors_of_a_fixed_set_is_blocked() -> None:
    for seed in range(20):
        run = toy_run(seed, fresh=False)
        assert run.golden.argmax() < len(run.golden) - 2, "the golden metric is an arch"
        assert not run.verdict.passed, f"seed {seed}"
