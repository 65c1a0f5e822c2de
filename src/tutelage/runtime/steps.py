"""Chat transcripts as agent steps: goal, observation, history."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from tutelage.runtime.answer_form import read_form
from tutelage.runtime.types import ChatRequest, Message, Served, Step, Turn

INSTRUCTION_ROLES = frozenset({"system", "developer"})
_GOAL_LINE = re.compile(
    r"^\s*(?:your task is to|task|goal)\s*:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE
)


def read_step(
    request: ChatRequest,
    *,
    tenant: str,
    episode_id: str,
    goal: str | None = None,
    served: Mapping[int, Served] | None = None,
    task_id: str | None = None,
) -> Step:
    """Reads the decision that a chat request asks for.

    Assistant messages are actions; what stands between them are observations. Without ``goal`` the
    goal is the first ``Task:`` / ``Goal:`` / ``Your task is to:`` line of the opening message, else
    that whole message. The goal's line is no part of the first observation.

    Args:
        request: The request; instructions (system, developer messages) are not part of the step.
        tenant: Whose step it is.
        episode_id: The episode it belongs to.
        goal: The goal, where the caller knows it.
        served: Who chose the action of each earlier step, by step index.
        task_id: The environment's id of the task.
    """
    served = served or {}
    turns: list[Turn] = []
    seen: list[str] = []
    for message in request.messages:
        if message.role in INSTRUCTION_ROLES:
            continue
        if message.role == "assistant":
            observation = "\n".join(seen)
            turns.append(Turn(observation, action_text(message), served.get(len(turns))))
            seen = []
        else:
            seen.append(message.text)
    observation = "\n".join(seen)
    opening = turns[0].observation if turns else observation
    found = _GOAL_LINE.search(opening)
    rest = opening
    if found is not None:
        rest = (opening[: found.start()] + opening[found.end() :]).strip()
    if turns:
        turns[0] = Turn(rest, turns[0].action, turns[0].served)
    else:
        observation = rest
    return Step(
        tenant=tenant,
        episode_id=episode_id,
        index=len(turns),
        goal=goal or (found.group(1).strip() if found else opening.strip()),
        observation=observation,
        history=tuple(turns),
        tools=tuple(request.tools or ()),
        task_id=task_id,
        form=read_form(request),
    )


def action_text(message: Message) -> str:
    """An assistant message as the text of one action; tool calls become compact JSON."""
    if not message.tool_calls:
        return message.text
    calls = [
        {"name": function.get("name"), "arguments": function.get("arguments")}
        for function in (call.get("function") or {} for call in message.tool_calls)
    ]
    return json.dumps({"tool_calls": calls}, separators=(",", ":"), ensure_ascii=False)


def tool_calls(action: str) -> list[dict[str, Any]] | None:
    """The OpenAI tool calls that ``action_text`` encoded; ``None`` for a text action."""
    if not action.startswith('{"tool_calls":['):
        return None
    try:
        calls = json.loads(action)["tool_calls"]
    except (json.JSONDecodeError, RecursionError):
        return None
    if not all(isinstance(call, Mapping) for call in calls):
        return None
    return [
        {
            "id": f"call_{position}",
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("arguments")},
        }
        for position, call in enumerate(calls)
    ]


def conversation_id(request: ChatRequest, *, tenant: str) -> str:
    """An episode id for a client that names none: a hash of what stands before the first action.

    Two conversations of a tenant that open with the same bytes share an id.
    """
    digest = hashlib.sha256(json.dumps([tenant, request.model]).encode())
    for message in request.messages:
        if message.role == "assistant":
            break
        digest.update(message.model_dump_json(exclude_unset=True).encode())
    return f"conversation-{digest.hexdigest()[:24]}"
