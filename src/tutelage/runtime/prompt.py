"""Demonstrations placed in a request. Pure: the same arguments give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.runtime.errors import ContextTooLong
from tutelage.runtime.steps import INSTRUCTION_ROLES, tool_calls
from tutelage.runtime.types import ChatRequest, Demonstration, Message, Retrieved, Step

CountTokens = Callable[[str], int]
Layout = Literal["per-step", "pinned", "pinned-delta"]

# What a chat template adds around one message: role name and separators.
TOKENS_PER_MESSAGE = 5


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How the student's prompt is laid out."""

    rendering: Literal["turns", "block"] = "turns"
    """``turns``: user/assistant pairs; ``block``: quoted text in one message a demonstration."""
    layout: Layout = "per-step"
    """``per-step``: retrieved anew at each step (arXiv 2512.02543); ``pinned``: chosen once an
    episode and byte-stable, the per-step ones just before the latest observation; ``pinned-delta``:
    as ``pinned``, and what the prefix shows already is not shown again."""
    history_turns: int | None = 5
    """Latest turns of the transcript that the student sees; ``None`` keeps all, as the pinned
    layouts always do: a transcript that only grows keeps the prefix stable."""
    mirror: bool = True
    """Whether the transcript beside demonstrations is cut as they are: goal and as many turns as
    their windows have, so that a small student only has to go on with the pattern. With
    ``per-step`` older turns are left out, with ``pinned-delta`` they stand before the
    demonstrations of the step."""
    unaided_first: bool = False
    """Whether the student is first asked without demonstrations, and with them only where its
    samples disagree or the policy does not accept them."""
    max_prompt_tokens: int = 1600
    """Budget of the whole prompt; the lowest-scored demonstrations go first, then old turns."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request for the student, and the demonstrations that fit into it."""

    request: ChatRequest
    demonstrations: tuple[Retrieved, ...]
    """In prompt order: the best one last."""
    parts: Mapping[str, int]
    """Tokens of the request by part: ``system``, ``demonstrations``, ``history``."""


def render(
    request: ChatRequest,
    step: Step,
    retrieved: Sequence[Retrieved],
    settings: PromptSettings,
    count_tokens: CountTokens,
    *,
    pinned: Sequence[Retrieved] = (),
) -> Rendered:
    """Places demonstrations into a request as data, never in the user's own instructions.

    Args:
        request: The client's request; it is not changed.
        step: The step that was read from it.
        retrieved: Demonstrations for this step, best first; with ``pinned-delta`` those that a
            pinned one covers are left out.
        settings: Rendering, layout and budget.
        count_tokens: Tokens of a text, as the student counts them.
        pinned: Demonstrations of the whole episode (pinned layouts only), best first.

    Raises:
        ContextTooLong: The instructions and the latest observation alone exceed the budget.
    """
    instructions = _joined([m for m in request.messages if m.role in INSTRUCTION_ROLES])
    transcript = [m for m in request.messages if m.role not in INSTRUCTION_ROLES]
    keep = settings.history_turns if settings.layout == "per-step" else None
    cost = _MessageCost(count_tokens)
    budget = settings.max_prompt_tokens - cost.of(instructions)
    if settings.layout == "pinned-delta":
        retrieved = [one for one in retrieved if not is_covered(one, pinned)]
    lead = [(one, _messages(one.demonstration, settings.rendering)) for one in pinned]
    near = [(one, _messages(one.demonstration, settings.rendering)) for one in retrieved]
    lead_tokens = [cost.of(messages) for _, messages in lead]
    near_tokens = [cost.of(messages) for _, messages in near]
    if settings.layout == "pinned-delta" and near:
        budget -= count_tokens(f"Task: {step.goal}\n")
    goal = None
    if settings.mirror and settings.layout == "per-step" and retrieved:
        keep = max(len(one.demonstration.window) for one in retrieved) - 1
        goal = step.goal
    body = _shorten(transcript, keep, goal)
    body_tokens = cost.of(body)
    while sum(lead_tokens) + sum(near_tokens) + body_tokens > budget:
        if near:
            near.pop()
            near_tokens.pop()
        elif lead:
            lead.pop()
            lead_tokens.pop()
        else:
            turns = sum(m.role == "assistant" for m in body)
            if turns == 0:
                raise ContextTooLong(
                    f"the step needs {cost.of(instructions) + body_tokens} tokens without any "
                    f"demonstration, more than prompt.max_prompt_tokens = "
                    f"{settings.max_prompt_tokens}: raise it, or shorten the observation"
                )
            keep = turns - 1
            body = _shorten(transcript, keep, goal)
            body_tokens = cost.of(body)
    lead.reverse()
    near.reverse()
    before = [message for _, messages in lead for message in messages]
    between = [message for _, messages in near for message in messages]
    if settings.layout == "per-step":
        messages = [*instructions, *before, *between, *body]
    elif settings.layout == "pinned-delta" and settings.mirror and _is_plain(body):
        turns = max((len(one.demonstration.window) for one, _ in near), default=1) - 1
        head, tail = _parted(body, turns, step.goal) if near else (body, [])
        messages = [*instructions, *before, *head, *between, *tail]
    else:
        messages = [*instructions, *before, *_with_delta(body, between, step)]
    return Rendered(
        request.model_copy(update={"messages": messages}),
        tuple(one for one, _ in [*lead, *near]),
        {
            "system": cost.of(instructions),
            "demonstrations": sum(lead_tokens) + sum(near_tokens),
            "history": body_tokens,
        },
    )


def is_covered(one: Retrieved, pinned: Sequence[Retrieved]) -> bool:
    """Whether a pinned window holds the step that a demonstration is about."""
    about = one.demonstration
    return any(
        shown.trajectory_id == about.trajectory_id
        and 0 <= about.step_index - _first_step(shown) < len(shown.window)
        for shown in (other.demonstration for other in pinned)
    )


def demonstration_tokens(
    demonstration: Demonstration, rendering: str, count_tokens: CountTokens
) -> int:
    """What a demonstration adds to a prompt, by the count that ``max_prompt_tokens`` goes by."""
    return _MessageCost(count_tokens).of(_messages(demonstration, rendering))


def _first_step(demonstration: Demonstration) -> int:
    return demonstration.step_index - demonstration.target % len(demonstration.window)


@dataclass(frozen=True, slots=True)
class _MessageCost:
    count_tokens: CountTokens

    def of(self, messages: Sequence[Message]) -> int:
        return sum(
            self.count_tokens(m.text if not m.tool_calls else f"{m.text}{m.tool_calls}")
            + TOKENS_PER_MESSAGE
            for m in messages
        )


def _messages(demonstration: Demonstration, rendering: str) -> list[Message]:
    if rendering == "block":
        lines = [f"Example of another episode. Task: {demonstration.goal}"]
        for turn in demonstration.window:
            lines += [f"Observation: {turn.observation}", f"Action: {turn.action}"]
        text = "\n".join(lines)
        return [
            Message(role="user", content=f"<example>\n{text}\n</example>"),
            Message(role="assistant", content="Noted."),
        ]
    messages: list[Message] = []
    called: list[str] = []
    for position, turn in enumerate(demonstration.window):
        if called:
            messages += _tool_results(called, turn.observation)
        else:
            head = f"Task: {demonstration.goal}\n" if position == 0 else ""
            messages.append(Message(role="user", content=head + turn.observation))
        calls = tool_calls(turn.action)
        called = []
        if calls is None:
            messages.append(Message(role="assistant", content=turn.action))
        else:
            calls = [{**call, "id": f"{position}_{call['id']}"} for call in calls]
            messages.append(Message(role="assistant", content=None, tool_calls=calls))
            called = [str(call["id"]) for call in calls]
    # A tool call without its result is refused by most chat APIs.
    return messages + _tool_results(called, "(end of example)")


def _tool_results(call_ids: Sequence[str], observation: str) -> list[Message]:
    """One result a call; the observation of the turn stands in the first."""
    texts = [observation, *["(see above)"] * (len(call_ids) - 1)]
    return [
        Message.model_validate({"role": "tool", "content": text, "tool_call_id": call_id})
        for call_id, text in zip(call_ids, texts, strict=False)
    ]


def _joined(instructions: list[Message]) -> list[Message]:
    """Instructions as at most one system message.

    Templates of small models know no ``developer`` and expect a single system message in front;
    some drop what else there is without a word.
    """
    if not instructions or (len(instructions) == 1 and instructions[0].role == "system"):
        return instructions
    return [Message(role="system", content="\n\n".join(m.text for m in instructions))]


def _shorten(transcript: Sequence[Message], keep: int | None, goal: str | None) -> list[Message]:
    """The opening, or just the goal, and the latest ``keep`` turns."""
    actions = [i for i, message in enumerate(transcript) if message.role == "assistant"]
    if keep is None or len(actions) <= keep:
        return list(transcript)
    opening = list(transcript[: actions[0]])
    start = actions[-keep] if keep else len(transcript)
    previous = actions[-keep - 1]
    # The observation that led to the oldest kept action joins the opening, so that roles alternate.
    seen = [m.text for m in transcript[previous + 1 : start]]
    head = opening[-1]
    if goal is not None:
        told = head.model_copy(update={"content": "\n".join([f"Task: {goal}", *seen])})
        return [told, *transcript[start:]]
    merged = head.model_copy(update={"content": "\n".join([head.text, *seen])})
    return [*opening[:-1], merged, *transcript[start:]]


def _is_plain(body: Sequence[Message]) -> bool:
    """Whether the transcript is one of user and assistant, without calls of tools."""
    return body[0].role == body[-1].role == "user" and all(
        message.role in ("user", "assistant") and not message.tool_calls for message in body
    )


def _parted(
    body: list[Message], turns: int, goal: str
) -> tuple[Sequence[Message], Sequence[Message]]:
    """The transcript before its latest turns, as it stands, and those turns below the goal."""
    actions = [i for i, message in enumerate(body) if message.role == "assistant"]
    if len(actions) <= turns:
        return [], body
    return body[: actions[-turns - 1] + 1], _shorten(body, turns, goal)


def _with_delta(body: list[Message], delta: list[Message], step: Step) -> list[Message]:
    """The delta stands before the latest observation, so that all before it is a stable prefix."""
    if not delta:
        return body
    if body[-1].role != "user":
        return [*delta, *body]
    latest = body[-1]
    if step.index > 0:
        latest = latest.model_copy(update={"content": f"Task: {step.goal}\n{latest.text}"})
    return [*body[:-1], *delta, latest]
