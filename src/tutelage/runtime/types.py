"""The nouns of the runtime: wire shapes (pydantic) and inner values (frozen dataclasses)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tutelage.runtime.answer_form import AnswerForm

Served = Literal["student", "teacher"]
Draw = Literal["together", "sequential", "racing"]
"""One call for all samples; one by one until it is settled; all at once, the late ones given up."""
Mode = Literal["passthrough", "route", "cascade", "shadow"]
"""How student and teacher share the work: the teacher alone; decided before anything is sampled;
the student where its samples agree; the teacher with the student working aside."""


class Message(BaseModel):
    """One chat message in the OpenAI shape; unknown fields are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of the message; text parts of a list are joined, other parts left out."""
        if isinstance(self.content, str):
            return self.content
        parts = self.content or []
        return "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


class ChatRequest(BaseModel):
    """A chat completion request in the OpenAI shape; unknown fields are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str
    messages: list[Message]
    n: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    stream: bool | None = None

    def wire(self, **overrides: Any) -> dict[str, Any]:
        """The JSON body: the fields that were set, then ``overrides``; ``None`` removes one."""
        body = self.model_dump(exclude_unset=True)
        for name, value in overrides.items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        return body


class Usage(BaseModel):
    """Tokens of one or several model calls, in the buckets that are billed apart."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int = 0
    """Prompt tokens at the full price: neither read from nor written to a prompt cache."""
    cache_read_tokens: int = 0
    """Prompt tokens that the endpoint served from its prompt cache."""
    cache_write_tokens: int = 0
    """Prompt tokens that the endpoint wrote to its prompt cache."""
    output_tokens: int = 0
    """Generated tokens, all samples together."""

    @property
    def prompt_tokens(self) -> int:
        """All prompt tokens, cached or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    @classmethod
    def from_wire(cls, usage: Mapping[str, Any] | None) -> Usage:
        """Reads the ``usage`` object of an OpenAI-compatible answer; absent counts are 0."""
        usage = usage or {}
        details = usage.get("prompt_tokens_details") or {}
        prompt = int(usage.get("prompt_tokens") or 0)
        read = min(int(details.get("cached_tokens") or 0), prompt)
        written = min(int(details.get("cache_write_tokens") or 0), prompt - read)
        return cls(
            input_tokens=prompt - read - written,
            cache_read_tokens=read,
            cache_write_tokens=written,
            output_tokens=int(usage.get("completion_tokens") or 0),
        )

    def wire(self) -> dict[str, Any]:
        """The ``usage`` object of an OpenAI answer."""
        details = {"cached_tokens": self.cache_read_tokens}
        if self.cache_write_tokens:
            details["cache_write_tokens"] = self.cache_write_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "prompt_tokens_details": details,
        }


class Choice(BaseModel):
    """One sampled answer of a completion; unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    index: int
    message: Message
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class Completion(BaseModel):
    """The answer of one model call: n choices that share one prompt and one bill."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    model: str
    created: int = 0
    choices: list[Choice]
    usage: Usage = Field(default_factory=Usage)
    usage_details: dict[str, Any] = Field(default_factory=dict, exclude=True)
    """The endpoint's own usage object, with counts that ``usage`` does not keep."""

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choices[0].message.text

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Completion:
        """Reads an OpenAI chat completion object.

        Raises:
            pydantic.ValidationError: The body is not a chat completion.
        """
        usage = body.get("usage")
        read = {"usage": Usage.from_wire(usage), "usage_details": usage or {}}
        return cls.model_validate({**body, **read})

    def wire(self) -> dict[str, Any]:
        """The completion as an OpenAI chat completion object."""
        body = self.model_dump(exclude_unset=True)
        counts = self.usage.wire()
        details = self.usage_details
        if details.get("prompt_tokens") == counts["prompt_tokens"]:
            counts = {**counts, **details}
        return {"object": "chat.completion", **body, "usage": counts}


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent saw and what it then did."""

    observation: str
    action: str
    served: Served | None = None
    """Who chose the action, where that is known."""


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of an agent: all that is known before it acts."""

    tenant: str
    episode_id: str
    index: int
    """0 for the first decision of the episode."""
    goal: str
    observation: str
    """The latest observation."""
    history: tuple[Turn, ...] = ()
    """Earlier turns, oldest first."""
    tools: tuple[Mapping[str, Any], ...] = ()
    task_id: str | None = None
    """The environment's id of the task; demonstrations with the same id are never retrieved."""
    spent_usd: float = 0.0
    """What the episode has cost so far in this process, both roles, as billed."""
    form: AnswerForm | None = None
    """What the client demands of the form of the answer; ``None``: nothing."""


@dataclass(frozen=True, slots=True)
class Action:
    """The canonical form of what an agent does: equal actions have equal ``key`` and ``kind``."""

    kind: Literal["text", "tool", "code"]
    key: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a set of samples names the same action."""

    votes: tuple[tuple[Action, int], ...]
    """Distinct usable actions with their counts, most frequent first, then by first sample."""
    samples: int
    """All samples drawn, usable or not."""
    chosen: int | None
    """Index of the first sample that names the modal action; ``None`` if no sample was usable."""
    agreed: bool
    """Whether the rule calls this an agreement."""
    settled: bool = True
    """Whether no further sample of those planned can change what the rule says."""
    weighted_share: float | None = None
    """Share of the modal action by likelihood, where the rule weighs samples."""
    recalled: bool = False
    """Whether the votes are those of demonstrations: no model was asked."""
    answer: Message | None = None
    """The sample that is served if the student serves."""
    logprobs: tuple[float, ...] = ()
    """Log-probabilities of the chosen sample's tokens, where the endpoint gave them."""
    features: Mapping[str, float] = field(default_factory=dict)
    """What else is known of the step, by name; a feature that is missing is left out."""

    @property
    def modal(self) -> Action | None:
        """The action with the most votes, or the most weight."""
        return self.votes[0][0] if self.votes else None

    @property
    def share(self) -> float:
        """Votes (or weight) of the modal action over those of all samples, in [0, 1]."""
        if self.weighted_share is not None:
            return self.weighted_share
        return self.votes[0][1] / self.samples if self.votes else 0.0


class Reason(StrEnum):
    """Why a step was served by whom; a closed list."""

    AGREED = "agreed"
    DISAGREED = "disagreed"
    ALWAYS = "always"
    RANDOM = "random"
    LOOP = "loop"
    REJECTED = "rejected"
    STALL = "stall"
    UNUSABLE = "unusable"
    FORCED = "forced"
    UNSUPPORTED = "unsupported"
    UNDECIDED = "undecided"
    CERTIFIED = "certified"
    CONFIDENT = "confident"
    UNCERTAIN = "uncertain"
    BENEFIT = "benefit"
    NO_BENEFIT = "no_benefit"
    RECALLED = "recalled"
    UNCOVERED = "uncovered"
    UNLIKELY = "unlikely"
    STICKY = "sticky"
    BUDGET = "budget"
    HOLDOUT = "holdout"
    ALARM = "alarm"
    PASSTHROUGH = "passthrough"
    SHADOW = "shadow"
    TEACHER_ONLY_TOOL = "teacher_only_tool"
    UNKNOWN_TOOL = "unknown_tool"
    WRONG_FORM = "wrong_form"
    STUDENT_LATE = "student_late"
    RETRIEVAL_FAILED = "retrieval_failed"
    STUDENT_FAILED = "student_failed"
    POLICY_FAILED = "policy_failed"


class Decision(BaseModel):
    """Who serves a step, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    served: Served
    reason: Reason
    score: float | None = None
    """The number the policy compared with its threshold, where it has one."""
    detail: str | None = None
    """The parameter or the tool that the reason is about, where it is about one."""
    propensity: float | None = None
    """Probability with which chance alone drew the episode into its arm, where it did."""
    chance: float | None = None
    """Probability with which a toss at this step chose who serves; ``None``: none decided."""


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """How often, and how hot, the student is sampled for one step."""

    samples: int
    temperature: float | None = None
    """``None`` keeps the request's own temperature."""
    draw: Draw = "together"
    greedy_first: bool = False
    """Whether the first sample, which is the one acted on where it agrees, is the greedy one."""
    recalled: str | None = None
    """The action of demonstrations that takes the place of all samples."""
    votes: tuple[int, int] = (0, 0)
    """How many demonstrations name the recalled action, and how many were asked."""
    waits: bool = False
    """Whether the policy wants to see the demonstrations before it plans."""


class Trajectory(BaseModel):
    """An episode of one actor: ordered turns and the outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    goal: str
    turns: tuple[Turn, ...]
    success: bool
    category: str | None = None
    """Kind of task, where the source knows it."""
    plan: str | None = None
    task_id: str | None = None
    source: str
    """Who acted: a model name, or ``oracle:<name>``."""


class Demonstration(BaseModel):
    """A teacher step with the window that leads to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """``<trajectory id>:<step index>``."""
    tenant: str
    trajectory_id: str
    step_index: int
    goal: str
    category: str | None = None
    plan: str | None = None
    task_id: str | None = None
    window: tuple[Turn, ...]
    """Turns around the step, oldest first; ``window[target]`` holds the action to imitate."""
    target: int = -1
    """Index of the turn to imitate in ``window``; the last one unless turns after it are shown."""
    source: str
    state: Literal["quarantined", "active", "retired"] = "active"

    @property
    def action(self) -> str:
        """The action to imitate."""
        return self.window[self.target].action


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A demonstration with the score that ranked it."""

    demonstration: Demonstration
    score: float
    query: Any = field(default=None, compare=False, repr=False)
    """Vector of the step that it was found for, goal and state, shape (2 dimensions,)."""


class Sample(BaseModel):
    """One student sample as it stands in a trace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    action: str | None
    """Canonical key; ``None`` if the sample was not usable."""
    logprob: float | None = None  # Mean of its tokens, where the endpoint gave them.


class Trace(BaseModel):
    """Everything about one request; appended once, idempotent by ``id``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    episode_id: str
    step_index: int
    created_at_s: float
    """Unix time."""
    model: str
    """The alias that the client asked for."""
    mode: Mode = "cascade"
    key_id: str | None = None
    """The key that the request came with."""
    no_train: bool = False
    """Whether the client forbade to learn from it."""
    student: str | None = None
    """Release of the student whose turn it was, asked or not; ``None``: as it is configured."""
    goal: str
    observation: str
    answer: str
    """Text of the answer returned (tool calls as JSON)."""
    action: str | None = None
    """Canonical key of that answer, where it was compared with samples of the student."""
    finished: bool = True
    """Whether the answer came to its end."""
    decision: Decision
    shadow: Decision | None = None
    """What would have been decided, where the student only worked aside."""
    features: dict[str, float] = Field(default_factory=dict)
    """What was known of the step when it was decided, by name; a missing one is left out."""
    samples: tuple[Sample, ...] = ()
    agreement: float | None = None
    """Share of the modal action among the samples."""
    demonstrations: tuple[str, ...] = ()
    """Ids of the demonstrations in the student's prompt, in prompt order."""
    prompt: tuple[dict[str, Any], ...] = ()
    """Messages that the student got, or the teacher if the student was not asked."""
    prompt_parts: dict[str, int] = Field(default_factory=dict)
    """Tokens of the student's prompt, counted here: system, demonstrations, history."""
    tools: tuple[dict[str, Any], ...] = Field(default=(), exclude=True)
    """Definitions of the tools that the step offered, as the client sent them; stored once."""
    tools_sha256: str | None = None
    """What they are stored under; ``None``: no tool was offered."""
    usage: dict[Served, Usage] = Field(default_factory=dict)
    """Tokens by component, losing samples included."""
    estimated: tuple[Served, ...] = ()
    """Components whose tokens are estimates, as their endpoint told none."""
    cost_usd: dict[Served, float] = Field(default_factory=dict)
    """Cost by component with the cached tokens at their own price."""
    uncached_cost_usd: dict[Served, float] = Field(default_factory=dict)
    """The same tokens with every prompt token at the full input price."""
    baseline_cost_usd: float | None = None
    """What the teacher alone would have cost, uncached; estimated unless it answered."""
    latency_s: dict[str, float] = Field(default_factory=dict)
    """Wall seconds by hop: retrieve, render, student, agree, teacher, total."""
    error: str | None = None
    """A failure in one line: one that the teacher made good, or the teacher's own."""


class StepAudit(BaseModel):
    """What the teacher said, off the critical path, of a step that the student served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace_id: str
    tenant: str
    episode_id: str
    step_index: int
    created_at_s: float
    """Unix time."""
    propensity: float
    """Probability with which the step was chosen for it."""
    action: str | None = None
    """Canonical key of the teacher's action; ``None`` if it named none or its call failed."""
    agrees: bool | None = None
    """Whether that is the student's action; ``None`` if the teacher's call failed."""
    cost_usd: float = 0.0
    """What the question cost, cached tokens at their own price; in no trace."""
    uncached_cost_usd: float = 0.0
    """The same with every prompt token at the full input price."""


class EpisodeRecord(BaseModel):
    """An episode as the store keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    goal: str | None = None
    task_id: str | None = None
    success: bool | None = None
    """``None`` until feedback arrived."""
    reward: float | None = None
    comment: str | None = None
    """What whoever judged it wrote."""
    created_at_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the runtime returns for one request."""

    completion: Completion
    decision: Decision
    trace_id: str
    trace: Trace = field(repr=False)

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self.completion.text
