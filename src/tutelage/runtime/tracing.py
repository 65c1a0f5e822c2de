"""What is written down of a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from tutelage.runtime.deliberation import Deliberation
from tutelage.runtime.errors import PriceUnknown, StoreError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.offered_tools import tools_sha256
from tutelage.runtime.pricing import Price
from tutelage.runtime.prompt import CountTokens
from tutelage.runtime.protocols import TraceStore
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import Completion, Served, Trace, Usage

logger = logging.getLogger(__name__)

ROLES: tuple[Served, ...] = ("student", "teacher")


@runtime_checkable
class PostedTraces(Protocol):
    """A store that takes traces for which nobody waits."""

    def post(self, trace: Trace, settle: Callable[[StoreError | None], object]) -> bool:
        """Leaves a trace to be stored soon; ``False`` if too many wait, and nothing was done.

        Args:
            trace: Which.
            settle: Called with ``None`` when it is durable, else with what it is lost for.

        Raises:
            StoreError: It cannot be stored.
        """
        ...


class Tracer:
    """Turns deliberations and answers into traces and keeps them.

    Args:
        traces: Where traces go.
        ledger: Prices the tokens of both roles.
        count_tokens: Tokens of a text, for calls that were given up.
        clock: Unix time in seconds.
        timer: The monotonic clock that deliberations were started by.
    """

    def __init__(
        self,
        traces: TraceStore,
        ledger: Ledger,
        count_tokens: CountTokens,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._traces = traces
        self._posted = traces if isinstance(traces, PostedTraces) else None
        self._ledger = ledger
        self._count_tokens = count_tokens
        self._clock = clock
        self._timer = timer
        self.lost = 0

    def check_prices(self, model: str) -> None:
        """Finds a missing price before any token is spent.

        Raises:
            PriceUnknown: A role has no price.
        """
        for role in ROLES:
            self._ledger.price(role, model)

    def price(self, role: Served, model: str) -> Price | None:
        """What the tokens of a role cost; ``None`` if nobody knows."""
        try:
            return self._ledger.price(role, model)
        except PriceUnknown:
            return None

    def trace(
        self, thought: Deliberation, completion: Completion | None, teacher_usage: Usage | None
    ) -> Trace:
        """The trace of a request; without a completion the teacher failed or was given up."""
        step, decision = thought.step, thought.decision
        request, seen = thought.request, thought.aside or thought
        baseline = thought.teacher_price or self.price("teacher", request.model)
        served_tokens = teacher_usage or (completion.usage if completion else None)
        usage: dict[Served, Usage] = {}
        student_usage = seen.student_usage(self._count_tokens)
        if student_usage is not None:
            usage["student"] = student_usage
        if teacher_usage is not None:
            usage["teacher"] = teacher_usage
        # An unknown price is slow to find: its error names similar ones.
        prices = {
            role: price
            for role in usage
            if (price := baseline if role == "teacher" else self.price(role, request.model))
            is not None
        }
        estimated = thought.estimated | seen.estimated
        thought.latency_s["total"] = self._timer() - thought.started_s
        shown = seen.prompt or request
        return Trace(
            id=thought.id,
            tenant=thought.episode.tenant,
            episode_id=thought.episode.id,
            step_index=step.index,
            created_at_s=self._clock(),
            model=request.model,
            mode=thought.mode,
            key_id=thought.key_id,
            no_train=thought.no_train,
            student=seen.release,
            goal=step.goal,
            observation=step.observation,
            answer=action_text(completion.choices[0].message) if completion else "",
            action=thought.action,
            finished=thought.finished,
            decision=decision,
            shadow=thought.aside.decision if thought.aside else None,
            samples=seen.samples,
            agreement=seen.agreement.share if seen.agreement else None,
            features=dict(seen.agreement.features) if seen.agreement else {},
            demonstrations=tuple(one.demonstration.id for one in seen.demonstrations),
            prompt=tuple(m.model_dump(exclude_unset=True) for m in shown.messages),
            prompt_parts=seen.asked_parts(),
            tools=tuple(request.tools or ()),
            tools_sha256=tools_sha256(request.tools),
            usage=usage,
            estimated=tuple(role for role in ROLES if role in usage and role in estimated),
            cost_usd={role: price.cost_usd(usage[role]) for role, price in prices.items()},
            uncached_cost_usd={
                role: price.uncached_cost_usd(usage[role]) for role, price in prices.items()
            },
            baseline_cost_usd=baseline.uncached_cost_usd(served_tokens)
            if baseline is not None and completion is not None and served_tokens is not None
            else None,
            latency_s={**seen.latency_s, **thought.latency_s},
            error=thought.error or seen.error,
        )

    async def store(self, trace: Trace) -> None:
        """Keeps a trace; one that cannot be kept is counted and fails nothing."""
        outcome: StoreError | None = None
        try:
            await self._traces.append(trace)
        except StoreError as error:
            outcome = error
        self._settled(trace.id, _ignored, outcome)
        _tell(trace)

    def post(
        self, trace: Trace, settled: Callable[[StoreError | None], object] | None = None
    ) -> bool:
        """Has a trace kept for which nobody waits; ``False`` if it has to be waited for.

        One that cannot be kept is counted and fails nothing.

        Args:
            trace: Which.
            settled: Called with ``None`` when it is durable, else with what it is lost for.
        """
        if self._posted is None:
            return False
        try:
            if not self._posted.post(trace, partial(self._settled, trace.id, settled or _ignored)):
                return False
        except StoreError as error:
            self._settled(trace.id, settled or _ignored, error)
        _tell(trace)
        return True

    def _settled(
        self,
        id: str,
        settled: Callable[[StoreError | None], object],
        outcome: StoreError | None,
    ) -> None:
        if outcome is not None:
            self.lost += 1
            logger.error("trace %s is lost: %s", id, outcome)
        settled(outcome)


def _ignored(_: StoreError | None) -> None:
    return None


def _tell(trace: Trace) -> None:
    if logger.isEnabledFor(logging.INFO):
        logger.info(
            "served=%s reason=%s samples=%d demos=%d cost_usd=%.6f latency_s=%.3f",
            trace.decision.served,
            trace.decision.reason.value,
            len(trace.samples),
            len(trace.demonstrations),
            sum(trace.cost_usd.values()),
            trace.latency_s["total"],
        )
