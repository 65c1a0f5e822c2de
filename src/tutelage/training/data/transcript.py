"""The chat of an episode, rebuilt from its traces as the client sent it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.steps import INSTRUCTION_ROLES, action_text, tool_calls
from tutelage.runtime.types import Message, Trace


@dataclass(frozen=True, slots=True)
class Transcript:
    """An episode as one append-only chat."""

    messages: tuple[Message, ...]
    answers: tuple[int, ...]
    """Index of each step's answer in ``messages``."""

    def until(self, step: int) -> tuple[Message, ...]:
        """What the client sent when it asked for a step."""
        return self.messages[: self.answers[step]]


def transcript(steps: Sequence[Trace]) -> Transcript:
    """Rebuilds the chat of an episode.

    Instructions and the opening come from the first step's prompt, where they stand as they were
    sent. Later messages are those at the end of their own step's prompt, where that shows them
    unchanged, else the observation. An answer stands as the client repeated it in its next request
    (which may have cut a thought away), where that can be seen.

    Args:
        steps: One trace for each step, from the first.
    """
    messages: list[Message] = []
    answers: list[int] = []
    for index, trace in enumerate(steps):
        if index == 0:
            messages += _opening(trace)
        else:
            messages += _seen(trace, messages[-1])
        answers.append(len(messages))
        following = steps[index + 1] if index + 1 < len(steps) else None
        messages.append(_answer(trace, following))
    return Transcript(tuple(messages), tuple(answers))


def spoken(key: str, position: int = 0) -> Message:
    """The message that names an action, given as text or as a canonical key.

    Args:
        key: ``{"tool_calls": [...]}``, or text.
        position: Of the turn, so that no two calls of a chat share an id.
    """
    calls = tool_calls(key)
    if calls is None:
        return Message(role="assistant", content=key)
    return Message(
        role="assistant", content=None, tool_calls=[_call(call, position) for call in calls]
    )


def _call(call: Mapping[str, Any], position: int) -> dict[str, Any]:
    function = dict(call["function"])
    if not isinstance(function["arguments"], str):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "id": f"{position}_{call['id']}", "function": function}


def _opening(trace: Trace) -> list[Message]:
    prompt = [Message.model_validate(message) for message in trace.prompt]
    instructions = [message for message in prompt if message.role in INSTRUCTION_ROLES]
    if instructions:
        joined = "\n\n".join(message.text for message in instructions)
        instructions = [Message(role="system", content=joined)]
    # Demonstrations end with an answer or with its result; what comes after them is the client's.
    latest = [message for message in _latest(prompt) if message.role not in INSTRUCTION_ROLES]
    if not latest:
        latest = [Message(role="user", content=f"Task: {trace.goal}\n{trace.observation}")]
    return [*instructions, *latest]


def _latest(prompt: Sequence[Message]) -> list[Message]:
    """What stands after the last answer."""
    start = len(prompt)
    while start and prompt[start - 1].role not in ("assistant", "tool"):
        start -= 1
    return list(prompt[start:])


def _seen(trace: Trace, answer: Message) -> list[Message]:
    if answer.tool_calls:
        ids = [str(call["id"]) for call in answer.tool_calls]
        start = len(trace.prompt)
        while start and trace.prompt[start - 1].get("role") == "tool":
            start -= 1
        texts = [Message.model_validate(message).text for message in trace.prompt[start:]]
        if len(texts) != len(ids) or "\n".join(texts) != trace.observation:
            texts = [trace.observation, *["(see above)"] * (len(ids) - 1)]
        return [
            Message.model_validate({"role": "tool", "content": text, "tool_call_id": id})
            for id, text in zip(ids, texts, strict=True)
        ]
    return [Message(role="user", content=trace.observation)]


def _answer(trace: Trace, following: Trace | None) -> Message:
    if tool_calls(trace.answer) is not None:
        return spoken(trace.answer, trace.step_index)
    text = trace.answer.strip()
    if following is not None:
        said = [message for message in following.prompt if message.get("role") == "assistant"]
        repeated = action_text(Message.model_validate(said[-1])).strip() if said else ""
        # The last answer may be a demonstration's, of a student that is shown no history.
        if repeated and repeated in text:
            text = repeated
    return Message(role="assistant", content=text)
