"""Whether the LELP head may be used: it must beat its own shuffled control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tutelage.cascade.bounds import binomial_cdf
from tutelage.cascade.feature_scale import FeatureRows
from tutelage.cascade.lelp import DEFAULT_OPTIONS, HeadOptions, JudgedSteps, fit_lelp
from tutelage.cascade.score_quality import auroc


@dataclass(frozen=True, slots=True, eq=False)
class HeadTrial:
    """Steps to train on and others to be judged by."""

    fitted: JudgedSteps
    rows: FeatureRows
    """(steps,): held out; of other episodes than those trained on."""
    right: Sequence[bool]
    """(steps,): verified, not the judge's opinion."""
    seed: int


@dataclass(frozen=True, slots=True)
class HeadComparison:
    """AUROC on held-out steps, one figure a trial."""

    kd: tuple[float, ...]
    """Vanilla KD: one subclass."""
    lelp: tuple[float, ...]
    shuffled: tuple[float, ...]
    """LELP with the subclass shares permuted over steps."""
    level: float

    @property
    def may_ship(self) -> bool:
        """Whether LELP beats both the control and KD by a one-sided sign test at ``level``."""
        return all(sign_test(self.lelp, other) <= self.level for other in (self.shuffled, self.kd))

    @property
    def statement(self) -> str:
        """The figures in one line."""
        means = [float(np.mean(arm)) for arm in (self.kd, self.lelp, self.shuffled)]
        p = max(sign_test(self.lelp, self.shuffled), sign_test(self.lelp, self.kd))
        verdict = "may ship" if self.may_ship else "stays off"
        return (
            f"AUROC over {len(self.lelp)} trials: KD {means[0]:.4f}, LELP {means[1]:.4f}, shuffled "
            f"control {means[2]:.4f}; sign test p = {p:.3g}: LELP {verdict}"
        )


def compare_heads(
    trials: Iterable[HeadTrial], options: HeadOptions = DEFAULT_OPTIONS, *, level: float = 0.05
) -> HeadComparison:
    """Trains KD, LELP and the shuffled control on every trial.

    The sign test assumes independent trials. Trials that split the same steps anew are not quite
    independent, so its p is then too small: ask for a lower ``level``.

    Args:
        trials: At least 5, or the test cannot reach 0.05.
        options: Of LELP and the control; KD differs in the number of subclasses alone.
        level: Of the sign test.
    """
    arms: dict[str, list[float]] = {"kd": [], "lelp": [], "shuffled": []}
    for trial in trials:
        heads = {
            "kd": fit_lelp(trial.fitted, replace(options, subclasses=1), seed=trial.seed),
            "lelp": fit_lelp(trial.fitted, options, seed=trial.seed),
            "shuffled": fit_lelp(trial.fitted, options, seed=trial.seed, shuffled=True),
        }
        for name, head in heads.items():
            scores = head.scores(head.scale.matrix(trial.rows))
            arms[name].append(auroc(scores.tolist(), trial.right))
    return HeadComparison(tuple(arms["kd"]), tuple(arms["lelp"]), tuple(arms["shuffled"]), level)


def sign_test(first: Sequence[float], second: Sequence[float]) -> float:
    """One-sided p of "the first is not better": ``P(Bin(n, 1/2) >= wins)``; ties are no wins."""
    wins = sum(a > b for a, b in zip(first, second, strict=True))
    return binomial_cdf(len(first) - wins, len(first), 0.5)
