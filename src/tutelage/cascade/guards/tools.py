"""The guard over what a student may do with tools, and over the form of its answers."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.cascade.canonical.strict_json import compact_json, strict_json
from tutelage.cascade.canonical.tools import offered
from tutelage.cascade.guards.arguments import ArgumentCheck
from tutelage.cascade.guards.form import broken_demand
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import (
    Action,
    Agreement,
    Decision,
    Message,
    Reason,
    Retrieved,
    SamplePlan,
    Step,
)


class ToolGuard:
    """The teacher takes a step whose answer calls a tool that the student may not call.

    That is a tool that the request does not offer, one called with arguments that do not fit its
    schema, and one that is reserved for the teacher. The teacher also takes a step whose answer has
    not the form that the client demands: no call although one is due, a call of another tool, a
    text that is not the JSON that is asked for. Agreement is no defence here: all samples see the
    same poisoned demonstration.

    Args:
        policy: The policy whose decisions for the student are checked.
        teacher_only: Names of reserved tools, or shell patterns of them.
    """

    def __init__(self, policy: DeferralPolicy, teacher_only: Sequence[str] = ()) -> None:
        self._policy = policy
        self._teacher_only = tuple(teacher_only)
        self._check = ArgumentCheck()

    def prepare(self) -> None:
        """Loads what checks schemas, which takes some tens of milliseconds."""
        self._check.prepare()

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The wrapped policy's plan; the teacher where no answer could be judged."""
        if step.form is not None and step.form.unknown is not None:
            reason, detail = Reason.UNSUPPORTED, step.form.unknown
            return Decision(served="teacher", reason=reason, detail=detail)
        return self._policy.plan(step, demonstrations)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The wrapped policy's decision, or the teacher where the answer is not the student's."""
        decision = self._policy.decide(step, agreement, demonstrations)
        answer = agreement.answer or _answer(agreement.modal)
        # Also where the policy wants the teacher: a caller may insist on the student.
        found = None if answer is None else self._objection(step, answer)
        if found is None:
            return decision
        reason, detail = found
        return Decision(served="teacher", reason=reason, score=decision.score, detail=detail)

    def _objection(self, step: Step, answer: Message) -> tuple[Reason, str] | None:
        schemas = dict(offered(step.tools))
        calls = list(_calls(answer))
        for name, arguments in calls:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._teacher_only):
                return Reason.TEACHER_ONLY_TOOL, name
            is_sound = name in schemas and isinstance(arguments, dict)
            if not is_sound or not self._check.fits(arguments, schemas[name]):
                return Reason.UNKNOWN_TOOL, name
        if step.form is None:
            return None
        broken = broken_demand(step.form, answer, [name for name, _ in calls], self._check)
        return None if broken is None else (Reason.WRONG_FORM, broken)


def _answer(action: Action | None) -> Message | None:
    """The answer that an action stands for, where the sample itself is not at hand."""
    if action is None or action.kind != "tool":
        return None if action is None else Message(role="assistant", content=action.key)
    calls = [
        {"function": {**call, "arguments": compact_json(call["arguments"])}}
        for call in strict_json(action.key)["tool_calls"]
    ]
    return Message(role="assistant", tool_calls=calls)


def _calls(answer: Message) -> Iterator[tuple[str, Any]]:
    """Names and decoded arguments of all calls; ``None`` for arguments that are not JSON."""
    old = (answer.model_extra or {}).get("function_call")
    for call in answer.tool_calls or ():
        function = call.get("function")
        yield _call(function if isinstance(function, Mapping) else {})
    if isinstance(old, Mapping):
        # No request that offers functions in the old way reaches a student.
        yield str(old.get("name")), None


def _call(function: Mapping[str, Any]) -> tuple[str, Any]:
    name, arguments = str(function.get("name") or ""), function.get("arguments")
    if isinstance(arguments, str | None):
        try:
            # Some endpoints send an empty text for a call without arguments.
            arguments = strict_json(arguments) if arguments and arguments.strip() else {}
        except (ValueError, RecursionError):
            arguments = None
    return name, arguments
