"""What is left to do of an answer: its trace, its audit, and the work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tutelage.runtime.auditing import Auditing
from tutelage.runtime.deliberation import Deliberation, line
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.prompt import CountTokens
from tutelage.runtime.tracing import Tracer
from tutelage.runtime.types import Completion, Trace, Usage


class Concluder:
    """Concludes deliberations, and supervises what outlives their requests.

    Args:
        tracer: Makes and keeps traces.
        auditing: Asks the teacher about some of the student's steps; absent: about none.
        count_tokens: Tokens of a text, for calls that were given up.
    """

    def __init__(
        self, tracer: Tracer, auditing: Auditing | None, count_tokens: CountTokens
    ) -> None:
        self._tracer = tracer
        self._auditing = auditing
        self._count_tokens = count_tokens
        self._pending: set[asyncio.Task[None]] = set()

    async def finish(self) -> None:
        """Waits for all supervised work, also for what is begun meanwhile."""
        while self._pending:
            await asyncio.wait(self._pending)

    def supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that no cancelled request may cut short; ``finish`` waits for it."""
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    def conclude(
        self,
        thought: Deliberation,
        completion: Completion | None,
        teacher_usage: Usage | None,
        *,
        error: BaseException | None,
        awaited: bool,
    ) -> tuple[Trace, asyncio.Future[None]]:
        """As ``Runtime.conclude``."""
        if error is not None:
            thought.error, thought.finished = _cause(error), False
            was_asked = "teacher" in thought.latency_s
            if teacher_usage is None and was_asked and not isinstance(error, Exception):
                counted = sum(self._count_tokens(m.text) for m in thought.request.messages)
                teacher_usage = Usage(input_tokens=counted)
                thought.estimated.add("teacher")
        thought.episode.served[thought.step.index] = thought.decision.served
        if thought.decision.served == "student":
            thought.episode.release = thought.release
        trace = thought.trace = self._tracer.trace(thought, completion, teacher_usage)
        thought.episode.spent_usd += sum(trace.cost_usd.values())
        audit = self._start_audit(thought, trace)
        if thought.aside_task is not None:
            return trace, self.supervise(self._store_aside(thought, completion, teacher_usage))
        if not awaited and audit is None and self._tracer.post(trace):
            taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            taken.set_result(None)
            return trace, taken
        return trace, self.supervise(self._store(trace, audit))

    def _start_audit(self, thought: Deliberation, trace: Trace) -> asyncio.Task[None] | None:
        """Starts the audit of a step that is chosen for one; returns it where it is waited for."""
        if self._auditing is None:
            return None
        propensity = self._auditing.propensity(thought, trace)
        if propensity is None:
            return None
        asking = self.supervise(self._auditing.ask(thought, trace, propensity))
        return asking if self._auditing.waits else None

    async def _store(self, trace: Trace, audit: asyncio.Task[None] | None) -> None:
        await self._tracer.store(trace)
        if audit is not None:
            await audit

    async def _store_aside(
        self, thought: Deliberation, completion: Completion | None, teacher_usage: Usage | None
    ) -> None:
        """Stores the trace when the student that works aside has come to its end."""
        assert thought.aside_task is not None
        if thought.error is not None:
            thought.aside_task.cancel()
        await asyncio.wait([thought.aside_task])
        thought.trace = self._tracer.trace(thought, completion, teacher_usage)
        await self._tracer.store(thought.trace)


def _cause(error: BaseException) -> str:
    if isinstance(error, TutelageError):
        return line(error)
    if isinstance(error, Exception):
        # Its text may quote the request, and is not for clients.
        return type(error).__name__
    return "cancelled: the caller left before the answer was complete"
