"""Recorded episodes to steps with features, vectors and the teacher's label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly
from tutelage.runtime.errors import BenchmarkError, MissingExtra
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import Message, Reason, StepAudit, Trace, Turn

if TYPE_CHECKING:
    from tutelage.benchmarks.results import EpisodeResult
    from tutelage.cascade.step_scores import ScoreKind, StepCosts, StepScores

MOST_TRACES = 1_000_000


@dataclass(frozen=True, slots=True)
class LabelledStep:
    """A step of the student, and whether the teacher would have done the same."""

    trace: Trace
    features: Mapping[str, float]
    right: bool
    previous: str | None
    """The action before it; ``None`` for the first step."""
    student_usd: float
    """What its samples cost."""
    teacher_usd: float
    """What the teacher's label cost, or its answer."""

    @property
    def episode_id(self) -> str:
        """The episode of the step."""
        return self.trace.episode_id

    @property
    def is_routed(self) -> bool:
        """Whether the demonstrations alone let the student act here, whatever its score."""
        reason = _decided(self.trace)
        is_easy = reason is Reason.AGREED and len(self.trace.samples) == 1
        return is_easy or reason is Reason.RECALLED


@dataclass(frozen=True, slots=True)
class Fitted:
    """Scores, and the labelled steps that they were fitted on."""

    scores: StepScores
    rows: Sequence[Mapping[str, float]]
    """Features of the steps, ``prompt`` as a score gives it that has not seen the episode."""
    right: Sequence[bool]
    costs: StepCosts
    episodes: Sequence[str] = ()
    """Of the steps."""
    firsts: Sequence[bool | None] = ()
    """Whether the first sample named the action that most did; ``None``: it named none."""

    @property
    def right_share(self) -> float:
        """Share of the steps in which the student was right."""
        return sum(self.right) / len(self.right)

    def late(self) -> list[float]:
        """The late score of each step."""
        return [self.scores.score.score(row) for row in self.rows]

    def prior(self) -> list[float]:
        """The prior of each step."""
        return [self.scores.prior.score(row) for row in self.rows]

    def disagreement(self, threshold: float, floor: float) -> float | None:
        """Share of the steps that would be served in which the teacher did otherwise.

        ``None`` where none would be.
        """
        served = [
            right
            for late, prior, right in zip(self.late(), self.prior(), self.right, strict=True)
            if late >= threshold and prior >= floor
        ]
        return 1 - sum(served) / len(served) if served else None

    def floor(self, threshold: float, wrong_usd: float | None = None) -> float:
        """The cheapest floor of the gate for a threshold.

        Args:
            threshold: Least score that is served.
            wrong_usd: What a wrong action costs; absent: the step of the teacher that mends it.
        """
        from tutelage.cascade.step_scores import best_floor

        costs = self.costs if wrong_usd is None else replace(self.costs, wrong_usd=wrong_usd)
        return best_floor(self.prior(), self.late(), self.right, threshold, costs)

    def same(self, threshold: float) -> list[bool]:
        """Whether the first sample alone, of each step, decides as all samples did.

        Args:
            threshold: Least score that is served.
        """
        found = []
        for row, late, first in zip(self.rows, self.late(), self.firsts, strict=True):
            served = late >= threshold
            if first:
                alone = {**row, "agreement": 1.0} if "agreement" in row else row
                found.append((self.scores.score.score(alone) >= threshold) == served)
            else:
                # What a first sample that names another action scores is not known.
                found.append(first is None and not served)
        return found

    def sure(self, threshold: float, alpha: float, delta: float) -> float | None:
        """The lowest prior from which on one sample is enough; ``None``: nowhere.

        Args:
            threshold: Least score that is served.
            alpha: Share of an episode's steps that may be decided otherwise.
            delta: Allowed probability that it is more all the same.
        """
        from tutelage.cascade.adaptive import least_sure

        return least_sure(
            self.episodes, self.prior(), self.same(threshold), alpha=alpha, delta=delta
        )


def labelled_steps(
    traces: Iterable[Trace],
    audits: Mapping[str, StepAudit],
    key: Callable[[str], str | None],
) -> tuple[list[LabelledStep], list[str]]:
    """The sampled steps of episodes in which every one of them has a label.

    A step's label is whether the student's most frequent action is what the teacher did in its
    place, or said in an audit. A step that a score kept from being sampled, or whose answer broke
    off, has none. An episode from which nothing may be learnt is passed over.

    Args:
        traces: In any order.
        audits: By trace id.
        key: The canonical key of an answer's text.

    Returns:
        The steps, and the episodes that lack a label.
    """
    episodes: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        episodes[trace.episode_id].append(trace)
    found: list[LabelledStep] = []
    lacking: list[str] = []
    for id, served in episodes.items():
        served.sort(key=lambda trace: trace.step_index)
        steps: list[LabelledStep | None] = []
        if any(trace.no_train for trace in served):
            continue
        for trace in served:
            if _decided(trace) is Reason.UNLIKELY:
                steps.append(None)
            elif trace.samples and trace.features:
                steps.append(_labelled(trace, audits.get(trace.id), key))
        whole = [step for step in steps if step is not None]
        if len(whole) == len(steps):
            found += whole
        else:
            lacking.append(id)
    return found, lacking


async def fit_labelled(
    assembly: Assembly, steps: Sequence[LabelledStep], kind: ScoreKind
) -> Fitted:
    """Fits the scores on labelled steps.

    Raises:
        MissingExtra: scikit-learn is not installed.
        BenchmarkError: There is no step to fit on.
    """
    from tutelage.cascade.step_scores import StepCosts, fit_step_scores

    if not steps:
        raise BenchmarkError(
            "no step of the student is labelled: were its samples usable, and the episodes played "
            "with this store?"
        )
    queries = await _queries(assembly, steps) if assembly.config.retrieval.enabled else None
    right = [step.right for step in steps]
    scores, rows = fit_step_scores(
        [step.features for step in steps],
        right,
        [step.episode_id for step in steps],
        queries,
        kind,
    )
    teacher_usd = sum(step.teacher_usd for step in steps) / len(steps)
    student_usd = sum(step.student_usd for step in steps) / len(steps)
    return Fitted(
        scores,
        rows,
        right,
        StepCosts(teacher_usd, student_usd, teacher_usd),
        [step.episode_id for step in steps],
        [first_is_modal(step.trace) for step in steps],
    )


async def prompt_features(
    assembly: Assembly, steps: Sequence[LabelledStep], scores: StepScores
) -> list[dict[str, float]]:
    """Features of steps with the feature ``prompt`` of fitted scores, as at run time."""
    rows = [dict(step.features) for step in steps]
    if scores.prompt is not None and steps:
        for row, query in zip(rows, await _queries(assembly, steps), strict=True):
            # A step's vector comes with its demonstrations.
            if "similarity" in row:
                row["prompt"] = scores.prompt.probability(query)
    return rows


async def played_steps(assembly: Assembly, results: Iterable[EpisodeResult]) -> list[LabelledStep]:
    """The labelled steps of episodes that were played with this store.

    Raises:
        StoreError: The store cannot be read.
    """
    tenant = assembly.config.tenant
    traces = [
        trace
        for result in results
        for trace in await assembly.traces.traces(tenant, episode_id=result.episode_id, limit=1000)
    ]
    audits = {one.trace_id: one for one in await assembly.audits.audits(tenant)}
    return labelled_steps(traces, audits, action_key(assembly))[0]


async def recorded_steps(
    assembly: Assembly, tenant: str, since_s: float
) -> tuple[list[LabelledStep], list[str]]:
    """The labelled steps of traffic whose episodes began at a Unix time or later.

    Episodes that a replay has played into the same store are no traffic, and passed over.

    Returns:
        The steps, and the episodes that lack a label.

    Raises:
        StoreError: The store cannot be read.
    """
    from tutelage.benchmarks.replay import is_replayed

    traces = begun_since(await assembly.traces.traces(tenant, limit=MOST_TRACES), since_s)
    episodes = await assembly.traces.episodes(tenant, limit=MOST_TRACES)
    replayed = {one.id for one in episodes if is_replayed(one.id, one.task_id)}
    traces = [trace for trace in traces if trace.episode_id not in replayed]
    audits = {one.trace_id: one for one in await assembly.audits.audits(tenant, since_s=since_s)}
    return labelled_steps(traces, audits, action_key(assembly))


def begun_since(traces: Iterable[Trace], since_s: float) -> list[Trace]:
    """Traces of the episodes that have none before a Unix time, so that each of them is whole."""
    listed = list(traces)
    before = {trace.episode_id for trace in listed if trace.created_at_s < since_s}
    return [trace for trace in listed if trace.episode_id not in before]


def check_extra() -> None:
    """Finds out before anything is played whether scores can be fitted.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        raise MissingExtra("scikit-learn", "calibrate")


def action_key(assembly: Assembly) -> Callable[[str], str | None]:
    """The canonical key of an action's text; ``None`` if it names none."""
    canonicalizer = assembly.policies.canonicalizer

    def key(text: str) -> str | None:
        action = canonicalizer.past(text)
        return None if action is None else action.key

    return key


def _labelled(
    trace: Trace,
    audit: StepAudit | None,
    key: Callable[[str], str | None],
) -> LabelledStep | None:
    modal = _modal(trace)
    if not trace.finished:
        return None
    if trace.decision.served == "teacher":
        right: bool | None = modal is not None and modal == (trace.action or key(trace.answer))
        teacher_usd = trace.cost_usd.get("teacher", 0.0)
    elif audit is not None and audit.agrees is not None:
        right, teacher_usd = audit.agrees, audit.cost_usd
    else:
        return None
    return LabelledStep(
        trace=trace,
        features=trace.features,
        right=bool(right),
        previous=_previous(trace),
        student_usd=trace.cost_usd.get("student", 0.0),
        teacher_usd=teacher_usd,
    )


def _modal(trace: Trace) -> str | None:
    """The action that most samples name, of equals the first."""
    actions = [sample.action for sample in trace.samples if sample.action is not None]
    return max(actions, key=actions.count) if actions else None


def first_is_modal(trace: Trace) -> bool | None:
    """Whether the first sample names the action that most do; ``None``: it names none."""
    first = trace.samples[0].action
    return None if first is None else first == _modal(trace)


def _previous(trace: Trace) -> str | None:
    """The action before a step as its transcript has it, which the retriever read, too."""
    if not trace.step_index:
        return None
    said = [one for one in trace.prompt if one.get("role") == "assistant"]
    return action_text(Message.model_validate(said[-1])) if said else None


def _decided(trace: Trace) -> Reason:
    """Why the cascade decided as it did, or would have where it worked aside."""
    return (trace.shadow or trace.decision).reason


async def _queries(assembly: Assembly, steps: Sequence[LabelledStep]) -> Any:
    """The vectors that the retriever makes of the steps: (steps, 2 dimensions)."""
    import numpy as np

    state = assembly.bank.state_key
    goals = [step.trace.goal for step in steps]
    states = [
        state.text(
            step.trace.goal,
            None if step.previous is None else Turn("", step.previous),
            step.trace.observation,
        )
        for step in steps
    ]
    embed = assembly.embedder.embed
    return np.concatenate([await embed(goals), await embed(states)], axis=1)
