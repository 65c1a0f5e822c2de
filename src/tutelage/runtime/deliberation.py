"""From a request to a decision: step, demonstrations, student samples, agreement, policy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from tutelage.runtime.errors import RetrievalError, StoreError, TutelageError
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.prompt import CountTokens, PromptSettings, is_covered, render
from tutelage.runtime.protocols import (
    ActingStudent,
    AgreementRule,
    DeferralPolicy,
    Describer,
    Model,
    Retriever,
    StudentChoice,
    rule_for,
)
from tutelage.runtime.sampling import Drawing
from tutelage.runtime.step_features import (
    POLICY_FAULTS,
    described,
    logprobs_of,
    unaided_features,
)
from tutelage.runtime.steps import action_text, read_step, tool_calls
from tutelage.runtime.time_limit import TimeLimit
from tutelage.runtime.types import (
    Agreement,
    ChatRequest,
    Choice,
    Completion,
    Decision,
    Message,
    Mode,
    Reason,
    Retrieved,
    Sample,
    SamplePlan,
    Served,
    Step,
    Trace,
    Usage,
)

if TYPE_CHECKING:
    from tutelage.runtime.episode import Episode
    from tutelage.runtime.pricing import Price

logger = logging.getLogger(__name__)

_NEVER_FORCED = frozenset({Reason.TEACHER_ONLY_TOOL, Reason.UNKNOWN_TOOL, Reason.WRONG_FORM})
_NO_VOTES = Agreement(votes=(), samples=0, chosen=None, agreed=False)


@dataclass(slots=True)
class Deliberation:
    """What is known of a request before it is answered."""

    id: str
    """Of the decision and of its trace."""
    request: ChatRequest
    episode: Episode
    step: Step
    started_s: float
    """By the runtime's timer."""
    mode: Mode
    decision: Decision
    key_id: str | None = None
    no_train: bool = False
    acting: ActingStudent | None = None
    """Whose turn it is among the releases of the student; ``None`` before that is chosen."""
    unsupported: str | None = None
    """A parameter that agreed samples cannot honour."""
    aside: Deliberation | None = None
    """What the student and the policy would have made of it, mode ``shadow`` only."""
    aside_task: asyncio.Task[None] | None = None
    trace: Trace | None = None
    """Set when the answer is concluded."""
    teacher_price: Price | None = None
    """Of the endpoint that answered, where it is not the usual one."""
    student: Completion | None = None
    student_asked: bool = False
    lost_calls: int = 0
    """Calls of the student that were begun and given up beside those that were answered."""
    agreement: Agreement | None = None
    samples: tuple[Sample, ...] = ()
    demonstrations: tuple[Retrieved, ...] = ()
    """All that the student's prompt shows."""
    action: str | None = None
    """Canonical key of the answer, where it can be compared with samples."""
    near: tuple[Retrieved, ...] = ()
    """Those that were found for this very step, not for its episode."""
    prompt: ChatRequest | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    """Tokens of ``prompt`` by part."""
    unaided_parts: Mapping[str, int] = field(default_factory=dict)
    unaided: Agreement | None = None
    """What the samples without demonstrations said, where others were drawn with them."""
    unaided_usage: Usage | None = None
    """Their tokens."""
    latency_s: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    finished: bool = True
    """Whether the answer came to its end."""
    estimated: set[Served] = field(default_factory=set)
    """Whose tokens are estimates, as the endpoint told none."""

    def student_usage(self, count_tokens: CountTokens) -> Usage | None:
        """Tokens of the student; of a call that was given up, those of its prompt, counted here."""
        usage = self.student.usage if self.student is not None else None
        lost = self.lost_calls or int(self.student_asked and usage is None)
        if lost and self.prompt is not None:
            self.estimated.add("student")
            prompt_tokens = sum(count_tokens(m.text) for m in self.prompt.messages)
            usage = (usage or Usage()) + Usage(input_tokens=lost * prompt_tokens)
        if self.unaided_usage is None:
            return usage
        return self.unaided_usage + (usage or Usage())

    def asked_parts(self) -> dict[str, int]:
        """Tokens by part of the prompts that the student was asked, as they were assembled."""
        asked = self.parts if self.student_asked else {}
        names = (*self.unaided_parts, *asked)
        return {name: self.unaided_parts.get(name, 0) + asked.get(name, 0) for name in names}

    def set_aside(self, count_tokens: CountTokens) -> None:
        """Keeps what the samples without demonstrations said and took; others are drawn next."""
        self.unaided, self.unaided_usage = self.agreement, self.student_usage(count_tokens)
        self.student, self.student_asked, self.lost_calls = None, False, 0
        self.unaided_parts = self.parts
        self.agreement, self.samples = None, ()
        self.latency_s["unaided"] = self.latency_s.pop("student")

    def student_answer(self, count_tokens: CountTokens) -> Completion:
        """The agreed sample as the answer: the client's alias, and the usage of its own prompt."""
        assert self.student is not None
        # A policy that never asks the teacher serves a sample even if it names no action.
        chosen = self.agreement.chosen if self.agreement else None
        choice = self.student.choices[chosen or 0]
        usage = Usage(
            input_tokens=sum(count_tokens(m.text) for m in self.request.messages),
            output_tokens=count_tokens(action_text(choice.message)),
        )
        return self.student.model_copy(
            update={
                "model": self.request.model,
                "choices": [choice.model_copy(update={"index": 0, "logprobs": None})],
                "usage": usage,
                "usage_details": {},
            }
        )

    @property
    def release(self) -> str | None:
        """The release of the student whose turn it is; ``None``: as it is configured."""
        return self.acting.release if self.acting is not None else None

    @property
    def streams_live(self) -> bool:
        """Whether the student's answer goes out as it comes.

        Never where it may call tools or has to have a form: that is checked before anybody acts
        on it.
        """
        return self.mode == "route" and not self.step.tools and self.step.form is None

    def defer(
        self, reason: Reason, error: Exception | None = None, *, detail: str | None = None
    ) -> Literal[False]:
        """Gives the step to the teacher; a student that failed has cost nothing."""
        if reason is Reason.STUDENT_FAILED and self.student is None:
            self.student_asked, self.lost_calls = False, 0
        self.decision = Decision(served="teacher", reason=reason, detail=detail)
        if error is not None:
            self.error = line(error)
            logger.warning("the teacher takes the step (%s): %s", reason.value, log_line(error))
            logger.debug("what failed: %s", self.error)
        return False


class Deliberator:
    """Decides who serves a step; a failing retrieval, student or policy means the teacher.

    Args:
        student: The cheap model; without one the teacher serves everything.
        retriever: Finds demonstrations for a step; without one the student acts unaided.
        pinned_retriever: Finds the demonstrations of a whole episode at its first step.
        agreement: Compares the student's samples.
        policy: Decides who serves.
        prompt: Layout of the student's prompt.
        count_tokens: Tokens of a text, as the student counts them.
        describer: Says what else is known of a step; absent: nothing.
        releases: Chooses among releases of the student; absent: the one above always acts.
        student_deadline_s: How long retrieval and samples may take before the teacher gets the
            step; ``None``: as long as it takes.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        *,
        student: Model | None,
        retriever: Retriever | None,
        pinned_retriever: Retriever | None,
        agreement: AgreementRule,
        policy: DeferralPolicy,
        prompt: PromptSettings,
        count_tokens: CountTokens,
        describer: Describer | None = None,
        releases: StudentChoice | None = None,
        student_deadline_s: float | None,
        timer: Callable[[], float],
    ) -> None:
        self.student = student
        self._usual = ActingStudent(student, policy, describer) if student is not None else None
        self._releases = releases
        self._retriever = retriever
        self._pinned_retriever = pinned_retriever
        self._agreement = agreement
        self._prompt = prompt
        self._count_tokens = count_tokens
        self._student_deadline_s = student_deadline_s
        self._timer = timer

    async def deliberate(self, thought: Deliberation, force: Served | None) -> None:
        """Fills in the decision and what it rests on.

        A student that the mode ``route`` chooses is not asked yet: its answer is streamed live.
        """
        if thought.mode == "passthrough":
            thought.defer(Reason.PASSTHROUGH)
            return
        if force == "teacher" or self._usual is None:
            thought.defer(Reason.FORCED if force else Reason.ALWAYS)
            return
        thought.unsupported = thought.unsupported or unsupported(thought.request)
        if thought.unsupported:
            thought.defer(Reason.UNSUPPORTED, detail=thought.unsupported)
            return
        try:
            with TimeLimit(self._student_deadline_s):
                acting = thought.acting = await self._acting(self._usual, thought)
                if acting is None or not await self._ask(acting, thought, force):
                    return
        except TimeoutError:
            thought.defer(Reason.STUDENT_LATE)
            return
        if thought.student is not None:
            self._decide(acting.policy, thought)
        if force == "student" and thought.decision.reason not in _NEVER_FORCED:
            thought.decision = Decision(served="student", reason=Reason.FORCED)

    async def _acting(self, usual: ActingStudent, thought: Deliberation) -> ActingStudent | None:
        """Whose turn it is; ``None`` where the teacher has the step already."""
        if self._releases is None:
            return usual
        try:
            return await self._releases.student_for(thought.step) or usual
        except TutelageError as error:
            thought.defer(Reason.STUDENT_FAILED, error)
            return None

    async def _ask(
        self, acting: ActingStudent, thought: Deliberation, force: Served | None
    ) -> bool:
        """Plans, prepares the prompt and, unless it is only routed, draws the samples.

        Returns:
            ``False`` where the teacher has the step already.
        """
        try:
            plan = _plan(acting.policy, thought, None)
            if isinstance(plan, SamplePlan) and plan.waits:
                await self._prepare(thought)
                plan = _plan(acting.policy, thought, thought.near)
        except (RetrievalError, StoreError) as error:
            return thought.defer(Reason.RETRIEVAL_FAILED, error)
        except POLICY_FAULTS as error:
            return thought.defer(Reason.POLICY_FAILED, error)
        if isinstance(plan, Decision):
            thought.decision = plan
            if plan.served == "teacher" and force != "student":
                return False
            plan = SamplePlan(1, None if thought.mode == "route" else 0.0)
        try:
            if self._tries_unaided(plan, thought) and await self._agree_unaided(
                acting, plan, thought
            ):
                return True
            if thought.prompt is None:
                await self._prepare(thought)
            if plan.recalled is not None:
                self._recall(plan, plan.recalled, thought)
            elif not thought.streams_live:
                await self._sample(acting.model, plan, thought)
        except (RetrievalError, StoreError) as error:
            return thought.defer(Reason.RETRIEVAL_FAILED, error)
        except TutelageError as error:
            return thought.defer(Reason.STUDENT_FAILED, error)
        return True

    def _tries_unaided(self, plan: SamplePlan, thought: Deliberation) -> bool:
        """Whether there are demonstrations to save, and samples that can disagree without them."""
        shows = self._retriever is not None or self._pinned_retriever is not None
        votes = plan.samples > 1 and plan.recalled is None and not thought.streams_live
        return self._prompt.unaided_first and shows and votes

    async def _agree_unaided(
        self, acting: ActingStudent, plan: SamplePlan, thought: Deliberation
    ) -> bool:
        """Asks without demonstrations; whether the samples agree and the policy accepts that."""
        found = thought.prompt, thought.demonstrations, thought.near, thought.parts
        self._render(thought, ())
        await self._sample(acting.model, plan, thought)
        assert thought.agreement is not None
        if thought.agreement.agreed:
            self._decide(acting.policy, thought)
            if thought.decision.served == "student":
                return True
        thought.set_aside(self._count_tokens)
        thought.prompt, thought.demonstrations, thought.near, thought.parts = found
        return False

    def _recall(self, plan: SamplePlan, action: str, thought: Deliberation) -> None:
        """Answers with the action of demonstrations; no model is asked."""
        named, asked = plan.votes
        calls = tool_calls(action)
        for call in calls or ():
            # A conversation must not hold an id twice.
            call["id"] = f"{call['id']}_{thought.id}"
        message = Message(role="assistant", content=None if calls else action, tool_calls=calls)
        reason = "tool_calls" if calls else "stop"
        choice = Choice(index=0, message=message, finish_reason=reason)
        thought.student = Completion(id=f"recalled-{thought.id}", model="", choices=[choice])
        self.count_votes(thought)
        assert thought.agreement is not None
        thought.agreement = replace(
            thought.agreement,
            votes=tuple((voted, named) for voted, _ in thought.agreement.votes),
            samples=asked,
            recalled=True,
        )

    def _decide(self, policy: DeferralPolicy, thought: Deliberation) -> None:
        assert thought.agreement is not None
        try:
            thought.decision = policy.decide(thought.step, thought.agreement, thought.near)
        except POLICY_FAULTS as error:
            thought.defer(Reason.POLICY_FAILED, error)

    async def _prepare(self, thought: Deliberation) -> None:
        """Finds the demonstrations and renders the student's prompt."""
        started_s = self._timer()
        episode = thought.episode
        retrieved = await self._retriever.search(thought.step) if self._retriever else ()
        if episode.pinned is None:
            find = self._pinned_retriever if self._prompt.layout != "per-step" else None
            episode.pinned = tuple(await find.search(thought.step)) if find else ()
            if find is None and self._prompt.layout == "pinned-delta":
                episode.pinned = tuple(retrieved)
        thought.latency_s["retrieve"] = self._timer() - started_s
        self._render(thought, retrieved, episode.pinned)

    def _render(
        self,
        thought: Deliberation,
        retrieved: Sequence[Retrieved],
        pinned: Sequence[Retrieved] = (),
    ) -> None:
        """Renders the student's prompt."""
        started_s = self._timer()
        rendered = render(
            thought.request,
            thought.step,
            retrieved,
            self._prompt,
            self._count_tokens,
            pinned=pinned,
        )
        thought.prompt, thought.demonstrations = rendered.request, rendered.demonstrations
        thought.parts = rendered.parts
        shown, prefix = {id(one) for one in rendered.demonstrations}, {id(one) for one in pinned}
        lead = [one for one in pinned if id(one) in shown]
        near = [one for one in rendered.demonstrations if id(one) not in prefix]
        if self._prompt.layout == "pinned-delta":
            near += [one for one in reversed(retrieved) if is_covered(one, lead)]
        thought.near = tuple(near)
        thought.latency_s["render"] = self._timer() - started_s

    async def _sample(self, student: Model, plan: SamplePlan, thought: Deliberation) -> None:
        """Draws the student's samples and counts their votes."""
        assert thought.prompt is not None
        started_s = self._timer()
        thought.student_asked = True
        planned, rule = plan.samples, rule_for(self._agreement, thought.step.tools)
        drawing = Drawing(
            student,
            thought.prompt,
            plan,
            lambda choices: rule.measure(choices, planned).settled,
        )
        try:
            await drawing.run()
        finally:
            thought.student, thought.lost_calls = drawing.completion, drawing.given_up
            thought.latency_s["student"] = self._timer() - started_s
        started_s = self._timer()
        self.count_votes(thought, planned)
        thought.latency_s["agree"] = self._timer() - started_s

    def count_votes(self, thought: Deliberation, planned: int | None = None) -> None:
        """Reads the actions of the student's samples, of which ``planned`` were to be drawn."""
        assert thought.student is not None
        choices = thought.student.choices
        rule = rule_for(self._agreement, thought.step.tools)
        agreement = rule.measure(choices, planned)
        if choices:
            agreement = replace(agreement, answer=choices[agreement.chosen or 0].message)
        if agreement.chosen is not None:
            told = logprobs_of(choices[agreement.chosen])
            agreement = replace(agreement, logprobs=told) if told else agreement
        if thought.acting is not None and thought.acting.describer is not None:
            told_of = described(thought.acting.describer, thought, agreement)
            if told_of and self._prompt.unaided_first:
                told_of = {**told_of, **unaided_features(thought, agreement)}
            agreement = replace(agreement, features=told_of)
        thought.agreement = agreement
        thought.samples = tuple(
            Sample(
                text=action_text(choice.message),
                action=rule.action(choice),
                logprob=fmean(told) if (told := logprobs_of(choice)) else None,
            )
            for choice in choices
        )

    def action(self, thought: Deliberation, completion: Completion | None) -> str | None:
        """The canonical key of an answer; ``None`` where no sample is compared with it."""
        if completion is None or not (thought.student_asked or thought.aside is not None):
            return None
        return rule_for(self._agreement, thought.step.tools).action(completion.choices[0])


def _plan(
    policy: DeferralPolicy, thought: Deliberation, demonstrations: Sequence[Retrieved] | None
) -> SamplePlan | Decision:
    """The policy's plan; without a vote where the mode is to decide before sampling."""
    plan = policy.plan(thought.step, demonstrations)
    is_final = isinstance(plan, Decision) or plan.waits or plan.recalled is not None
    if thought.mode != "route" or is_final:
        return plan
    decision = policy.decide(thought.step, _NO_VOTES, ())
    if decision.served == "student":
        return decision
    return Decision(served="teacher", reason=Reason.UNDECIDED)


def new_deliberation(
    request: ChatRequest, episode: Episode, id: str, started_s: float, mode: Mode
) -> Deliberation:
    """A deliberation about which nothing is known but the step; so far the teacher serves it."""
    step = read_step(
        request,
        tenant=episode.tenant,
        episode_id=episode.id,
        goal=episode.goal,
        served=episode.served,
        task_id=episode.task_id,
    )
    if episode.spent_usd:
        step = replace(step, spent_usd=episode.spent_usd)
    undecided = Decision(served="teacher", reason=Reason.ALWAYS)
    return Deliberation(id, request, episode, step, started_s, mode, undecided)


def unsupported(request: ChatRequest) -> str | None:
    """The parameter for which agreed samples cannot give what the request asks for."""
    extra = request.model_extra or {}
    last = request.messages[-1].role if request.messages else "assistant"
    if (request.n or 1) > 1:
        return "n"
    if extra.get("logprobs"):
        return "logprobs"
    if "audio" in (extra.get("modalities") or ()):
        return "modalities"
    return "messages" if last == "assistant" else None


def line(error: Exception) -> str:
    """An error as one line of a trace."""
    return f"{type(error).__name__}: {error}"
