"""The seams: what the runtime needs from the rooms, and what they may rely on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tutelage.runtime.types import (
    Agreement,
    ChatRequest,
    Choice,
    Completion,
    Decision,
    EpisodeRecord,
    Retrieved,
    SamplePlan,
    Step,
    StepAudit,
    Trace,
)


class Model(Protocol):
    """A chat model; student and teacher are roles of it."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices for one prompt in one call.

        Raises:
            ModelError: The model failed.
        """
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of a streamed answer as OpenAI ``chat.completion.chunk`` objects.

        Raises:
            ModelError: The model failed; after the first chunk this ends the stream.
        """
        ...


class Retriever(Protocol):
    """Finds the teacher's demonstrations that fit a step."""

    async def search(self, step: Step) -> Sequence[Retrieved]:
        """Ranked demonstrations of the step's tenant, best first; may be empty.

        Raises:
            RetrievalError: The bank cannot be searched.
        """
        ...


class AgreementRule(Protocol):
    """Compares samples by the action they name."""

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples; a sample that names no action counts as a disagreement.

        Args:
            choices: The samples drawn.
            planned: How many were to be drawn; absent: these. With fewer drawn, ``settled`` says
                whether the rest could change anything.
        """
        ...

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        ...


@runtime_checkable
class ToolAware(Protocol):
    """An agreement rule that can compare by the tools that a step offers."""

    def for_tools(self, tools: Sequence[Mapping[str, Any]]) -> AgreementRule:
        """The rule for a step that offers these OpenAI tools."""
        ...


def rule_for(rule: AgreementRule, tools: Sequence[Mapping[str, Any]]) -> AgreementRule:
    """The rule as it compares in a step with these tools."""
    return rule.for_tools(tools) if tools and isinstance(rule, ToolAware) else rule


class Describer(Protocol):
    """Turns what is known of a step into numbers that a policy can weigh."""

    def describe(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Mapping[str, float]:
        """The features of a step by name; one that is missing is left out."""
        ...


class DeferralPolicy(Protocol):
    """Decides whether the student or the teacher serves a step."""

    def plan(
        self, step: Step, demonstrations: Sequence[Retrieved] | None = None
    ) -> SamplePlan | Decision:
        """How to sample the student, or a decision that needs no sample.

        Args:
            step: The step.
            demonstrations: What was retrieved for it; absent before that. A plan that ``waits`` is
                asked for again when they are there.
        """
        ...

    def decide(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Decision:
        """Who serves the step, given the samples. Pure: asking twice gives the same answer."""
        ...


@dataclass(frozen=True, slots=True)
class ActingStudent:
    """The student of one step, and what was fitted to it."""

    model: Model
    policy: DeferralPolicy
    describer: Describer | None = None
    release: str | None = None
    """Name of the release, such as ``student@7``; ``None``: as it is configured."""


class StudentChoice(Protocol):
    """Chooses among the releases of a student."""

    async def student_for(self, step: Step) -> ActingStudent | None:
        """Who acts in a step, the same one throughout an episode; ``None``: as it is configured.

        Raises:
            TutelageError: It cannot be told; the teacher takes the step.
        """
        ...


class TraceStore(Protocol):
    """Keeps traces and episodes."""

    async def append(self, trace: Trace) -> None:
        """Stores a trace durably before it returns; a second append of the same id does nothing.

        Raises:
            StoreError: The trace could be neither stored nor spooled.
        """
        ...

    async def record_episode(self, episode: EpisodeRecord) -> None:
        """Creates the episode, or updates outcome fields that are not ``None``.

        Raises:
            StoreError: The episode could be neither stored nor spooled.
        """
        ...


class DriftWatch(Protocol):
    """Hears what traffic says of the student, and may make its policy stricter."""

    def audited(self, episode_id: str, agrees: bool, release: str | None = None) -> None:
        """Takes note of what the teacher said of a step that the student served.

        Args:
            episode_id: Of the step.
            agrees: Whether the teacher named the same action.
            release: The release of the student; ``None``: as it is configured.
        """
        ...

    def ended(self, episode_id: str, success: bool, release: str | None = None) -> None:
        """Takes note of how an episode of the cascade ended; arguments as ``audited``."""
        ...


class AuditTrigger(Protocol):
    """Chooses the student's steps that the teacher is asked about afterwards."""

    def chosen(self, tenant: str, decision_id: str) -> float | None:
        """The probability with which the step was chosen; ``None`` if it was not."""
        ...


class AuditStore(Protocol):
    """Keeps what the teacher said of the student's steps."""

    async def record_audit(self, audit: StepAudit) -> None:
        """Keeps an audit; a second one of the same trace does nothing.

        Raises:
            StoreError: It cannot be kept.
        """
        ...
