"""A replay as one comparison: the figures of its arms, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.benchmarks.arms import ARMS
from tutelage.benchmarks.failed_episodes import FailedEpisode, example_json
from tutelage.benchmarks.manifest import Manifest, RunSettings, read_manifest
from tutelage.benchmarks.report_breakdown import (
    TEACHER_ARM,
    CategoryShare,
    by_category,
    by_difficulty,
    category_json,
)
from tutelage.benchmarks.results import EpisodeResult, read_results
from tutelage.benchmarks.statistics import Interval
from tutelage.benchmarks.summary import PRICINGS, ArmSummary, Bank, summarise
from tutelage.benchmarks.token_bars import token_parts
from tutelage.runtime.errors import BenchmarkError

STUDENT_ARM = "student"
BOOTSTRAP_SEED = 20_251_202


@dataclass(frozen=True, slots=True)
class Report:
    """What a replay showed."""

    settings: RunSettings
    rows: tuple[ArmSummary, ...]
    notes: tuple[str, ...]
    categories: tuple[CategoryShare, ...] = ()
    difficulties: tuple[CategoryShare, ...] = ()
    """By how many steps the teacher alone needed."""
    examples: tuple[FailedEpisode, ...] = ()
    """Episodes that failed, where the store was at hand."""

    def row(self, arm: str) -> ArmSummary | None:
        """The figures of an arm; ``None`` if it has no episode."""
        return next((row for row in self.rows if row.arm == arm), None)


def load_report(folder: Path) -> Report:
    """Reads a results folder, also one that a replay is still writing to.

    Raises:
        BenchmarkError: Nothing was replayed there yet, or its files are not what a replay writes.
    """
    manifest = read_manifest(folder)
    results = read_results(folder)
    if manifest is None or not results:
        raise BenchmarkError(
            f"{folder} holds no finished episode yet; play some first: tutelage replay"
        )
    return build_report(manifest, results)


def build_report(manifest: Manifest, results: Sequence[EpisodeResult]) -> Report:
    """Compares the arms of a run; the intervals by resampling are the same at every call.

    Args:
        manifest: Settings and arms of the run.
        results: Its episodes, at least one.
    """
    by_arm: dict[str, list[EpisodeResult]] = {}
    for result in results:
        by_arm.setdefault(result.arm, []).append(result)
    order = {name: place for place, name in enumerate(ARMS)}
    bank = Bank(
        episodes=manifest.settings.bank_episodes,
        arms=frozenset(
            name for name, arm in manifest.arms.items() if arm.get("demonstrations") is True
        ),
    )
    rows = []
    for arm in sorted(by_arm, key=lambda name: (order.get(name, len(order)), name)):
        title = ARMS[arm].title if arm in ARMS else arm
        teacher = by_arm.get(TEACHER_ARM, []) if arm != TEACHER_ARM else []
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        rows.append(summarise(arm, title, by_arm[arm], teacher, bank, generator))
    notes = tuple(_notes(manifest, rows))
    return Report(
        manifest.settings, tuple(rows), notes, by_category(results), by_difficulty(results)
    )


def _notes(manifest: Manifest, rows: Sequence[ArmSummary]) -> list[str]:
    settings = manifest.settings
    notes = []
    if settings.teacher_kind == "oracle":
        notes.append(f"Oracle teacher: {settings.teacher}, not an LLM.")
        expert = sum(row.expert_steps for row in rows)
        planner = sum(row.planner_steps for row in rows)
        notes.append(
            f"Of the oracle's {expert + planner} steps {expert} come from an expert that searches "
            f"as an agent would, {planner} from a planner that knows the hidden state."
        )
    else:
        notes.append(f"Teacher: {settings.teacher}.")
    notes.append(
        f"Student: {settings.student}. Tokens priced as {settings.teacher_priced_as} (teacher) / "
        f"{settings.student_priced_as} (student), prices of {settings.prices_date}; "
        "'cached': with the providers' prompt caches, 'uncached': every prompt token in full."
    )
    notes.append(
        f"World: {settings.world}, split {settings.split}, at most {settings.max_steps} steps an "
        "episode. Brackets are 95 % intervals: Wilson for success, bootstrap over tasks for costs."
    )
    if settings.bank_episodes:
        notes.append(
            f"Break-even: episodes until the bank of {settings.bank_episodes} teacher episodes is "
            "repaid if it was an extra cost / if its tasks had to be solved anyway."
        )
    for arm, share in manifest.mix.items():
        notes.append(f"{arm} hands over at random with p = {share:.3f} before its guards.")
    notes.extend(_cautions(rows))
    return notes


def _cautions(rows: Sequence[ArmSummary]) -> list[str]:
    cautions = []
    if all(row.arm != TEACHER_ARM for row in rows):
        cautions.append("The teacher alone was not played, so nothing is compared with it.")
    if len({row.episodes for row in rows}) > 1:
        counts = ", ".join(f"{row.arm} {row.episodes}" for row in rows)
        cautions.append(
            f"Arms differ in episodes ({counts}); comparisons use the pairs that both arms played."
        )
    for row in rows:
        failed = {
            reason: steps for reason, steps in row.reasons.items() if reason.endswith("_failed")
        }
        if failed:
            listed = ", ".join(f"{reason} {steps}" for reason, steps in failed.items())
            cautions.append(f"In {row.arm} the teacher stood in for failures: {listed} steps.")
    return cautions


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values; an unbounded end of an interval is ``None``."""
    return {
        "settings": report.settings.model_dump(mode="json"),
        "arms": [_row_json(row) for row in report.rows],
        "categories": [category_json(row) for row in report.categories],
        "difficulties": [category_json(row) for row in report.difficulties],
        "failures": [example_json(one) for one in report.examples],
        "notes": list(report.notes),
    }


def _row_json(row: ArmSummary) -> dict[str, Any]:
    against = row.against_teacher
    return {
        "arm": row.arm,
        "title": row.title,
        "episodes": row.episodes,
        "solved": row.solved,
        "success": row.share_solved,
        "success_interval": interval_ends(row.success),
        "steps": row.steps,
        "teacher_share": row.teacher_share,
        "expert_steps": row.expert_steps,
        "planner_steps": row.planner_steps,
        "refused_share": dict(row.refused_share),
        "reasons": row.reasons,
        "token_parts": {part.name: part.tokens for part in token_parts(row)},
        "tokens": {role: usage.model_dump() for role, usage in row.tokens.items()},
        "seconds": row.seconds,
        "costs": {
            pricing: {
                "episode_usd": row.costs[pricing].episode_usd,
                "episode_usd_interval": interval_ends(row.episode_usd_interval[pricing]),
                "components_usd": dict(row.costs[pricing].components_usd),
                "solved_usd": row.costs[pricing].solved_usd,
                "solved_usd_interval": interval_ends(row.solved_usd_interval[pricing]),
            }
            for pricing in PRICINGS
        },
        "against_teacher": None
        if against is None
        else {
            "pairs": against.pairs,
            "bank_episodes": against.bank_episodes,
            "only_arm": against.only_arm,
            "only_teacher": against.only_teacher,
            "p": against.p,
            "verdict": against.verdict,
            "cost_ratio": dict(against.cost_ratio),
            "break_even_episodes": {
                pricing: {"as_extra_cost": both.as_extra_cost, "as_real_work": both.as_real_work}
                for pricing, both in against.break_even.items()
            },
        },
    }


def interval_ends(interval: Interval | None) -> list[float | None] | None:
    """Both ends for JSON, which has no infinity."""
    if interval is None:
        return None
    return [end if isfinite(end) else None for end in (interval.low, interval.high)]
