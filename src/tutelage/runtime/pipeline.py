"""The path of one request: step, demonstrations, student samples, decision, teacher, trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from tutelage.runtime.auditing import Auditing
from tutelage.runtime.chunks import Accumulator, chunks, usage_chunk
from tutelage.runtime.conclusion import Concluder
from tutelage.runtime.deliberation import Deliberation, Deliberator, new_deliberation
from tutelage.runtime.episode import Episode
from tutelage.runtime.errors import ModelError, TutelageError
from tutelage.runtime.ids import new_id
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import CountTokens, PromptSettings
from tutelage.runtime.protocols import (
    AgreementRule,
    DeferralPolicy,
    Describer,
    DriftWatch,
    Model,
    Retriever,
    StudentChoice,
    TraceStore,
)
from tutelage.runtime.remembered_episodes import RememberedEpisodes
from tutelage.runtime.time_limit import TimeLimit
from tutelage.runtime.tracing import Tracer
from tutelage.runtime.types import (
    Answer,
    ChatRequest,
    Completion,
    Decision,
    Mode,
    Reason,
    Served,
    Trace,
    Usage,
)
from tutelage.runtime.uncalled import CallsTools, calls_tools, without_calls


class Runtime:
    """Serves agent steps by the student where it may, by the teacher where it must.

    A failing retrieval, student or policy becomes a decision for the teacher with a reason; a
    failing teacher is raised; a failing trace is counted and never fails a request. A request that
    its caller cancels is traced all the same.

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
        describer: Says what else is known of a step when it is decided.
        releases: Chooses among releases of the student; absent: the one above always acts.
        auditing: Asks the teacher about some of the student's steps afterwards.
        watch: Hears how episodes end in which the student served.
        judged: Called with tenant and id of an episode whose outcome was stored; returns at once.
        student_deadline_s: How long the student may take before the teacher gets the step.
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
        describer: Describer | None = None,
        releases: StudentChoice | None = None,
        auditing: Auditing | None = None,
        watch: DriftWatch | None = None,
        judged: Callable[[str, str], None] | None = None,
        student_deadline_s: float | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        tenant: str = "default",
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._teacher = teacher
        self._deliberator = Deliberator(
            student=student,
            retriever=retriever,
            pinned_retriever=pinned_retriever,
            agreement=agreement,
            policy=policy,
            prompt=prompt or PromptSettings(),
            count_tokens=count_tokens,
            describer=describer,
            releases=releases,
            student_deadline_s=student_deadline_s,
            timer=timer,
        )
        self._tracer = Tracer(traces, ledger, count_tokens, clock, timer)
        self._concluder = Concluder(self._tracer, auditing, count_tokens)
        self._watch = watch
        self._judged = judged
        self._traces = traces
        self._count_tokens = count_tokens
        self._student_deadline_s = student_deadline_s
        self._clock = clock
        self._timer = timer
        self._tenant = tenant
        self._close = close
        self._remembered = RememberedEpisodes(lambda id: self.episode(id=id), tenant)

    @property
    def lost_traces(self) -> int:
        """Traces that could not be kept."""
        return self._tracer.lost

    async def aclose(self) -> None:
        """Waits for traces that are being written, then closes the parts, if there is a way to."""
        await self._concluder.finish()
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
            id=id or new_id(),
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
        mode: Mode = "cascade",
    ) -> Answer:
        """Serves one step.

        Args:
            request: The chat request; its ``model`` is the alias that the answer echoes.
            episode: The episode it belongs to; else it is recognised by its opening messages.
            force: Serve by this role, whatever the policy says.
            mode: How student and teacher share the work.

        Raises:
            ModelError: The teacher was needed and failed.
            PriceUnknown: A role has no price; found before any token is spent.
        """
        thought = self.begin(request, episode=episode, mode=mode)
        await self.deliberate(thought, force)
        if thought.decision.served == "student" and await self.ask_student(thought):
            completion = thought.student_answer(self._count_tokens)
            return await self._answered(thought, completion, None)
        self.start_shadow(thought)
        asked_s = self._timer()
        try:
            taught = await self._teacher.complete(request, request.n or 1)
        except (ModelError, asyncio.CancelledError) as error:
            thought.latency_s["teacher"] = self._timer() - asked_s
            await self._give_up(thought, error)
            raise
        thought.latency_s["teacher"] = self._timer() - asked_s
        completion = taught.model_copy(update={"model": request.model})
        return await self._answered(thought, completion, taught.usage)

    async def stream(
        self,
        request: ChatRequest,
        *,
        episode: Episode | None = None,
        force: Served | None = None,
        mode: Mode = "cascade",
    ) -> AsyncGenerator[dict[str, Any]]:
        """Serves one step as OpenAI chunks: the teacher live, an agreed student answer in pieces.

        Raises:
            ModelError: The teacher was needed and failed.
            PriceUnknown: A role has no price; found before any token is spent.
        """
        thought = self.begin(request, episode=episode, mode=mode)
        await self.deliberate(thought, force)
        async with aclosing(self.answer(thought)) as answer:
            async for chunk in answer:
                yield chunk

    def begin(
        self,
        request: ChatRequest,
        *,
        episode: Episode | None = None,
        mode: Mode = "cascade",
        unsupported: str | None = None,
        key_id: str | None = None,
        no_train: bool = False,
        id: str | None = None,
    ) -> Deliberation:
        """Opens the deliberation on a request; nobody is asked yet.

        Args:
            request: As for ``complete``.
            episode: As for ``complete``.
            mode: As for ``complete``.
            unsupported: A parameter of the client's call that agreed samples cannot honour.
            key_id: The key that the request came with.
            no_train: Whether nothing may be learnt from it.
            id: Of the decision and its trace; absent: a new one.

        Raises:
            PriceUnknown: A role has no price; found before any token is spent. What is only passed
                through needs none.
        """
        started_s = self._timer()
        if mode != "passthrough":
            self._tracer.check_prices(request.model)
        episode = episode or self._remembered.of(request)
        thought = new_deliberation(request, episode, id or new_id(), started_s, mode)
        thought.unsupported, thought.key_id, thought.no_train = unsupported, key_id, no_train
        return thought

    async def deliberate(self, thought: Deliberation, force: Served | None = None) -> None:
        """Decides who serves; the teacher is not asked yet, in mode ``shadow`` nobody is.

        Whoever is cancelled here has its trace written.
        """
        if thought.mode == "shadow":
            thought.decision = Decision(served="teacher", reason=Reason.SHADOW)
            return
        try:
            await self._deliberator.deliberate(thought, force)
        except asyncio.CancelledError as error:
            await self._give_up(thought, error)
            raise

    async def answer(self, thought: Deliberation) -> AsyncGenerator[dict[str, Any]]:
        """Streams the answer to a request that was deliberated, and writes its trace.

        Raises:
            ModelError: The teacher was needed and failed.
        """
        if thought.decision.served == "student":
            if thought.student is not None:
                completion = thought.student_answer(self._count_tokens)
                await self._answered(thought, completion, None)
                for chunk in chunks(completion, usage=_wants_usage(thought.request)):
                    yield chunk
                return
            async with aclosing(self.student_live(thought)) as live:
                async for chunk in live:
                    if chunk["choices"] or _wants_usage(thought.request):
                        yield chunk
            if thought.trace is not None:
                return
        async with aclosing(self._teacher_live(thought)) as live:
            async for chunk in live:
                yield chunk

    async def ask_student(self, thought: Deliberation) -> bool:
        """Draws the answer of a routed student that was not asked yet; else the teacher's turn."""
        if thought.student is not None:
            return True
        assert thought.acting is not None
        assert thought.prompt is not None
        asked_s = self._timer()
        thought.student_asked = True
        try:
            with TimeLimit(self._student_deadline_s):
                thought.student = await thought.acting.model.complete(
                    thought.prompt.model_copy(update={"stream": None}), 1
                )
        except TutelageError as error:
            thought.defer(Reason.STUDENT_FAILED, error)
            return False
        except TimeoutError:
            thought.defer(Reason.STUDENT_LATE)
            return False
        except asyncio.CancelledError as error:
            await self._give_up(thought, error)
            raise
        finally:
            thought.latency_s["student"] = self._timer() - asked_s
        self._deliberator.count_votes(thought)
        called = calls_tools(thought.student.choices[0].message)
        return not called or thought.defer(Reason.UNKNOWN_TOOL, detail=called)

    def start_shadow(self, thought: Deliberation) -> None:
        """In mode ``shadow``, lets the student work beside the teacher."""
        if thought.mode != "shadow" or self._deliberator.student is None:
            return
        aside = new_deliberation(
            thought.request, thought.episode, thought.id, thought.started_s, "cascade"
        )
        aside.unsupported = thought.unsupported
        thought.aside = aside
        thought.aside_task = self.supervise(self._deliberator.deliberate(aside, None))

    def conclude(
        self,
        thought: Deliberation,
        completion: Completion | None,
        teacher_usage: Usage | None,
        *,
        error: BaseException | None = None,
        awaited: bool = True,
    ) -> tuple[Trace, asyncio.Future[None]]:
        """Makes the trace of an answer, and starts to write it; the future ends when it is kept.

        Args:
            thought: The deliberation.
            completion: The answer as far as it came; ``None``: none came.
            teacher_usage: Tokens of the teacher; ``None``: it was not asked, or its call failed.
            error: Why the answer broke off. The prompt of a teacher's call that was given up is
                counted here: its endpoint may bill it.
            awaited: Whether somebody waits until the trace is kept; else the future may end
                as soon as the store has taken it.
        """
        thought.action = self._deliberator.action(thought, completion)
        return self._concluder.conclude(
            thought, completion, teacher_usage, error=error, awaited=awaited
        )

    def supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that no cancelled request may cut short; ``aclose`` waits for it."""
        return self._concluder.supervise(work)

    def price(self, role: Served, model: str) -> Price | None:
        """What the tokens of a role cost; ``None`` if nobody knows.

        Args:
            role: Whose tokens.
            model: The model that the client asks for.
        """
        return self._tracer.price(role, model)

    async def record_episode(
        self, episode: Episode, *, success: bool | None = None, reward: float | None = None
    ) -> None:
        """Stores an episode and its outcome.

        Raises:
            StoreError: It could be neither stored nor spooled.
        """
        record = episode.record(created_at_s=self._clock(), success=success, reward=reward)
        await self._traces.record_episode(record)
        if self._watch is not None and success is not None and "student" in episode.served.values():
            self._watch.ended(episode.id, success, episode.release)
        if self._judged is not None and success is not None:
            self._judged(episode.tenant, episode.id)

    async def student_live(self, thought: Deliberation) -> AsyncGenerator[dict[str, Any]]:
        """The routed student's own stream, with the usage of the client's prompt at its end.

        Yields nothing, and leaves the step to the teacher, if it fails before its first chunk.

        Raises:
            TutelageError: It failed later.
        """
        assert thought.acting is not None
        assert thought.prompt is not None
        student = thought.acting.model
        accumulator, asked_s = Accumulator(), self._timer()
        failure: BaseException | None = None
        thought.student_asked = True
        try:
            async with aclosing(without_calls(student.stream(thought.prompt))) as live:
                with TimeLimit(self._student_deadline_s):
                    chunk = await anext(live, None)
                while chunk is not None:
                    accumulator.add(chunk)
                    if chunk.get("choices"):
                        plain = {name: value for name, value in chunk.items() if name != "usage"}
                        yield {**plain, "model": thought.request.model}
                    chunk = await anext(live, None)
            if not accumulator.started:
                thought.defer(Reason.STUDENT_FAILED)
            else:
                thought.student = accumulator.completion(thought.prompt, self._count_tokens)
                answer = thought.student_answer(self._count_tokens)
                yield usage_chunk(answer)
        except TutelageError as error:
            if not accumulator.started:
                called = error.tool if isinstance(error, CallsTools) else None
                reason = Reason.UNKNOWN_TOOL if called else Reason.STUDENT_FAILED
                thought.defer(reason, error, detail=called)
                return
            failure = error
            raise
        except TimeoutError:
            thought.defer(Reason.STUDENT_LATE)
            return
        except (asyncio.CancelledError, GeneratorExit) as error:
            failure = error
            raise
        finally:
            thought.latency_s["student"] = self._timer() - asked_s
            if accumulator.started or failure is not None:
                if accumulator.started:
                    thought.student = accumulator.completion(thought.prompt, self._count_tokens)
                    if not accumulator.has_usage:
                        thought.estimated.add("student")
                    self._deliberator.count_votes(thought)
                _, written = self.conclude(thought, thought.student, None, error=failure)
                if not isinstance(failure, asyncio.CancelledError):
                    await asyncio.shield(written)

    async def _teacher_live(self, thought: Deliberation) -> AsyncGenerator[dict[str, Any]]:
        self.start_shadow(thought)
        accumulator, asked_s = Accumulator(), self._timer()
        failure: BaseException | None = None
        try:
            async with aclosing(self._teacher.stream(thought.request)) as live:
                async for chunk in live:
                    accumulator.add(chunk)
                    yield {**chunk, "model": thought.request.model}
        except (ModelError, asyncio.CancelledError, GeneratorExit) as error:
            failure = error
            raise
        finally:
            thought.latency_s["teacher"] = self._timer() - asked_s
            partial = None
            if accumulator.started:
                partial = accumulator.completion(thought.request, self._count_tokens)
                if not accumulator.has_usage:
                    thought.estimated.add("teacher")
            usage = partial.usage if partial else None
            _, written = self.conclude(thought, partial, usage, error=failure)
            if not isinstance(failure, asyncio.CancelledError):
                await asyncio.shield(written)

    async def _answered(
        self, thought: Deliberation, completion: Completion, teacher_usage: Usage | None
    ) -> Answer:
        trace, written = self.conclude(thought, completion, teacher_usage)
        if thought.aside_task is None:
            await asyncio.shield(written)
        return Answer(completion, thought.decision, trace.id, trace)

    async def _give_up(self, thought: Deliberation, error: BaseException) -> None:
        _, written = self.conclude(thought, None, None, error=error)
        if isinstance(error, ModelError):
            await asyncio.shield(written)


def _wants_usage(request: ChatRequest) -> bool:
    options = (request.model_extra or {}).get("stream_options") or {}
    return bool(options.get("include_usage"))
