"""The path of one request: step, demonstrations, student samples, decision, teacher, trace."""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from tutelage.runtime.chunks import Accumulator, chunks
from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import ModelError, RetrievalError, StoreError, TutelageError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.prompt import CountTokens, PromptSettings, render
from tutelage.runtime.protocols import (
    AgreementRule,
    DeferralPolicy,
    Model,
    Retriever,
    TraceStore,
)
from tutelage.runtime.steps import action_text, conversation_id, read_step
from tutelage.runtime.types import (
    Agreement,
    Answer,
    ChatRequest,
    Completion,
    Decision,
    Reason,
    Retrieved,
    Sample,
    SamplePlan,
    Served,
    Step,
    Trace,
    Usage,
)

logger = logging.getLogger(__name__)

# Episodes of clients that name none are remembered up to this many, the least recent forgotten.
REMEMBERED_EPISODES = 10_000
ROLES: tuple[Served, ...] = ("student", "teacher")


@dataclass(slots=True)
class _Deliberation:
    """What is known of a request before the teacher is asked."""

    step: Step
    decision: Decision
    student: Completion | None = None
    agreement: Agreement | None = None
    samples: tuple[Sample, ...] = ()
    demonstrations: tuple[Retrieved, ...] = ()
    prompt: ChatRequest | None = None
    latency_s: dict[str, float] = field(default_factory=dict)
    error: str | None = None


class Runtime:
    """Serves agent steps by the student where it may, by the teacher where it must.

    A failing retrieval, student or policy becomes a decision for the teacher with a reason; a
    failing teacher is raised; a failing trace is counted and never fails a request.

    Args:
        teacher: The model whose success is kept.
        student: The cheap model; without one the teacher serves everything.
        retriever: Finds demonstrations for a step; without one the student acts unaided.
        pinned_retriever: Finds the demonstrations of a whole episode at its first step.
        agreement: Compares the student's samples.
        policy: Decides who serves.
        traces: Where traces and episodes go.
        ledger: Prices the tokens of both roles.
        prompt: Layout of the student's prompt.
        count_tokens: Tokens of a text, as the student counts them.
        clock: Unix time in seconds.
        timer: A monotonic clock in seconds.
        tenant: Whose requests these are where an episode does not say it.
        close: Closes what the runtime was made of.
    """

    def __init__(
        self,
        *,
        teacher: Model,
        agreement: AgreementRule,
        policy: DeferralPolicy,
        traces: TraceStore,
        ledger: Ledger,
        student: Model | None = None,
        retriever: Retriever | None = None,
        pinned_retriever: Retriever | None = None,
        prompt: PromptSettings | None = None,
        count_tokens: CountTokens,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        tenant: str = "default",
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._teacher = teacher
        self._student = student
        self._retriever = retriever
        self._pinned_retriever = pinned_retriever
        self._agreement = agreement
        self._policy = policy
        self._traces = traces
        self._ledger = ledger
        self._prompt = prompt or PromptSettings()
        self._count_tokens = count_tokens
        self._clock = clock
        self._timer = timer
        self._tenant = tenant
        self._close = close
        self._episodes: OrderedDict[str, Episode] = OrderedDict()
        self.lost_traces = 0

    async def aclose(self) -> None:
        """Closes the parts, if the runtime was made with a way to."""
        if self._close is not None:
            await self._close()

    def episode(
        self,
        *,
        goal: str | None = None,
        tenant: str | None = None,
        task_id: str | None = None,
        id: str | None = None,
    ) -> Episode:
        """Opens an episode; use it as ``async with``."""
        return Episode(
            self,
            id=id or uuid.uuid4().hex,
            tenant=tenant or self._tenant,
            goal=goal,
            task_id=task_id,
        )

    async def complete(
        self,
        request: ChatRequest,
        *,
        episode: Episode | None = None,
        force: Served | None = None,
    ) -> Answer:
        """Serves one step.

        Args:
            request: The chat request; its ``model`` is the alias that the answer echoes.
            episode: The episode it belongs to; else it is recognised by its opening messages.
            force: Serve by this role, whatever the policy says.

        Raises:
            ModelError: The teacher was needed and failed.
            PriceUnknown: A role has no price; found before any token is spent.
        """
        started = self._timer()
        self._check_prices(request)
        episode = episode or self._implicit_episode(request)
        thought = await self._deliberate(request, episode, force)
        if thought.decision.served == "student":
            completion = self._student_answer(request, thought)
            return await self._finish(request, episode, thought, completion, None, started)
        asked = self._timer()
        try:
            taught = await self._teacher.complete(request, request.n or 1)
        except ModelError as error:
            thought.error = _line(error)
            await self._record(request, episode, thought, None, None, started)
            raise
        finally:
            thought.latency_s["teacher"] = self._timer() - asked
        completion = taught.model_copy(update={"model": request.model})
        return await self._finish(request, episode, thought, completion, taught.usage, started)

    async def stream(
        self,
        request: ChatRequest,
        *,
        episode: Episode | None = None,
        force: Served | None = None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """Serves one step as OpenAI chunks: the teacher live, an agreed student answer in pieces.

        Raises:
            ModelError: The teacher was needed and failed.
            PriceUnknown: A role has no price; found before any token is spent.
        """
        started = self._timer()
        self._check_prices(request)
        episode = episode or self._implicit_episode(request)
        thought = await self._deliberate(request, episode, force)
        if thought.decision.served == "student":
            completion = self._student_answer(request, thought)
            await self._finish(request, episode, thought, completion, None, started)
            for chunk in chunks(completion, usage=_wants_usage(request)):
                yield chunk
            return
        asked = self._timer()
        accumulator = Accumulator()
        try:
            async with aclosing(self._teacher.stream(request)) as live:
                async for chunk in live:
                    accumulator.add(chunk)
                    yield {**chunk, "model": request.model}
        except ModelError as error:
            thought.error = _line(error)
            raise
        finally:
            thought.latency_s["teacher"] = self._timer() - asked
            partial = None
            if accumulator.started:
                partial = accumulator.completion(request, self._count_tokens)
            usage = partial.usage if partial else None
            await self._record(request, episode, thought, partial, usage, started)

    async def record_episode(
        self, episode: Episode, *, success: bool | None = None, reward: float | None = None
    ) -> None:
        """Stores an episode and its outcome.

        Raises:
            StoreError: It could be neither stored nor spooled.
        """
        record = episode.record(created_at_s=self._clock(), success=success, reward=reward)
        await self._traces.record_episode(record)

    def _check_prices(self, request: ChatRequest) -> None:
        for role in ROLES:
            self._ledger.price(role, request.model)

    async def _deliberate(
        self, request: ChatRequest, episode: Episode, force: Served | None
    ) -> _Deliberation:
        """All that happens before the teacher is asked; never raises for a failing student."""
        step = read_step(
            request,
            tenant=episode.tenant,
            episode_id=episode.id,
            goal=episode.goal,
            served=episode.served,
            task_id=episode.task_id,
        )
        thought = _Deliberation(step, Decision(served="teacher", reason=Reason.ALWAYS))
        student = self._student
        if force == "teacher" or student is None:
            reason = Reason.FORCED if force else Reason.ALWAYS
            return _decided(thought, "teacher", reason)
        if _unsupported(request):
            return _decided(thought, "teacher", Reason.UNSUPPORTED)
        try:
            plan = self._policy.plan(step)
        except (TutelageError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return _decided(thought, "teacher", Reason.POLICY_FAILED, error)
        if isinstance(plan, Decision) and force != "student":
            thought.decision = plan
            if plan.served == "teacher":
                return thought
        plan = plan if isinstance(plan, SamplePlan) else SamplePlan(1, 0.0)
        try:
            await self._prepare(request, episode, thought)
        except RetrievalError as error:
            return _decided(thought, "teacher", Reason.RETRIEVAL_FAILED, error)
        except TutelageError as error:
            return _decided(thought, "teacher", Reason.STUDENT_FAILED, error)
        try:
            await self._sample(student, plan, thought)
        except TutelageError as error:
            return _decided(thought, "teacher", Reason.STUDENT_FAILED, error)
        assert thought.agreement is not None
        if force == "student":
            return _decided(thought, "student", Reason.FORCED)
        try:
            thought.decision = self._policy.decide(step, thought.agreement, thought.demonstrations)
        except (TutelageError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return _decided(thought, "teacher", Reason.POLICY_FAILED, error)
        return thought

    async def _prepare(
        self, request: ChatRequest, episode: Episode, thought: _Deliberation
    ) -> None:
        """Finds the demonstrations and renders the student's prompt."""
        started = self._timer()
        retrieved = await self._retriever.search(thought.step) if self._retriever else ()
        if episode.pinned is None:
            find = self._pinned_retriever if self._prompt.layout == "pinned" else None
            episode.pinned = tuple(await find.search(thought.step)) if find else ()
        thought.latency_s["retrieve"] = self._timer() - started
        started = self._timer()
        rendered = render(
            request,
            thought.step,
            retrieved,
            self._prompt,
            self._count_tokens,
            pinned=episode.pinned,
        )
        thought.prompt, thought.demonstrations = rendered.request, rendered.demonstrations
        thought.latency_s["render"] = self._timer() - started

    async def _sample(self, student: Model, plan: SamplePlan, thought: _Deliberation) -> None:
        """Draws the student's samples and counts their votes."""
        assert thought.prompt is not None
        started = self._timer()
        prompt = thought.prompt
        if plan.temperature is not None:
            prompt = prompt.model_copy(update={"temperature": plan.temperature})
        thought.student = await student.complete(
            prompt.model_copy(update={"stream": None}), plan.samples
        )
        thought.latency_s["student"] = self._timer() - started
        started = self._timer()
        thought.agreement = self._agreement.measure(thought.student.choices)
        thought.samples = tuple(
            Sample(text=action_text(choice.message), action=self._agreement.action(choice))
            for choice in thought.student.choices
        )
        thought.latency_s["agree"] = self._timer() - started

    def _student_answer(self, request: ChatRequest, thought: _Deliberation) -> Completion:
        """The agreed sample as the answer: the client's alias, and the usage of its own prompt."""
        assert thought.student is not None
        assert thought.agreement is not None
        # A policy that never asks the teacher serves a sample even if it names no action.
        choice = thought.student.choices[thought.agreement.chosen or 0]
        usage = Usage(
            input_tokens=sum(self._count_tokens(m.text) for m in request.messages),
            output_tokens=self._count_tokens(action_text(choice.message)),
        )
        return thought.student.model_copy(
            update={
                "model": request.model,
                "choices": [choice.model_copy(update={"index": 0})],
                "usage": usage,
            }
        )

    async def _finish(
        self,
        request: ChatRequest,
        episode: Episode,
        thought: _Deliberation,
        completion: Completion,
        teacher_usage: Usage | None,
        started: float,
    ) -> Answer:
        """Records an answer and returns it."""
        trace = await self._record(request, episode, thought, completion, teacher_usage, started)
        return Answer(completion, thought.decision, trace.id, trace)

    async def _record(
        self,
        request: ChatRequest,
        episode: Episode,
        thought: _Deliberation,
        completion: Completion | None,
        teacher_usage: Usage | None,
        started: float,
    ) -> Trace:
        """Writes the trace and remembers who served; without a completion the teacher failed."""
        step, decision = thought.step, thought.decision
        prices = {role: self._ledger.price(role, request.model) for role in ROLES}
        episode.served[step.index] = decision.served
        usage: dict[Served, Usage] = {}
        if thought.student is not None:
            usage["student"] = thought.student.usage
        if teacher_usage is not None:
            usage["teacher"] = teacher_usage
        thought.latency_s["total"] = self._timer() - started
        shown = thought.prompt or request
        trace = Trace(
            id=uuid.uuid4().hex,
            tenant=episode.tenant,
            episode_id=episode.id,
            step_index=step.index,
            created_at_s=self._clock(),
            model=request.model,
            goal=step.goal,
            observation=step.observation,
            answer=action_text(completion.choices[0].message) if completion else "",
            decision=decision,
            samples=thought.samples,
            agreement=thought.agreement.share if thought.agreement else None,
            demonstrations=tuple(one.demonstration.id for one in thought.demonstrations),
            prompt=tuple(m.model_dump(exclude_unset=True) for m in shown.messages),
            usage=usage,
            cost_usd={role: prices[role].cost_usd(used) for role, used in usage.items()},
            uncached_cost_usd={
                role: prices[role].uncached_cost_usd(used) for role, used in usage.items()
            },
            baseline_cost_usd=prices["teacher"].uncached_cost_usd(teacher_usage or completion.usage)
            if completion
            else None,
            latency_s=thought.latency_s,
            error=thought.error,
        )
        try:
            await self._traces.append(trace)
        except StoreError as error:
            self.lost_traces += 1
            logger.error("trace %s is lost: %s", trace.id, error)
        logger.info(
            "served=%s reason=%s samples=%d demos=%d cost_usd=%.6f latency_s=%.3f",
            decision.served,
            decision.reason.value,
            len(thought.samples),
            len(thought.demonstrations),
            sum(trace.cost_usd.values()),
            thought.latency_s["total"],
        )
        return trace

    def _implicit_episode(self, request: ChatRequest) -> Episode:
        key = conversation_id(request, tenant=self._tenant)
        episode = self._episodes.get(key)
        if episode is None:
            episode = self._episodes[key] = self.episode(id=key)
            if len(self._episodes) > REMEMBERED_EPISODES:
                self._episodes.popitem(last=False)
        self._episodes.move_to_end(key)
        return episode


def _decided(
    thought: _Deliberation, served: Served, reason: Reason, error: Exception | None = None
) -> _Deliberation:
    thought.decision = Decision(served=served, reason=reason)
    if error is not None:
        thought.error = _line(error)
        logger.warning("the teacher takes the step (%s): %s", reason.value, thought.error)
    return thought


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _unsupported(request: ChatRequest) -> bool:
    """Whether agreed samples cannot give what the request asks for."""
    extra = request.model_extra or {}
    last = request.messages[-1].role if request.messages else "assistant"
    return (
        (request.n or 1) > 1
        or bool(extra.get("logprobs"))
        or "audio" in (extra.get("modalities") or ())
        or last == "assistant"
    )


def _wants_usage(request: ChatRequest) -> bool:
    options = (request.model_extra or {}).get("stream_options") or {}
    return bool(options.get("include_usage"))
