"""Another policy, or other prices, over traffic that was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tutelage.assembly import Assembly, price
from tutelage.labelling import MOST_TRACES, begun_since
from tutelage.policies import Choice as PolicyChoice
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.protocols import AgreementRule, DeferralPolicy
from tutelage.runtime.steps import tool_calls
from tutelage.runtime.types import (
    Agreement,
    Choice,
    Decision,
    EpisodeRecord,
    Message,
    Reason,
    SamplePlan,
    Served,
    Step,
    StepAudit,
    Trace,
    Turn,
    Usage,
)

if TYPE_CHECKING:
    from tutelage.benchmarks.off_policy import PolicyValue
    from tutelage.benchmarks.recorded_replay import RecordedReplay
    from tutelage.runtime.pricing import Price

OUTSIDE = frozenset(
    {
        Reason.FORCED,
        Reason.UNSUPPORTED,
        Reason.PASSTHROUGH,
        Reason.TEACHER_ONLY_TOOL,
        Reason.UNKNOWN_TOOL,
        Reason.WRONG_FORM,
        Reason.STUDENT_LATE,
        Reason.STUDENT_FAILED,
        Reason.RETRIEVAL_FAILED,
        Reason.POLICY_FAILED,
    }
)
"""Why a step was decided whatever the policy said; it would be again."""

Prices = Callable[[Served, Usage], tuple[float, float]]
"""Component and tokens to USD, cached and uncached."""
Rerun = Literal["policy", "prices", "both"]
Costs = tuple[float, float]
"""USD with cached tokens at their own price, and with every prompt token in full."""


@dataclass(frozen=True, slots=True)
class StepAgain:
    """What the other policy does in a recorded step."""

    served: Served | None
    """``None``: the record does not determine it."""
    why: str
    """The reason of the decision, or what the record lacks."""
    asks_student: bool = True
    """Whether the student's samples are paid for."""
    is_fixed: bool = False
    """Whether no policy had a say."""


async def replay_recorded(
    assembly: Assembly,
    tenant: str,
    *,
    since_s: float = 0.0,
    rerun: Rerun = "policy",
    p_teacher: float | None = None,
    confidence: float = 0.95,
) -> RecordedReplay:
    """Re-runs the configured policy, or counts with the configured prices, over recorded traffic.

    A step is decided again from its recorded samples and features. Where every decision is the
    recorded one an episode is what it was; its cost is counted from its tokens. Else episodes that
    agree are weighed by the chances with which they were recorded: the draw of the holdout, and the
    coin of ``explore`` or ``random``. Held-out episodes stand for a policy that never asks the
    student. Assumes that samples are drawn as they were when recorded.

    Args:
        assembly: The store and the policy.
        tenant: Whose traffic.
        since_s: Unix time from which episodes count; one that began before is left out.
        rerun: ``policy`` decides anew at the recorded prices, ``prices`` counts the tokens of the
            recorded decisions with the configured prices, ``both`` does both.
        p_teacher: Chance of the teacher in steps with the reason ``random`` whose decision does not
            hold it, as those of older releases do not; absent: such a step supports only what it
            did.
        confidence: Of the intervals.

    Raises:
        ConfigError: The policy needs what no record holds, or ``p_teacher`` is no chance.
        PriceUnknown: A price is needed and not known.
        BenchmarkError: Nothing was recorded, or the record does not support the policy.
        StoreError: The store cannot be read.
    """
    if p_teacher is not None and not 0 < p_teacher < 1:
        raise ConfigError(
            f"p_teacher = {p_teacher}: give the chance between 0 and 1 with which random steps "
            "went to the teacher"
        )
    episodes = await recorded_episodes(assembly, tenant, since_s)
    records = {one.id: one for one in await assembly.traces.episodes(tenant, limit=MOST_TRACES)}
    audits = await assembly.audits.audits(tenant, since_s=since_s)
    again: Again | None = None
    if rerun != "prices":
        # The draw of the holdout is no part of what is asked about.
        policy = assembly.policies.policy(PolicyChoice(bare=True, routed=True))
        again = Again(assembly.policies.agreement(), policy)
    prices = configured_prices(assembly) if rerun != "policy" else None
    return replayed(
        episodes,
        records,
        audits,
        again,
        policy="as recorded" if again is None else assembly.config.cascade.policy,
        prices=prices,
        p_teacher=p_teacher,
        confidence=confidence,
    )


async def recorded_episodes(
    assembly: Assembly, tenant: str, since_s: float
) -> dict[str, list[Trace]]:
    """Whole episodes of a tenant by id, their steps in order.

    Raises:
        BenchmarkError: There is none.
        StoreError: The store cannot be read.
    """
    traces = begun_since(await assembly.traces.traces(tenant, limit=MOST_TRACES), since_s)
    episodes: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        episodes[trace.episode_id].append(trace)
    if not episodes:
        raise BenchmarkError(
            f"store.url holds no recorded episode of tenant {tenant!r}: serve some first"
        )
    for served in episodes.values():
        served.sort(key=lambda trace: (trace.step_index, trace.created_at_s))
    return dict(episodes)


def recorded_steps(episode: Sequence[Trace], task_id: str | None = None) -> list[Step]:
    """The steps of a recorded episode, each with the turns that came before it."""
    # A client that sends no transcript has every step as its first one.
    turns: dict[int, Turn] = {}
    found = []
    for trace in episode:
        before = sorted(index for index in turns if index < trace.step_index)
        found.append(
            Step(
                tenant=trace.tenant,
                episode_id=trace.episode_id,
                index=trace.step_index,
                goal=trace.goal,
                observation=trace.observation,
                history=tuple(turns[index] for index in before),
                tools=trace.tools or _tools(recorded_choices(trace)),
                task_id=task_id,
            )
        )
        turns[trace.step_index] = Turn(trace.observation, trace.answer, trace.decision.served)
    return found


def recorded_choices(trace: Trace) -> list[Choice]:
    """The student's samples of a recorded step."""
    return [choice_of(position, one.text) for position, one in enumerate(trace.samples)]


def configured_prices(assembly: Assembly) -> Prices:
    """The prices of both roles as configured.

    Raises:
        PriceUnknown: A model is in no table and no price is given.
    """
    config = assembly.config
    found: dict[Served, Price] = {
        "student": price(config.student, "student"),
        "teacher": price(config.teacher, "teacher"),
    }

    def cost(served: Served, usage: Usage) -> Costs:
        chosen = found[served]
        return chosen.cost_usd(usage), chosen.uncached_cost_usd(usage)

    return cost


class Again:
    """Decides recorded steps anew.

    Args:
        rule: Compares the recorded samples.
        policy: What is asked.
    """

    def __init__(self, rule: AgreementRule, policy: DeferralPolicy) -> None:
        self._rule = rule
        self._policy = policy

    def steps(self, episode: Sequence[Trace]) -> list[StepAgain]:
        """What the policy does in each step of an episode, given what was recorded before it."""
        return [
            self._step(trace, step)
            for trace, step in zip(episode, recorded_steps(episode), strict=True)
        ]

    def _step(self, trace: Trace, step: Step) -> StepAgain:
        if trace.decision.reason in OUTSIDE:
            decision = trace.decision
            return StepAgain(decision.served, decision.reason.value, is_fixed=True)
        choices = recorded_choices(trace)
        plan = self._policy.plan(step)
        if isinstance(plan, Decision):
            if plan.served == "student":
                return StepAgain(None, "what the student would have said alone")
            return StepAgain("teacher", plan.reason.value, asks_student=False)
        if plan.waits or plan.recalled is not None:
            raise ConfigError(
                "the policy decides by the scores of demonstrations, which no trace keeps: replay "
                "one without routing and without a floor before sampling"
            )
        if not choices:
            return StepAgain(None, "samples of the student")
        return self._decided(trace, step, plan, choices)

    def _decided(
        self, trace: Trace, step: Step, plan: SamplePlan, choices: Sequence[Choice]
    ) -> StepAgain:
        if plan.samples < len(choices):
            return StepAgain(None, f"the cost of {plan.samples} of {len(choices)} samples")
        agreement = self._rule.measure(choices, plan.samples)
        if not agreement.settled:
            return StepAgain(None, f"{plan.samples} samples instead of {len(choices)}")
        decision = self._policy.decide(step, _known(agreement, trace, choices), ())
        if decision.served == "student" == trace.decision.served:
            said = trace.samples[agreement.chosen or 0]
            if (said.action or said.text) != (trace.action or said.action or trace.answer):
                return StepAgain(None, "what follows another answer of the student")
        return StepAgain(decision.served, decision.reason.value)


def replayed(
    episodes: Mapping[str, Sequence[Trace]],
    records: Mapping[str, EpisodeRecord],
    audits: Sequence[StepAudit],
    again: Again | None,
    *,
    policy: str,
    prices: Prices | None = None,
    p_teacher: float | None = None,
    confidence: float = 0.95,
) -> RecordedReplay:
    """The figures of ``replay_recorded`` from what the store holds.

    Args:
        episodes: Whole episodes by id, their steps in order; at least one.
        records: Outcomes by episode id.
        audits: Of any episode; their cost stays as it was recorded.
        again: Decides anew; absent: decisions stay.
        policy: What it is called.
        prices: Absent: costs are those recorded.
        p_teacher: As in ``replay_recorded``.
        confidence: Of the intervals.

    Raises:
        BenchmarkError: The record does not support the policy.
        ConfigError: The policy needs what no record holds.
    """
    from tutelage.benchmarks.off_policy import WeightedEpisode, policy_value
    from tutelage.benchmarks.recorded_replay import RecordedReplay

    decided = {
        id: again.steps(served) if again is not None else _unchanged(served)
        for id, served in episodes.items()
    }
    held = {id for id, served in episodes.items() if is_held_out(served)}
    asked = [one.asks_student for steps in decided.values() for one in steps if not one.is_fixed]
    alone = bool(asked) and not any(asked)
    kept = list(episodes)
    if again is not None:
        kept = [id for id in episodes if id not in held] or kept
    is_exact = (not alone or not held) and all(
        _same(*pair) for id in kept for pair in zip(episodes[id], decided[id], strict=True)
    )
    pool, weights = kept, dict.fromkeys(kept, 1.0)
    if not is_exact:
        pool = list(episodes) if alone and held else kept
        weights = {
            id: _weight(id, episodes[id], decided[id], alone and bool(held), alone, p_teacher)
            for id in pool
        }
    extra: dict[str, Costs] = defaultdict(lambda: (0.0, 0.0))
    for audit in audits:
        before = extra[audit.episode_id]
        extra[audit.episode_id] = (
            before[0] + audit.cost_usd,
            before[1] + audit.uncached_cost_usd,
        )
    costs = {
        id: _costs(episodes[id], decided[id], prices, (0.0, 0.0) if alone else extra[id])
        for id in pool
    }
    least = 2.0 if is_exact else None

    def value(of: Mapping[str, float], is_share: bool = False) -> PolicyValue:
        listed = [WeightedEpisode(id, weights[id], of[id]) for id in pool if id in of]
        more = {} if least is None else {"least_effective": least}
        return policy_value(listed, is_share=is_share, confidence=confidence, **more)

    won = {id: float(bool(records[id].success)) for id in pool if _has_outcome(records, id)}
    success: PolicyValue | None = None
    missing: str | None = "no episode has feedback"
    if won:
        try:
            success, missing = value(won, is_share=True), None
        except BenchmarkError as error:
            missing = str(error)
    recorded = [_costs(episodes[id], _unchanged(episodes[id]), None, extra[id]) for id in kept]
    judged = [records[id].success for id in kept if _has_outcome(records, id)]
    pairs = [pair for id in pool for pair in zip(episodes[id], decided[id], strict=True)]
    return RecordedReplay(
        policy=policy,
        repriced=prices is not None,
        episodes=len(pool),
        steps=len(pairs),
        same_steps=sum(_same(*pair) for pair in pairs),
        method="exact" if is_exact else "off-policy",
        recorded_usd=sum(one for one, _ in recorded) / len(recorded),
        recorded_uncached_usd=sum(one for _, one in recorded) / len(recorded),
        recorded_success=sum(map(bool, judged)) / len(judged) if judged else None,
        cached=value({id: one for id, (one, _) in costs.items()}),
        uncached=value({id: one for id, (_, one) in costs.items()}),
        success=success,
        success_missing=missing,
        rows=tuple(id for id in pool if weights[id] > 0),
    )


def choice_of(index: int, text: str) -> Choice:
    """The text of an action as a sample."""
    calls = tool_calls(text)
    message = Message(role="assistant", content=None if calls else text, tool_calls=calls)
    return Choice(index=index, message=message)


def _tools(choices: Sequence[Choice]) -> tuple[Mapping[str, Any], ...]:
    """Declarations without schemas of the tools that samples call; older traces keep no others."""
    names = {
        str(call["function"]["name"]): None
        for choice in choices
        for call in choice.message.tool_calls or ()
    }
    return tuple({"type": "function", "function": {"name": name}} for name in names)


def _known(agreement: Agreement, trace: Trace, choices: Sequence[Choice]) -> Agreement:
    answer = choices[agreement.chosen or 0].message
    return replace(agreement, answer=answer, features=dict(trace.features))


def _unchanged(episode: Sequence[Trace]) -> list[StepAgain]:
    return [StepAgain(one.decision.served, one.decision.reason.value) for one in episode]


def _same(trace: Trace, again: StepAgain) -> bool:
    return again.served == trace.decision.served


def is_held_out(episode: Sequence[Trace]) -> bool:
    """Whether an episode went to the teacher alone by the draw of the holdout."""
    return any(trace.decision.reason is Reason.HOLDOUT for trace in episode)


def _has_outcome(records: Mapping[str, EpisodeRecord], id: str) -> bool:
    return id in records and records[id].success is not None


def drawn_into_arm(episode: Sequence[Trace]) -> float:
    """The chance with which an episode came into its arm; 1 where nothing was drawn."""
    drawn = [trace.decision.propensity for trace in episode]
    return next((chance for chance in drawn if chance is not None), 1.0)


def _weight(
    id: str,
    episode: Sequence[Trace],
    decided: Sequence[StepAgain],
    by_holdout: bool,
    alone: bool,
    p_teacher: float | None,
) -> float:
    from tutelage.benchmarks.off_policy import step_weight

    if by_holdout:
        return step_weight([], drawn_into_arm(episode)) if is_held_out(episode) else 0.0
    chances = []
    for trace, again in zip(episode, decided, strict=True):
        tossed = _toss_chance(trace, p_teacher)
        if again.served is None or (tossed is None and not _same(trace, again)):
            raise BenchmarkError(_unsupported(id, trace, again, alone))
        chances.append((_same(trace, again), 1.0 if tossed is None else tossed))
    return step_weight(chances, drawn_into_arm(episode))


def _toss_chance(trace: Trace, p_teacher: float | None) -> float | None:
    """With which chance a toss decided a step; ``None``: none did, or it is not known."""
    if trace.decision.reason is not Reason.RANDOM:
        return None
    if trace.decision.chance is not None or p_teacher is None:
        return trace.decision.chance
    return p_teacher if trace.decision.served == "teacher" else 1 - p_teacher


def _unsupported(id: str, trace: Trace, again: StepAgain, alone: bool) -> str:
    where = f"episode {id}, step {trace.step_index}"
    if again.served is None:
        return f"the record does not determine {where}: it lacks {again.why}"
    if alone:
        needed = "episodes of the teacher alone: set evidence.holdout (for example 0.05)"
    elif trace.decision.reason is Reason.RANDOM:
        needed = "the chance of its coin, which older traces lack: give --p-teacher"
    else:
        needed = "steps left to chance: serve some episodes with cascade.policy = 'explore'"
    return (
        f"nothing recorded supports this policy: in {where} {trace.decision.served} served "
        f"({trace.decision.reason.value}), it would have been the {again.served} ({again.why}); "
        f"needed are {needed}"
    )


def _costs(
    episode: Sequence[Trace],
    decided: Sequence[StepAgain],
    prices: Prices | None,
    extra: Costs,
) -> Costs:
    """What an episode costs with the samples that are paid for, and what else it cost."""
    cached, uncached = extra
    roles: tuple[Served, ...] = ("student", "teacher")
    for trace, again in zip(episode, decided, strict=True):
        for role in roles:
            if role == "student" and not again.asks_student:
                continue
            if prices is None:
                cached += trace.cost_usd.get(role, 0.0)
                uncached += trace.uncached_cost_usd.get(role, 0.0)
            elif role in trace.usage:
                one, other = prices(role, trace.usage[role])
                cached, uncached = cached + one, uncached + other
    return cached, uncached
