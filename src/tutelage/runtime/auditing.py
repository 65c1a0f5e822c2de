"""Audits: the teacher's opinion, off the critical path, of steps that the student served."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tutelage.runtime.deliberation import Deliberation
from tutelage.runtime.errors import ModelError, StoreError
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.protocols import (
    AgreementRule,
    AuditStore,
    AuditTrigger,
    DriftWatch,
    Model,
    rule_for,
)
from tutelage.runtime.types import StepAudit, Trace

logger = logging.getLogger(__name__)


class Auditing:
    """Asks the teacher about a random share of the student's steps, after they were answered.

    The answer that the client has is not changed. A step from which nothing may be learnt is never
    audited. A question that fails is kept as one without an opinion, and an answer of the student
    that names no action as one that the teacher does not share, so that nothing is left out of an
    estimate because it failed.

    Args:
        teacher: Who is asked.
        agreement: Compares its answer with the student's.
        trigger: Says which steps are asked about, and with which probability.
        audits: Where the opinions go.
        ledger: Prices the questions.
        clock: Unix time in seconds.
        waits: Whether the answer waits for the audit: only for a teacher that looks at the state of
            a world, which the answer would change.
        watch: Hears what the teacher said.
    """

    def __init__(
        self,
        *,
        teacher: Model,
        agreement: AgreementRule,
        trigger: AuditTrigger,
        audits: AuditStore,
        ledger: Ledger,
        clock: Callable[[], float],
        waits: bool = False,
        watch: DriftWatch | None = None,
    ) -> None:
        self._teacher = teacher
        self._agreement = agreement
        self._trigger = trigger
        self._audits = audits
        self._ledger = ledger
        self._clock = clock
        self._watch = watch
        self.waits = waits
        self.lost = 0

    def propensity(self, thought: Deliberation, trace: Trace) -> float | None:
        """With which probability this step was chosen for an audit; ``None``: it was not."""
        if trace.decision.served != "student" or thought.student is None:
            return None
        if not trace.finished or trace.no_train:
            return None
        return self._trigger.chosen(trace.tenant, trace.id)

    async def ask(self, thought: Deliberation, trace: Trace, propensity: float) -> None:
        """Asks about one step, and keeps the answer; what fails is logged and fails nobody."""
        served = thought.agreement.modal if thought.agreement is not None else None
        request = thought.request.model_copy(update={"stream": None})
        action: str | None = None
        agrees: bool | None = None
        cost_usd = uncached_cost_usd = 0.0
        try:
            answer = await self._teacher.complete(request)
        except ModelError as error:
            logger.warning("an audit has no answer: %s", log_line(error))
        else:
            rule = rule_for(self._agreement, thought.step.tools)
            action = rule.action(answer.choices[0])
            agrees = served is not None and action == served.key
            price = thought.teacher_price or self._ledger.price("teacher", request.model)
            cost_usd = price.cost_usd(answer.usage)
            uncached_cost_usd = price.uncached_cost_usd(answer.usage)
        if agrees is not None and self._watch is not None:
            self._watch.audited(trace.episode_id, agrees, trace.student)
        audit = StepAudit(
            trace_id=trace.id,
            tenant=trace.tenant,
            episode_id=trace.episode_id,
            step_index=trace.step_index,
            created_at_s=self._clock(),
            propensity=propensity,
            action=action,
            agrees=agrees,
            cost_usd=cost_usd,
            uncached_cost_usd=uncached_cost_usd,
        )
        try:
            await self._audits.record_audit(audit)
        except StoreError as error:
            self.lost += 1
            logger.error("the audit of trace %s is lost: %s", trace.id, error)
