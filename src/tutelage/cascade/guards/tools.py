"""The guard over what a student may do with tools."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.cascade.guards.arguments import ArgumentCheck
from tutelage.runtime.protocols import DeferralPolicy
from tutelage.runtime.types import Agreement, Decision, Reason, Retrieved, SamplePlan, Step


class ToolGuard:
    """The teacher takes a step whose agreed action calls a tool that the student may not call.

    That is a tool that the request does not offer, one called with arguments that do not fit its
    schema, and one that is reserved for the teacher. Agreement is no defence here: all samples see
    the same poisoned demonstration.

    Args:
        policy: The policy whose decisions for the student are checked.
        teacher_only: Names of reserved tools, or shell patterns of them.
    """

    def __init__(self, policy: DeferralPolicy, teacher_only: Sequence[str] = ()) -> None:
        self._policy = policy
        self._teacher_only = tuple(teacher_only)
        self._check = ArgumentCheck()

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """The wrapped policy's plan."""
        return self._policy.plan(step, demonstrations)

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """The wrapped policy's decision, or the teacher where a call is not the student's."""
        decision = self._policy.decide(step, agreement, demonstrations)
        # Also where the policy wants the teacher: a caller may insist on the student.
        if agreement.modal is None or agreement.modal.kind != "tool":
            return decision
        reason = self._objection(step, json.loads(agreement.modal.key)["tool_calls"])
        if reason is None:
            return decision
        return Decision(served="teacher", reason=reason, score=decision.score)

    def _objection(self, step: Step, calls: Sequence[Mapping[str, Any]]) -> Reason | None:
        offered = dict(_functions(step.tools))
        for call in calls:
            name, arguments = call["name"], call["arguments"]
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self._teacher_only):
                return Reason.TEACHER_ONLY_TOOL
            if name not in offered or not self._check.fits(arguments, offered[name]):
                return Reason.UNKNOWN_TOOL
        return None


def _functions(tools: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """Names and argument schemas of the functions that a request offers."""
    functions = [tool.get("function") for tool in tools]
    return [
        (str(function.get("name")), function.get("parameters"))
        for function in functions
        if isinstance(function, Mapping)
    ]
