"""Input items of a response as they are stored, listed and continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.runtime.wires.responses_ids import is_our_item, listed_id

# How the ids of items begin, by type.
_KINDS = {
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}


def listed_items(body: Mapping[str, Any], response_id: str) -> list[dict[str, Any]]:
    """The input of a call that was read, as items with types and ids, oldest first.

    Args:
        body: The call as the client made it.
        response_id: The id of the response, of which new ids are made.
    """
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items: list[dict[str, Any]] = []
    for position, item in enumerate(given or ()):
        kind = str(item.get("type") or "message")
        made: dict[str, Any] = {**item, "type": kind}
        if not made.get("id"):
            made["id"] = listed_id(_KINDS.get(kind, "msg"), response_id, position)
        if kind == "message":
            made["content"] = _parts(item)
            made.setdefault("status", "completed")
        items.append(made)
    return items


def continued(body: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The call with the items of earlier responses before its own input.

    Reasoning that was written here is left out: an upstream looks reasoning up by its id.
    """
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if isinstance(given, list) or given is None:
        known = (item for item in earlier if not _is_our_reasoning(item))
        return {**body, "input": [*known, *(given or ())]}
    return dict(body)


def _is_our_reasoning(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "reasoning" and is_our_item(item.get("id"))


def _parts(message: Mapping[str, Any]) -> Any:
    content = message.get("content")
    if not isinstance(content, str):
        return content
    if message.get("role") == "assistant":
        return [{"type": "output_text", "text": content, "annotations": []}]
    return [{"type": "input_text", "text": content}]
