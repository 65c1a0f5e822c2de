"""What the arms of the experiment come to, as a table, as JSON and as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from tutelage.runtime.errors import MissingExtra
from tutelage.training.diffusion.experiment_seeds import SeedResult
from tutelage.training.diffusion.experiment_settings import BASE, control_of
from tutelage.training.diffusion.parallelism import Point, area, cheapest_at

ONE_TOKEN = "one-token"


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm of one language, over the seeds; each list has one value a seed."""

    language: str
    arm: str
    rules: list[str | None]
    """The rule with the fewest forwards at equal success; ``None``: no rule is as good."""
    success: list[float | None]
    forwards: list[float | None]
    tokens_a_forward: list[float | None]
    areas: list[float]
    fewer_than_one_token: list[float | None]
    """Forwards of the base with one token a forward, over the arm's."""
    fewer_than_threshold: list[float | None]
    """Forwards of the base's best rule at equal success, over the arm's."""


def arm_rows(results: Sequence[SeedResult]) -> list[ArmRow]:
    """The arms of every language, each at equal success: within a point of the base, one token a
    forward, of the same seed.
    """
    rows = []
    for language in dict.fromkeys(result.language for result in results):
        seeds = [result for result in results if result.language == language]
        for arm in seeds[0].points:
            rows.append(_row(language, arm, [one for one in seeds if arm in one.points]))
    return rows


def _row(language: str, arm: str, seeds: Sequence[SeedResult]) -> ArmRow:
    found: list[Point | None] = []
    areas: list[float] = []
    slow: list[Point] = []
    threshold: list[Point] = []
    for seed in seeds:
        base = seed.points[BASE]
        one = next(point for point in base if point.rule == ONE_TOKEN)
        slow.append(one)
        threshold.append(cheapest_at(base, one.success) or one)
        found.append(cheapest_at(seed.points[arm], one.success))
        best = max(point.success for points in seed.points.values() for point in points)
        areas.append(area(seed.points[arm], best))
    return ArmRow(
        language,
        arm,
        rules=[point.rule if point else None for point in found],
        success=[point.success if point else None for point in found],
        forwards=[point.forwards if point else None for point in found],
        tokens_a_forward=[point.tokens_a_forward if point else None for point in found],
        areas=areas,
        fewer_than_one_token=_fewer(found, slow),
        fewer_than_threshold=_fewer(found, threshold),
    )


def _fewer(found: Sequence[Point | None], others: Sequence[Point]) -> list[float | None]:
    return [
        other.forwards / point.forwards if point else None
        for point, other in zip(found, others, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the control, seed by seed."""

    language: str
    arm: str
    area_gain: float
    """Mean over seeds of the arm's area minus the control's."""
    area_spread: float
    """Standard deviation of that difference; 0 with one seed."""
    seeds_ahead: int
    """In which the arm's area is larger."""
    forwards_saved: float | None
    """Mean share of the control's forwards at equal success that the arm saves."""

    @property
    def is_outside_the_spread(self) -> bool:
        """Whether the arm is ahead by more than the seeds differ."""
        return self.area_spread > 0 and self.area_gain > self.area_spread


def comparisons(rows: Sequence[ArmRow]) -> list[Comparison]:
    """Every distilled arm against the control that learned from the same answers."""
    made = []
    for row in rows:
        if row.arm in (BASE, control_of(row.arm)):
            continue
        of = (row.language, control_of(row.arm))
        control = next(r for r in rows if (r.language, r.arm) == of)
        gains = [ours - theirs for ours, theirs in zip(row.areas, control.areas, strict=True)]
        saved = [
            1 - ours / theirs
            for ours, theirs in zip(row.forwards, control.forwards, strict=True)
            if ours is not None and theirs is not None
        ]
        made.append(
            Comparison(
                row.language,
                row.arm,
                fmean(gains),
                stdev(gains) if len(gains) > 1 else 0.0,
                sum(gain > 0 for gain in gains),
                fmean(saved) if saved else None,
            )
        )
    return made


def as_json(results: Sequence[SeedResult], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, and what it comes to."""
    rows = arm_rows(results)
    return {
        "settings": dict(settings),
        "seeds": [asdict(result) for result in results],
        "arms": [asdict(row) for row in rows],
        "against_control": [
            {**asdict(one), "outside_the_spread": one.is_outside_the_spread}
            for one in comparisons(rows)
        ],
    }


def against_control(results: Sequence[SeedResult]) -> list[str]:
    """One line for each arm that has a control: how far ahead of it, and in how many seeds."""
    said = []
    for one in comparisons(arm_rows(results)):
        seeds = sum(result.language == one.language for result in results)
        saved = "-" if one.forwards_saved is None else f"{one.forwards_saved:+.1%}"
        said.append(
            f"{one.language}: {one.arm} against {control_of(one.arm)}: area "
            f"{one.area_gain:+.1f} +- {one.area_spread:.1f}, ahead in {one.seeds_ahead} of {seeds} "
            f"seeds, forwards saved {saved}, outside the spread: "
            f"{'yes' if one.is_outside_the_spread else 'no'}"
        )
    return said


def table(results: Sequence[SeedResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: means over the seeds, and the spread of the area."""
    columns = [
        "language", "arm", "best rule", "success", "forwards", "tokens/forward",
        "x one-token", "x threshold", "area",
    ]  # fmt: skip
    rows = []
    for row in arm_rows(results):
        spread = f" +- {stdev(row.areas):.1f}" if len(row.areas) > 1 else ""
        rules = ", ".join(dict.fromkeys(rule or "none is as good" for rule in row.rules))
        rows.append(
            [
                row.language,
                row.arm,
                rules,
                _mean(row.success, 3),
                _mean(row.forwards, 2),
                _mean(row.tokens_a_forward, 2),
                _mean(row.fewer_than_one_token, 1),
                _mean(row.fewer_than_threshold, 2),
                f"{fmean(row.areas):.1f}{spread}",
            ]
        )
    return columns, rows


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    missing = len(values) - len(known)
    return f"{fmean(known):.{digits}f}" + (f" ({missing} missing)" if missing else "")


def draw(results: Sequence[SeedResult], form: Literal["svg", "png"] = "svg") -> bytes:
    """Success over tokens a forward, one panel a language, one curve an arm; means over seeds.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "plot") from error
    languages = list(dict.fromkeys(result.language for result in results))
    with rc_context({"svg.hashsalt": "tutelage", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(5.4 * len(languages), 4.6), layout="constrained")
        panels = figure.subplots(1, len(languages), sharey=True, squeeze=False)[0]
        for axes, language in zip(panels, languages, strict=True):
            seeds = [result for result in results if result.language == language]
            for arm in seeds[0].points:
                curve = sorted(_means([seed.points[arm] for seed in seeds]))
                axes.plot(
                    [parallel for parallel, _ in curve],
                    [success for _, success in curve],
                    marker="o",
                    markersize=4,
                    label=arm,
                )
            axes.set_title(language)
            axes.set_xlabel("tokens a forward")
            axes.grid(alpha=0.25)
        panels[0].set_ylabel("answers right")
        panels[0].set_ylim(-0.03, 1.03)
        panels[0].legend(frameon=False)
        picture = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(picture, format=form, dpi=150, metadata=metadata)
    return picture.getvalue()


def _means(seeds: Sequence[Sequence[Point]]) -> list[tuple[float, float]]:
    return [
        (fmean(point.tokens_a_forward for point in same), fmean(point.success for point in same))
        for same in zip(*seeds, strict=True)
    ]
