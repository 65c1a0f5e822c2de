"""Another student, asked at the prompts of recorded traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tutelage.assembly import Assembly
from tutelage.labelling import MOST_TRACES
from tutelage.policies import Choice as PolicyChoice
from tutelage.policies import student_identity
from tutelage.recorded import (
    OUTSIDE,
    Costs,
    Prices,
    choice_of,
    configured_prices,
    drawn_into_arm,
    is_held_out,
    recorded_choices,
    recorded_episodes,
    recorded_steps,
)
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.protocols import AgreementRule, DeferralPolicy, Model, rule_for
from tutelage.runtime.sampling import Drawing
from tutelage.runtime.steps import tool_calls
from tutelage.runtime.types import (
    ChatRequest,
    Completion,
    Decision,
    Reason,
    SamplePlan,
    Served,
    Step,
    StepAudit,
    Trace,
)

if TYPE_CHECKING:
    from tutelage.benchmarks.student_replay import AskedStep, StudentReplay

BY_VOTES = ("paper", "always-student")
"""Policies that need nothing but the samples; scores of others belong to the recorded student."""
MOST_TOKENS = 512
"""Of an answer; no trace keeps the limit that a client set."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the other student does in a step, before it is compared with the record."""

    served: Served
    action: str | None
    """Canonical key of its answer."""
    completion: Completion | None
    """``None``: it was not asked."""


async def reask_student(
    assembly: Assembly,
    tenant: str,
    *,
    student: Model | None = None,
    since_s: float = 0.0,
    p_teacher: float | None = None,
    jobs: int = 4,
    confidence: float = 0.95,
) -> StudentReplay:
    """Asks a student at the recorded prompts, and tells how recorded episodes would have gone.

    The states are those of the record (teacher forcing). What follows a step is known where the
    action is the recorded one; episodes in which it always is are determined, the others are not.
    Held-out episodes are left out, as no student was asked there.

    Args:
        assembly: The store, the policy and the prices.
        tenant: Whose traffic.
        student: Who is asked; absent: the configured one.
        since_s: Unix time from which episodes count; one that began before is left out.
        p_teacher: Chance of the teacher in recorded steps with the reason ``random``; absent:
            chance supports nothing.
        jobs: Steps asked at once.
        confidence: Of the intervals of estimates.

    Raises:
        ConfigError: The policy needs more than samples, or ``p_teacher`` is no chance.
        PriceUnknown: A price is needed and not known.
        ModelError: The student failed.
        BenchmarkError: Nothing was recorded at which a student can be asked.
        StoreError: The store cannot be read.
    """
    from tutelage.benchmarks.student_replay import student_replay

    config = assembly.config
    if config.cascade.policy not in BY_VOTES:
        raise ConfigError(
            f"cascade.policy = {config.cascade.policy!r} rests on scores that were fitted to "
            f"another student: replay with one of {', '.join(BY_VOTES)}"
        )
    if p_teacher is not None and not 0 < p_teacher < 1:
        raise ConfigError(f"p_teacher = {p_teacher}: give a chance between 0 and 1")
    everything = await recorded_episodes(assembly, tenant, since_s)
    in_time = sorted(everything.items(), key=lambda pair: pair[1][0].created_at_s)
    episodes = {id: served for id, served in in_time if not is_held_out(served)}
    if not episodes:
        raise BenchmarkError(
            "all recorded episodes were held out: serve some by the cascade, or in mode shadow"
        )
    asking = Asking(
        student or await assembly.student(),
        assembly.policies.agreement(),
        assembly.policies.policy(PolicyChoice(bare=True, routed=True)),
        shows_demonstrations=config.retrieval.enabled,
    )
    pairs = [
        pair
        for served in episodes.values()
        for pair in zip(served, recorded_steps(served), strict=True)
    ]
    limit = asyncio.Semaphore(jobs)

    async def say(trace: Trace, step: Step) -> Said:
        async with limit:
            return await asking.say(trace, step)

    tasks = [asyncio.create_task(say(*pair)) for pair in pairs]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    said = {trace.id: answer for (trace, _), answer in zip(pairs, answers, strict=True)}
    audits = {one.trace_id: one for one in await assembly.audits.audits(tenant, since_s=since_s)}
    records = await assembly.traces.episodes(tenant, limit=MOST_TRACES)
    compared = Compared(asking.rule, configured_prices(assembly), audits, p_teacher)
    return student_replay(
        {
            id: [compared.step(trace, said[trace.id]) for trace in served]
            for id, served in episodes.items()
        },
        {one.id: one.success for one in records if one.success is not None},
        student=student_identity(config),
        policy=config.cascade.policy,
        asked=sum(one.completion is not None for one in said.values()),
        arms={id: drawn_into_arm(served) for id, served in episodes.items()},
        confidence=confidence,
    )


class Asking:
    """Asks a student at recorded prompts.

    Args:
        student: Who is asked.
        rule: Compares its samples.
        policy: Decides who serves.
        shows_demonstrations: Whether the student is shown some; then a prompt that no student got
            is not one of its prompts.
    """

    def __init__(
        self,
        student: Model,
        rule: AgreementRule,
        policy: DeferralPolicy,
        *,
        shows_demonstrations: bool,
    ) -> None:
        self.rule = rule
        self._student = student
        self._policy = policy
        self._shows_demonstrations = shows_demonstrations

    async def say(self, trace: Trace, step: Step) -> Said:
        """What the student does in a step.

        Raises:
            BenchmarkError: It cannot be asked there.
            ConfigError: The policy needs the scores of demonstrations.
            ModelError: The student failed.
        """
        if trace.decision.reason in OUTSIDE:
            return Said(trace.decision.served, None, None)
        plan = self._policy.plan(step)
        decision = plan if isinstance(plan, Decision) else None
        if decision is not None and decision.served == "teacher":
            return Said("teacher", None, None)
        if isinstance(plan, Decision):
            # As where nobody votes: one answer, the likeliest.
            plan = SamplePlan(1, 0.0)
        if plan.waits or plan.recalled is not None:
            raise ConfigError(
                "the policy decides by the scores of demonstrations, which no trace keeps: replay "
                "one without routing"
            )
        completion = await self._draw(trace, plan)
        rule = rule_for(self.rule, trace.tools)
        agreement = rule.measure(completion.choices, plan.samples)
        decision = decision or self._policy.decide(step, agreement, ())
        chosen = completion.choices[agreement.chosen or 0]
        return Said(decision.served, rule.action(chosen), completion)

    async def _draw(self, trace: Trace, plan: SamplePlan) -> Completion:
        where = f"episode {trace.episode_id}, step {trace.step_index}"
        if not trace.prompt or (self._shows_demonstrations and not trace.samples):
            raise BenchmarkError(
                f"{where}: no prompt of a student was recorded, as none was asked; leave such "
                "traffic out with --since-s, or set retrieval.enabled=false to ask without "
                "demonstrations"
            )
        texts = [trace.answer, *(one.text for one in trace.samples)]
        if not trace.tools and any(tool_calls(text) is not None for text in texts):
            raise BenchmarkError(
                f"{where}: it calls tools whose declarations were not kept; traffic of this "
                "release has them: leave older one out with --since-s"
            )
        asked: dict[str, Any] = {
            "model": trace.model,
            "messages": list(trace.prompt),
            "max_tokens": MOST_TOKENS,
        }
        if trace.tools:
            asked["tools"] = list(trace.tools)
        request = ChatRequest.model_validate(asked)
        rule = rule_for(self.rule, trace.tools)
        drawing = Drawing(
            self._student,
            request,
            plan,
            lambda drawn: rule.measure(drawn, plan.samples).settled,
        )
        await drawing.run()
        completion = drawing.completion
        assert completion is not None
        return completion


@dataclass(frozen=True, slots=True)
class Compared:
    """Compares what a student does with what was recorded.

    Args:
        rule: Names actions.
        prices: Of both roles.
        audits: By trace.
        p_teacher: Chance of the teacher in recorded random steps.
    """

    rule: AgreementRule
    prices: Prices
    audits: Mapping[str, StepAudit]
    p_teacher: float | None

    def step(self, trace: Trace, said: Said) -> AskedStep:
        """One step of both."""
        from tutelage.benchmarks.student_replay import AskedStep

        done = self._key(trace) or trace.answer
        taught, then = self._taught(trace), self._said_then(trace)
        cost = self._cost(trace, said)
        if trace.decision.reason in OUTSIDE:
            follows: bool | None = True
            now: str | None = done
        else:
            now = said.action if said.served == "student" else taught
            follows = None if said.served == "teacher" and now is None else now == done
        chance, unsupported = self._chance(trace, said, taught, then, follows)
        asked = said.completion is not None
        return AskedStep(
            trace_id=trace.id,
            episode_id=trace.episode_id,
            step_index=trace.step_index,
            served=said.served,
            follows=follows,
            right=said.action == taught if asked and taught is not None else None,
            was_right=then == taught if trace.samples and taught is not None else None,
            chance=chance,
            cost_usd=cost[0],
            uncached_cost_usd=cost[1],
            was_served=trace.decision.served,
            unsupported=unsupported,
        )

    def _taught(self, trace: Trace) -> str | None:
        """The teacher's action, where it is known."""
        if trace.decision.served == "teacher":
            return self._key(trace) or trace.answer
        audit = self.audits.get(trace.id)
        return audit.action if audit is not None else None

    def _said_then(self, trace: Trace) -> str | None:
        """The action that the recorded student's samples chose."""
        choices = recorded_choices(trace)
        if not choices:
            return None
        rule = rule_for(self.rule, trace.tools)
        return rule.action(choices[rule.measure(choices).chosen or 0])

    def _key(self, trace: Trace) -> str | None:
        return rule_for(self.rule, trace.tools).action(choice_of(0, trace.answer))

    def _chance(
        self, trace: Trace, said: Said, taught: str | None, then: str | None, follows: bool | None
    ) -> tuple[float | None, str | None]:
        """The chance that the record supports the step, and why it does whatever chance decides.

        In a tossed step the recorded student's action is known on both sides of the coin. So what
        is that action counts on the student's side alone, and anything else on the teacher's, where
        its action is known.
        """
        if trace.decision.reason is not Reason.RANDOM or self.p_teacher is None:
            return (1.0, None) if follows else (None, _why(said, follows))
        is_taught = trace.decision.served == "teacher"
        if said.served == "student" and said.action == then:
            return (None, None) if is_taught else (1 - self.p_teacher, None)
        if not is_taught:
            return None, None
        if follows:
            return self.p_teacher, None
        return None, "the other student does what neither the recorded one nor the teacher did"

    def _cost(self, trace: Trace, said: Said) -> Costs:
        cached = uncached = 0.0
        if trace.decision.reason in OUTSIDE and "student" in trace.usage:
            cached, uncached = self.prices("student", trace.usage["student"])
        if said.completion is not None:
            cached, uncached = self.prices("student", said.completion.usage)
        if said.served == "teacher" and "teacher" in trace.usage:
            once = self.prices("teacher", trace.usage["teacher"])
            return cached + once[0], uncached + once[1]
        audit = self.audits.get(trace.id) if said.served == "teacher" else None
        if audit is not None:
            return cached + audit.cost_usd, uncached + audit.uncached_cost_usd
        return cached, uncached


def _why(said: Said, follows: bool | None) -> str:
    if follows is None:
        return (
            "the step goes to the teacher, which was not asked: serve some with cascade.policy = "
            "'explore' and give --p-teacher, or raise evidence.audits"
        )
    who = "the other student" if said.served == "student" else "the teacher"
    return (
        f"{who} does something else, and chance had no part in what was done: serve some with "
        "cascade.policy = 'explore' and give --p-teacher"
    )
