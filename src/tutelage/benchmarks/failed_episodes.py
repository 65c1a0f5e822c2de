"""Episodes that were not solved, step by step: prompt, samples, votes and decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tutelage.benchmarks.results import EpisodeResult
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import Message, Trace

_LONGEST = 600
"""Characters of a text in an example; of a message of the whole prompt, four times as many."""
_LAST_STEPS = 3


@dataclass(frozen=True, slots=True)
class FailedEpisode:
    """An episode that was not solved, with its last steps."""

    result: EpisodeResult
    steps: tuple[Trace, ...]
    """Oldest first."""


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


def example_list(examples: Sequence[FailedEpisode]) -> str:
    """Failed episodes as HTML that unfolds."""
    return "".join(_example(one) for one in examples)


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
                "goal": trace.goal,
                "prompt": list(trace.prompt),
                "demonstrations": list(trace.demonstrations),
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
    goal = f"<p>Task: {escape(_short(example.steps[-1].goal))}</p>"
    steps = "".join(map(_step, example.steps))
    return f"<details><summary>{escape(title)}</summary>{goal}{steps}</details>"


def _step(trace: Trace) -> str:
    decision = trace.decision
    score = "" if decision.score is None else f", score {decision.score:.2f}"
    detail = "" if decision.detail is None else f", {decision.detail}"
    samples = Counter(_short(one.text) for one in trace.samples)
    cells = {
        "seen": _short(_seen(trace)),
        "samples": "\n".join(f"{count} × {text}" for text, count in samples.items()) or "none",
        "votes": "\n".join(f"{count} × {key}" for key, count in votes(trace).items()) or "none",
        "decision": f"{decision.served} ({decision.reason.value}{score}{detail})",
        "answer": _short(trace.answer),
    }
    told = "".join(
        f"<dt>{name}</dt><dd><pre>{escape(text)}</pre></dd>" for name, text in cells.items()
    )
    return f"<h3>step {trace.step_index + 1}</h3><dl>{told}</dl>{_prompt(trace)}"


def _prompt(trace: Trace) -> str:
    """All messages of the prompt, folded."""
    if not trace.prompt:
        return ""
    shown = len(trace.demonstrations)
    title = f"prompt: {len(trace.prompt)} messages, {shown} demonstrations"
    messages = "".join(
        f'<div class="message"><small>{escape(str(one.get("role", "")))}</small>'
        f"<pre>{escape(_short(_text(one), 4 * _LONGEST))}</pre></div>"
        for one in trace.prompt
    )
    return f"<details><summary>{title}</summary>{messages}</details>"


def _seen(trace: Trace) -> str:
    """The last message of the prompt; what is before it are demonstrations and earlier steps."""
    content = trace.prompt[-1].get("content") if trace.prompt else None
    return content if isinstance(content, str) else trace.observation


def _text(message: Mapping[str, Any]) -> str:
    return action_text(Message.model_validate(message))


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"
