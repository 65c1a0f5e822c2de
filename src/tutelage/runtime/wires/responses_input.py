"""Input items of the Responses API as chat messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.wires.fields import check_choice, check_object, check_text, wrong
from tutelage.runtime.wires.responses_ids import KEPT
from tutelage.runtime.wires.responses_parts import beyond_chat, beyond_text, chat_content, said
from tutelage.runtime.wires.responses_tools import custom_arguments

_ROLES = frozenset({"user", "system", "developer", "assistant"})
_QUOTED_CHARACTERS = 40


class Transcript:
    """Chat messages, made of input items one after the other.

    What an assistant does in one turn (reasoning, text, calls) is several items but one message.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.unsupported: list[str] = []
        """What agreed samples cannot honour, in order."""
        self.native_only: list[str] = []
        """What only an upstream of the Responses API understands, in order."""
        self._open: dict[str, Any] | None = None
        self._reasoning: list[Mapping[str, Any]] = []

    def add(self, item: object, path: str) -> None:
        """Adds one item.

        Raises:
            BadRequest: The item is malformed; items of unknown types are noted, not refused.
        """
        fields = check_object(item, path)
        kind = fields.get("type") or ("message" if "role" in fields else None)
        if not isinstance(kind, str):
            raise wrong(f"{path}.type", kind, "the type of the item")
        caller = fields.get("caller")
        if fields.get("namespace") or (
            isinstance(caller, Mapping) and caller.get("type") == "program"
        ):
            self.native_only.append("input (call by a hosted tool)")
        if kind == "message":
            self._message(fields, path)
        elif kind in ("function_call", "custom_tool_call"):
            self._call(fields, path, is_custom=kind == "custom_tool_call")
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._output(fields, path)
        elif kind == "reasoning":
            self._think(fields)
        else:
            self.native_only.append(f"input ({kind[:_QUOTED_CHARACTERS]})")

    def close(self) -> None:
        """Ends the assistant's turn; called once more after the last item."""
        if self._reasoning and self._open is None:
            self._start("")
        self._attach_reasoning()
        self._open = None

    def _message(self, item: Mapping[str, Any], path: str) -> None:
        role = check_choice(item.get("role"), f"{path}.role", _ROLES)
        if role == "assistant":
            self._say(item, path)
            return
        self.close()
        content = chat_content(item.get("content"), f"{path}.content")
        self._note(item.get("content"))
        self.messages.append({"role": role, "content": content})

    def _say(self, item: Mapping[str, Any], path: str) -> None:
        text, refusal = said(item.get("content"), f"{path}.content")
        message = self._open
        if message is None or (_has_spoken(message) and "tool_calls" not in message):
            message = self._start(None)
        self._attach_reasoning()
        before = message["content"]
        if refusal is not None:
            message["refusal"] = refusal
        if text or refusal is None:
            message["content"] = f"{before}\n{text}" if before else text
        if isinstance(item.get("phase"), str):
            message.setdefault(KEPT, {})["phase"] = item["phase"]

    def _call(self, item: Mapping[str, Any], path: str, *, is_custom: bool) -> None:
        message = self._open or self._start(None)
        self._attach_reasoning()
        name = check_text(item.get("name"), f"{path}.name", empty=False)
        call: dict[str, Any] = {
            "id": check_text(item.get("call_id"), f"{path}.call_id", empty=False),
            "type": "function",
        }
        if is_custom:
            arguments = custom_arguments(check_text(item.get("input"), f"{path}.input"))
            call[KEPT] = {"type": "custom"}
        else:
            arguments = check_text(item.get("arguments"), f"{path}.arguments")
        call["function"] = {"name": name, "arguments": arguments}
        message.setdefault("tool_calls", []).append(call)

    def _output(self, item: Mapping[str, Any], path: str) -> None:
        self.close()
        call_id = check_text(item.get("call_id"), f"{path}.call_id", empty=False)
        content = chat_content(item.get("output"), f"{path}.output")
        self._note(item.get("output"))
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": content})

    def _think(self, item: Mapping[str, Any]) -> None:
        if item.get("encrypted_content"):
            self.native_only.append("input (encrypted reasoning)")
        self._reasoning.append(item)

    def _start(self, content: str | None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        self.messages.append(message)
        self._open = message
        return message

    def _attach_reasoning(self) -> None:
        """Keeps the reasoning on the open message, with the number of items that it follows."""
        if self._open is None or not self._reasoning:
            return
        position = int(bool(self._open["content"] or self._open.get("refusal")))
        position += len(self._open.get("tool_calls") or ())
        kept = self._open.setdefault(KEPT, {}).setdefault("reasoning", [])
        kept.extend({"at": position, "item": dict(item)} for item in self._reasoning)
        self._reasoning = []

    def _note(self, content: object) -> None:
        self.native_only.extend(beyond_chat(content))
        self.unsupported.extend(beyond_text(content))


def _has_spoken(message: Mapping[str, Any]) -> bool:
    return message["content"] is not None or "refusal" in message


def transcript(input: object, instructions: str | None) -> Transcript:
    """The messages of a call.

    Raises:
        BadRequest: An item is malformed; ``param`` is its path below ``input``.
    """
    made = Transcript()
    if instructions is not None:
        made.messages.append({"role": "system", "content": instructions})
    if isinstance(input, str):
        made.messages.append({"role": "user", "content": input})
    elif isinstance(input, list):
        for index, item in enumerate(input):
            made.add(item, f"input.{index}")
        made.close()
    elif input is not None:
        raise wrong("input", input, "a string or a list of items")
    return made
