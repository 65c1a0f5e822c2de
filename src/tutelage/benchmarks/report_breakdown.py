"""What a report tells beside its arms: kinds of tasks, and episodes that failed step by step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tutelage.benchmarks.results import EpisodeResult, teacher_share
from tutelage.benchmarks.statistics import Interval, wilson_interval
from tutelage.runtime.types import Trace

_LONGEST = 600
"""Characters of a text in an example."""
_LAST_STEPS = 3


@dataclass(frozen=True, slots=True)
class CategoryShare:
    """One arm on one kind of task."""

    arm: str
    category: str
    episodes: int
    solved: int
    success: Interval
    """95 % by Wilson."""
    teacher_share: float
    """Of all steps, in [0, 1]."""
    demonstrations: float
    """Shown to the student, mean of an episode."""


@dataclass(frozen=True, slots=True)
class FailedEpisode:
    """An episode that was not solved, with its last steps."""

    result: EpisodeResult
    steps: tuple[Trace, ...]
    """Oldest first."""


def by_category(results: Sequence[EpisodeResult]) -> tuple[CategoryShare, ...]:
    """Success and teacher share of every arm by kind of task, arms in the order of their names."""
    groups: dict[tuple[str, str], list[EpisodeResult]] = defaultdict(list)
    for result in results:
        groups[result.arm, result.category].append(result)
    rows = []
    for (arm, category), listed in sorted(groups.items()):
        solved = sum(one.success for one in listed)
        rows.append(
            CategoryShare(
                arm=arm,
                category=category,
                episodes=len(listed),
                solved=solved,
                success=wilson_interval(solved, len(listed)),
                teacher_share=teacher_share(listed) or 0.0,
                demonstrations=sum(one.demonstrations for one in listed) / len(listed),
            )
        )
    return tuple(rows)


def failures(results: Sequence[EpisodeResult], an_arm: int) -> list[EpisodeResult]:
    """The first unsolved episodes of every arm, at most ``an_arm`` of each."""
    taken: Counter[str] = Counter()
    found = []
    for result in sorted(results, key=lambda one: one.key):
        if not result.success and taken[result.arm] < an_arm:
            taken[result.arm] += 1
            found.append(result)
    return found


def failed_episode(result: EpisodeResult, traces: Sequence[Trace]) -> FailedEpisode | None:
    """The last steps of an episode; ``None`` where the store does not hold it."""
    ordered = sorted(traces, key=lambda trace: (trace.step_index, trace.created_at_s))
    return FailedEpisode(result, tuple(ordered[-_LAST_STEPS:])) if ordered else None


def category_table(rows: Sequence[CategoryShare]) -> str:
    """The kinds of tasks as an HTML table."""
    heads = ("arm", "kind of task", "solved", "teacher share", "demonstrations an episode")
    body = "".join(
        f"<tr><td>{escape(row.arm)}</td><td>{escape(row.category)}</td>"
        f"<td>{row.solved}/{row.episodes}<small>[{row.success.low:.2f}, {row.success.high:.2f}]"
        f"</small></td><td>{row.teacher_share:.2f}</td><td>{row.demonstrations:.1f}</td></tr>"
        for row in rows
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def example_list(examples: Sequence[FailedEpisode]) -> str:
    """Failed episodes as HTML that unfolds."""
    return "".join(_example(one) for one in examples)


def category_json(row: CategoryShare) -> dict[str, Any]:
    """One kind of task as JSON values."""
    return {
        "arm": row.arm,
        "category": row.category,
        "episodes": row.episodes,
        "solved": row.solved,
        "success_interval": [row.success.low, row.success.high],
        "teacher_share": row.teacher_share,
        "demonstrations": row.demonstrations,
    }


def example_json(example: FailedEpisode) -> dict[str, Any]:
    """One failed episode as JSON values."""
    result = example.result
    return {
        "arm": result.arm,
        "task_id": result.task_id,
        "seed": result.seed,
        "episode_id": result.episode_id,
        "steps": [
            {
                "step_index": trace.step_index,
                "prompt": list(trace.prompt),
                "samples": [one.model_dump() for one in trace.samples],
                "votes": dict(votes(trace)),
                "decision": trace.decision.model_dump(mode="json"),
                "answer": trace.answer,
            }
            for trace in example.steps
        ],
    }


def votes(trace: Trace) -> Mapping[str, int]:
    """How many samples name each action; unusable ones count together as ``unusable``."""
    counts = Counter(one.action or "unusable" for one in trace.samples)
    return dict(counts.most_common())


def _example(example: FailedEpisode) -> str:
    result = example.result
    title = f"{result.arm}: {result.task_id}, seed {result.seed}, {result.steps} steps"
    return (
        f"<details><summary>{escape(title)}</summary>{''.join(map(_step, example.steps))}</details>"
    )


def _step(trace: Trace) -> str:
    decision = trace.decision
    score = "" if decision.score is None else f", score {decision.score:.2f}"
    cells = {
        "prompt": _short(_prompt(trace)),
        "samples": "\n".join(_short(one.text) for one in trace.samples) or "none",
        "votes": "\n".join(f"{count} x {key}" for key, count in votes(trace).items()) or "none",
        "decision": f"{decision.served} ({decision.reason.value}{score})",
        "answer": _short(trace.answer),
    }
    told = "".join(
        f"<dt>{name}</dt><dd><pre>{escape(text)}</pre></dd>" for name, text in cells.items()
    )
    return f"<h3>step {trace.step_index}</h3><dl>{told}</dl>"


def _prompt(trace: Trace) -> str:
    """The last message of the prompt; what is before it are demonstrations and earlier steps."""
    if not trace.prompt:
        return trace.observation
    content = trace.prompt[-1].get("content")
    return content if isinstance(content, str) else trace.observation


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
