"""Recorded episodes to the examples of one training run, with the account of how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from tutelage.runtime.errors import NoExamples
from tutelage.runtime.prompt import CountTokens
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.examples import ActionKey, ExampleSettings, examples_of
from tutelage.training.data.gate import EvaluationTask, ExampleGate, ExampleRules, fingerprint
from tutelage.training.data.mastery import Mastery
from tutelage.training.data.mixture import by_deferral, deferral_rates, uniform, weighted
from tutelage.training.data.recorded import RecordedEpisode
from tutelage.training.data.reject import GateReport, Reject, report_of
from tutelage.training.data.selection import drop_mastered, farthest
from tutelage.training.data.similarity import Similarity
from tutelage.training.data.trace_gate import TraceGate, TraceRules, is_revoked

Mixing = Literal["as_found", "uniform", "deferral"]
"""Weights by family: those of the examples, equal, or by how often the student defers."""


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """All that decides what a dataset holds, beside the traces."""

    traces: TraceRules
    examples: ExampleSettings = field(default_factory=ExampleSettings)
    rules: ExampleRules = field(default_factory=ExampleRules)
    least_difficulty: float = 0.0
    """Least ``1 - pass rate`` of the student; 0 drops nothing."""
    most_examples: int | None = None
    """The farthest of them are kept; ``None``: all."""
    mixing: Mixing = "as_found"


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a student is trained on."""

    examples: tuple[TrainingExample, ...]
    """Sorted by tenant and id."""
    report: GateReport
    """Of the traces and of the examples made of those that passed; ids of either."""
    digest: str
    """SHA-256, in hexadecimal digits, of the sorted trace ids, the examples and the settings."""
    mastered: int = 0
    """Examples that the student can do already."""
    unselected: int = 0
    """Examples that lie too near to others."""

    @property
    def trace_ids(self) -> tuple[str, ...]:
        """The traces that the examples were made of, sorted."""
        return tuple(sorted({id for one in self.examples for id in one.trace_ids}))


def build_dataset(
    episodes: Iterable[RecordedEpisode],
    settings: DatasetSettings,
    count_tokens: CountTokens,
    *,
    key: ActionKey | None = None,
    evaluation: Sequence[EvaluationTask] = (),
    similarity: Similarity | None = None,
    text: Callable[[TrainingExample], str] | None = None,
) -> Dataset:
    """Gate, examples, selection, mixture; the order of the episodes does not matter.

    Args:
        episodes: What the stores hold.
        settings: What decides.
        count_tokens: Tokens of a text, as the student counts them.
        key: Names the action of an answer.
        evaluation: The tasks that measure, beside those of ``settings.traces``.
        similarity: How alike texts are; absent: only ids and equal texts count.
        text: What of an example is compared with the evaluation's texts.

    Raises:
        NoExamples: Nothing is left.
    """
    ordered = sorted(episodes, key=lambda one: (one.episode.tenant, one.episode.id))
    verdicts = TraceGate(settings.traces, key).judge(ordered)
    made = [
        example
        for recorded in ordered
        for example in examples_of(
            recorded, verdicts.teachable, settings.examples, count_tokens, key
        )
    ]
    gate = ExampleGate(
        settings.rules,
        count_tokens,
        evaluation=[*evaluation, *map(EvaluationTask, sorted(settings.traces.evaluation_tasks))],
        similarity=similarity,
        text=text,
    )
    gated = gate.judge(made)
    report = _report(verdicts.seen, verdicts.rejects, len(made), gated.rejects)
    allowed = [one for one in ordered if _is_allowed(one, settings.traces)]
    hard = drop_mastered(gated.examples, Mastery(allowed), settings.least_difficulty)
    kept = hard if settings.most_examples is None else farthest(hard, settings.most_examples)
    if not kept:
        raise NoExamples(_nothing(report, len(gated.examples)))
    mixed = _mixed(kept, allowed, settings.mixing)
    examples = tuple(sorted(mixed, key=lambda one: (one.tenant, one.id)))
    return Dataset(
        examples,
        report,
        digest_of(examples, settings),
        mastered=len(gated.examples) - len(hard),
        unselected=len(hard) - len(kept),
    )


def digest_of(examples: Sequence[TrainingExample], settings: DatasetSettings) -> str:
    """SHA-256 in hexadecimal digits; equal for equal traces, examples and settings."""
    traces = sorted({(one.tenant, id) for one in examples for id in one.trace_ids})
    rows = sorted([one.tenant, one.id, fingerprint(one), one.weight] for one in examples)
    told = json.dumps([traces, rows, asdict(settings)], sort_keys=True, default=sorted)
    return hashlib.sha256(told.encode()).hexdigest()


def _is_allowed(recorded: RecordedEpisode, rules: TraceRules) -> bool:
    """Whether anything may be learnt from an episode, be it a rate."""
    if recorded.episode.tenant not in rules.tenants or is_revoked(recorded, rules.revoked_writers):
        return False
    return not any(trace.no_train for trace in recorded.traces)


def _report(
    traces: int, trace_rejects: Sequence[Reject], examples: int, example_rejects: Sequence[Reject]
) -> GateReport:
    """One account of both gates."""
    return report_of(traces + examples, [*trace_rejects, *example_rejects])


def _nothing(report: GateReport, passed: int) -> str:
    if passed:
        return (
            f"selection leaves none of {passed} examples: lower least_difficulty or raise "
            "most_examples"
        )
    if not report.counts:
        return "there are no traces: serve episodes and give feedback on how they ended"
    reason, count = max(report.counts.items(), key=lambda item: (item[1], item[0]))
    return (
        f"no trace passed the gate; most often ({count} of {report.seen}) because of "
        f"{reason.value}: see the gate report"
    )


def _mixed(
    examples: Sequence[TrainingExample], episodes: Sequence[RecordedEpisode], mixing: Mixing
) -> Sequence[TrainingExample]:
    families = {example.family for example in examples}
    if mixing == "as_found":
        return examples
    if mixing == "uniform":
        return weighted(examples, uniform(families))
    named = {
        (trace.tenant, trace.id): recorded.family
        for recorded in episodes
        for trace in recorded.traces
    }
    traces = [trace for recorded in episodes for trace in recorded.traces]
    rates: Mapping[str, float] = deferral_rates(traces, lambda one: named[one.tenant, one.id])
    return weighted(examples, by_deferral({name: rates.get(name, 1.0) for name in families}))
