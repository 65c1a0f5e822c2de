"""What a cascade costs and saves over many episodes, every figure with the rows it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from tutelage.benchmarks.report_table import usd
from tutelage.benchmarks.statistics import Interval

Unit = Literal["usd", "episodes", "share"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its interval and where it is from."""

    value: float | None
    """``None``: never, or unknown."""
    interval: Interval | None
    """95 %; an end is infinite where it is unbounded, ``None`` where nothing is left to chance."""
    unit: Unit
    how: str
    """The formula, in names of other figures."""
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the rows it is from by kind: episodes, audits, trajectories or options."""


@dataclass(frozen=True, slots=True)
class FixedCost:
    """What is spent once, before an episode is saved on."""

    training_usd: float
    training_rows: tuple[str, ...]
    """Options that the cost of training is from."""
    trajectories: tuple[str, ...]
    """Ids of the teacher's episodes that demonstrations are from."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What traffic says of one pricing."""

    teacher: Figure
    """USD of an episode of the teacher alone."""
    cascade: Figure
    """USD of an episode of the cascade, audits included."""
    saved: Figure
    """USD saved by an episode of the cascade."""
    audits: Figure
    """USD of all audits, which are part of ``cascade``."""
    holdout_share: Figure
    """Share of episodes that the teacher plays alone."""


def cost_figures(measured: Measured, fixed: FixedCost, episodes: int) -> dict[str, Figure]:
    """All figures of one pricing by name.

    ``break-even = fixed / (saved * (1 - holdout share))`` and ``projected saving = episodes * saved
    * (1 - holdout share) - fixed``, where ``fixed`` is training, plus ``trajectories * teacher`` if
    the demonstrations' episodes were played for nothing else (overhead); as real work they cost
    nothing more. Source: amortisation in arXiv 2512.02543. Intervals carry over those of
    saving and teacher end by end; the holdout share is taken as it was, since it is set and not
    estimated.

    Args:
        measured: What traffic says.
        fixed: What is spent once.
        episodes: How many episodes are projected.
    """
    saved, teacher, share = measured.saved, measured.teacher, measured.holdout_share.value or 0.0
    rows = _joined(saved.rows, measured.holdout_share.rows)
    net = _scaled(saved, 1 - share, "saved * (1 - holdout share)", rows)
    bank = _scaled(
        teacher,
        len(fixed.trajectories),
        "trajectories * teacher",
        _joined(teacher.rows, {"trajectories": fixed.trajectories}),
    )
    training = Figure(fixed.training_usd, None, "usd", "as given", {"options": fixed.training_rows})
    figures = {
        "teacher": teacher,
        "cascade": measured.cascade,
        "saved": saved,
        "holdout share": measured.holdout_share,
        "holdout an episode": _scaled(saved, share, "saved * holdout share", rows),
        "audits": measured.audits,
        "saved after holdout": net,
        "training": training,
        "demonstrations as overhead": bank,
    }
    for name, extra in (("real work", _nothing()), ("overhead", bank)):
        once = _sum(training, extra)
        figures[f"break-even, demonstrations as {name}"] = break_even(once, net)
        figures[f"projected saving, demonstrations as {name}"] = _projected(net, once, episodes)
    return figures


def break_even(fixed: Figure, saved: Figure) -> Figure:
    """Episodes until ``fixed`` is saved; ``None`` if nothing is saved."""
    how, rows = "fixed / saved after holdout", _joined(fixed.rows, saved.rows)
    assert fixed.value is not None
    if saved.value is None or saved.value <= 0:
        return Figure(None, None, "episodes", how, rows)
    low, high = _ends(fixed)
    least, most = _ends(saved)
    interval = Interval(
        low / most if isfinite(most) else 0.0,
        0.0 if high == 0 else high / least if least > 0 else float("inf"),
    )
    return Figure(fixed.value / saved.value, interval, "episodes", how, rows)


def lines(name: str, figures: Mapping[str, Figure], episodes: int) -> list[str]:
    """The figures of one pricing as lines for a person."""
    told = [f"{name}, {episodes:,} episodes projected:"]
    for title, figure in figures.items():
        text = f"  {title}: {_told(figure.value, figure.unit)}"
        if figure.interval is not None:
            low, high = figure.interval.low, figure.interval.high
            text += f" ({_told(low, figure.unit)} to {_told(high, figure.unit)})"
        count = ", ".join(f"{len(ids)} {kind}" for kind, ids in figure.rows.items() if ids)
        told.append(f"{text} = {figure.how}" + (f"; from {count}" if count else ""))
    return told


def to_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """The figures as JSON values; what is unbounded is ``null``."""
    return {name: _plain(asdict(figure)) for name, figure in figures.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not isfinite(value) else value


def _told(value: float | None, unit: Unit) -> str:
    if value is None:
        return "never" if unit == "episodes" else "unknown"
    if not isfinite(value):
        return "unbounded"
    if unit == "share":
        return f"{value:.1%}"
    if unit == "episodes":
        return f"{value:,.0f}"
    return f"{'-' if value < 0 else ''}{usd(abs(value))}"


def _projected(saved: Figure, fixed: Figure, episodes: int) -> Figure:
    how, rows = "episodes * saved after holdout - fixed", _joined(saved.rows, fixed.rows)
    if saved.value is None:
        return Figure(None, None, "usd", how, rows)
    assert fixed.value is not None
    (least, most), (low, high) = _ends(saved), _ends(fixed)
    interval = Interval(episodes * least - high, episodes * most - low)
    return Figure(episodes * saved.value - fixed.value, interval, "usd", how, rows)


def _scaled(figure: Figure, by: float, how: str, rows: Mapping[str, tuple[str, ...]]) -> Figure:
    value = None if figure.value is None else figure.value * by
    interval = None
    if figure.interval is not None and by:
        interval = Interval(figure.interval.low * by, figure.interval.high * by)
    return Figure(value if by else 0.0, interval, figure.unit, how, rows)


def _sum(first: Figure, second: Figure) -> Figure:
    (low, high), (lower, higher) = _ends(first), _ends(second)
    value = (first.value or 0.0) + (second.value or 0.0)
    interval = Interval(low + lower, high + higher)
    return Figure(value, interval, "usd", "fixed", _joined(first.rows, second.rows))


def _nothing() -> Figure:
    return Figure(0.0, None, "usd", "0")


def _ends(figure: Figure) -> tuple[float, float]:
    if figure.interval is None:
        return figure.value or 0.0, figure.value or 0.0
    return figure.interval.low, figure.interval.high


def _joined(*parts: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    joined: dict[str, tuple[str, ...]] = {}
    for rows in parts:
        for kind, ids in rows.items():
            joined[kind] = tuple(dict.fromkeys([*joined.get(kind, ()), *ids]))
    return joined
