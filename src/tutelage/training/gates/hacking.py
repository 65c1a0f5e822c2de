"""Teacher hacking: the student comes closer to the teacher and farther from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, log, sqrt
from statistics import NormalDist

from tutelage.training.gates.evaluation import Checkpoint, Evaluation
from tutelage.training.gates.verdict import Verdict

_FEWEST_FITTED = 4
_FLAT = 1e-3
"""Least residual error of the fit: a tenth of a percent of the proxy is not a departure."""


@dataclass(frozen=True, slots=True)
class GoldenFall:
    """Blocks a candidate whose golden metric fell while it came closer to the teacher.

    A checkpoint is worse if its golden metric is below the best one so far by more than ``errors``
    standard errors of the difference, ``hypot`` of both, and its proxy is below that of the best.
    ``in_a_row`` worse checkpoints block; it stays so even if the metric recovers. Errors are
    taken as independent, which is lenient where both checkpoints play the same tasks. The best of
    many noisy checkpoints is too good: beyond ``looks`` of them the level is divided by their
    number (Bonferroni), so that a plateau is blocked in one run of ten at most. Source: the
    definition of teacher hacking in Tiapkin et al. 2025 (arXiv 2502.02671); the rule is ours.

    Args:
        errors: Standard errors.
        looks: Checkpoints up to which ``errors`` is taken as it is.
        in_a_row: Checkpoints.
        blocking: Whether it forbids a promotion.
    """

    errors: float = 2.0
    looks: int = 6
    in_a_row: int = 2
    blocking: bool = True

    def check(self, evaluation: Evaluation) -> Verdict:
        """Looks for a run of worse checkpoints."""
        most = self._errors(len(evaluation.checkpoints))
        best: Checkpoint | None = None
        fall, run = 0.0, 0
        found: tuple[Checkpoint, Checkpoint] | None = None
        for one in evaluation.checkpoints:
            if best is None or one.golden > best.golden:
                best, run = one, 0
                continue
            error = hypot(best.golden_error, one.golden_error)
            fallen = best.golden - one.golden
            fall = max(fall, fallen / error if error else 0.0)
            is_worse = fallen > most * error and one.proxy < best.proxy
            run = run + 1 if is_worse else 0
            if run >= self.in_a_row and found is None:
                found = (best, one)
        if found is not None:
            before, after = found
            text = (
                f"golden fell from {before.golden:.4g} at step {before.step} to {after.golden:.4g} "
                f"at step {after.step} while the distance to the teacher fell from "
                f"{before.proxy:.4g} to {after.proxy:.4g}: take the checkpoint of step "
                f"{before.step}, or train on fresh answers"
            )
        elif len(evaluation.checkpoints) <= self.in_a_row:
            text = f"not measured: {len(evaluation.checkpoints)} checkpoints are too few"
        else:
            text = f"golden never fell for good in {len(evaluation.checkpoints)} checkpoints"
        return Verdict(
            gate="teacher hacking",
            passed=found is None,
            blocking=self.blocking,
            value=fall,
            threshold=most,
            text=text,
        )

    def _errors(self, checkpoints: int) -> float:
        normal = NormalDist()
        if checkpoints <= self.looks:
            return self.errors
        return -normal.inv_cdf(normal.cdf(-self.errors) * self.looks / checkpoints)


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Warns where the distance to the teacher leaves its power law in training steps.

    Fits ``log proxy = a + b log step`` by least squares on the first 40 % of checkpoints; a warning
    if at least ``most_outside`` of the last ``window`` residuals exceed ``errors`` standard
    deviations of the fit's residuals. It needs no oracle, and harmless plateaus ring it too, so it
    never blocks.
    """

    share: float = 0.4
    errors: float = 4.0
    window: int = 6
    most_outside: int = 3

    def check(self, evaluation: Evaluation) -> Verdict:
        """Compares late checkpoints with the law of the early ones."""
        points = [one for one in evaluation.checkpoints if one.proxy > 0]
        fitted = int(self.share * len(points))
        if fitted < _FEWEST_FITTED or len(points) - fitted < self.window:
            text = f"not measured: {len(points)} checkpoints are too few"
            return self._verdict(True, None, text)
        xs = [log(one.step) for one in points]
        ys = [log(one.proxy) for one in points]
        start, slope, error = _line(xs[:fitted], ys[:fitted])
        late = zip(xs[-self.window :], ys[-self.window :], strict=True)
        outside = sum(abs(y - start - slope * x) > self.errors * error for x, y in late)
        text = (
            f"{outside} of the last {self.window} checkpoints leave the power law of the first "
            f"{fitted}, step ** {slope:.2f}"
        )
        passed = outside < self.most_outside
        if not passed:
            text += ": a plateau, or hacking; look at the golden metric"
        return self._verdict(passed, float(outside), text)

    def _verdict(self, passed: bool, value: float | None, text: str) -> Verdict:
        return Verdict(
            gate="power law of the proxy",
            passed=passed,
            blocking=False,
            value=value,
            threshold=float(self.most_outside),
            text=text,
        )


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Intercept, slope and residual error of a least-squares line."""
    count = len(xs)
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    start = mean_y - slope * mean_x
    squares = sum((y - start - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return start, slope, max(_FLAT, sqrt(squares / (count - 2)))
