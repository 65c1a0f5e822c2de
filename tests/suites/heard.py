"""A request of any wire, reduced to what a scripted model needs to answer it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ANY_TOOL = "*"


@dataclass(frozen=True)
class Tool:
    """A function that a request offers."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """A message of the transcript, in the words of no wire."""

    role: str
    """``user``, ``assistant`` or ``tool``."""
    text: str
    calls: tuple[str, ...] = ()
    """Names of the tools that it calls."""
    arguments: tuple[str, ...] = ()
    """JSON of what each is called with."""


@dataclass(frozen=True)
class Heard:
    """What a model is asked."""

    model: str
    transcript: tuple[Said, ...]
    """Without instructions."""
    tools: tuple[Tool, ...] = ()
    must_call: str | None = None
    """The tool that is to be called, or ``*`` for any."""
    may_call: bool = True
    schema: Mapping[str, Any] | None = None
    """Of the JSON that is wanted; empty: any JSON object."""
    stop: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The last words of the user."""
        return next((one.text for one in reversed(self.transcript) if one.role == "user"), "")

    @property
    def results(self) -> tuple[str, ...]:
        """What tools returned since the model's last words."""
        found = []
        for one in reversed(self.transcript):
            if one.role != "tool":
                break
            found.append(one.text)
        return tuple(reversed(found))

    @property
    def called(self) -> frozenset[str]:
        """Tools that were called since the user's last words."""
        names: set[str] = set()
        for one in reversed(self.transcript):
            if one.role == "user":
                break
            names.update(one.calls)
        return frozenset(names)


def heard_on(path: str, body: Mapping[str, Any]) -> Heard:
    """What the body of a call of the API at ``path`` (below ``/v1``) asks."""
    readers = {"/chat/completions": _chat, "/responses": _responses, "/messages": _messages}
    if path == "/completions":
        return Heard(str(body.get("model")), (Said("user", str(body.get("prompt"))),))
    return readers[path](body)


def text_of(content: object) -> str:
    """The text in a message's content, in any wire."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = []
    for part in content:
        if part.get("type") == "tool_result":
            continue
        texts.append(str(part.get("text", "")) or f"({part.get('type')})")
    return "".join(texts)


def _chat(body: Mapping[str, Any]) -> Heard:
    transcript = [
        Said(
            "tool" if message["role"] in ("tool", "function") else message["role"],
            text_of(message.get("content")),
            tuple(call["function"]["name"] for call in message.get("tool_calls") or ()),
            tuple(call["function"]["arguments"] for call in message.get("tool_calls") or ()),
        )
        for message in body["messages"]
        if message["role"] not in ("system", "developer")
    ]
    tools = [_tool(tool["function"]) for tool in body.get("tools") or ()]
    form = body.get("response_format") or {}
    schema: dict[Any, Any] = {
        "json_object": {},
        "json_schema": (form.get("json_schema") or {}).get("schema"),
    }
    choice = body.get("tool_choice")
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    stop = body.get("stop") or ()
    return Heard(
        str(body.get("model")),
        tuple(transcript),
        tuple(tools),
        must_call=named or (ANY_TOOL if choice == "required" else None),
        may_call=choice != "none",
        schema=schema.get(form.get("type")),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _responses(body: Mapping[str, Any]) -> Heard:
    items: Any = body.get("input") or ()
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    form = (body.get("text") or {}).get("format") or {}
    schema: dict[Any, Any] = {"json_object": {}, "json_schema": form.get("schema")}
    choice = body.get("tool_choice")
    return Heard(
        str(body.get("model")),
        tuple(_response_items(items)),
        tuple(_tool(tool) for tool in body.get("tools") or () if tool["type"] == "function"),
        must_call=choice["name"]
        if isinstance(choice, dict)
        else (ANY_TOOL if choice == "required" else None),
        may_call=choice != "none",
        schema=schema.get(form.get("type")),
    )


def _response_items(items: list[Mapping[str, Any]]) -> Iterator[Said]:
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            yield Said("assistant", "", (item["name"],), (item["arguments"],))
        elif kind == "function_call_output":
            yield Said("tool", text_of(item["output"]))
        elif kind == "message" and item["role"] not in ("system", "developer"):
            yield Said(item["role"], text_of(item.get("content")))


def _messages(body: Mapping[str, Any]) -> Heard:
    transcript: list[Said] = []
    for message in body["messages"]:
        if message["role"] == "system":
            continue
        content = message["content"]
        blocks = content if isinstance(content, list) else []
        results = [block for block in blocks if block["type"] == "tool_result"]
        transcript += [Said("tool", text_of(result.get("content"))) for result in results]
        uses = [block for block in blocks if block["type"] == "tool_use"]
        calls = tuple(block["name"] for block in uses)
        text = text_of(content)
        if text or calls or not results:
            arguments = tuple(json.dumps(block["input"]) for block in uses)
            transcript.append(Said(message["role"], text, calls, arguments))
    choice = body.get("tool_choice") or {}
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    forced = {"any": ANY_TOOL, "tool": choice.get("name")}
    return Heard(
        str(body.get("model")),
        tuple(transcript),
        tuple(
            Tool(tool["name"], str(tool.get("description") or ""), tool["input_schema"])
            for tool in body.get("tools") or ()
        ),
        must_call=forced.get(choice.get("type", "auto")),
        may_call=choice.get("type") != "none",
        schema=form.get("schema"),
        stop=tuple(body.get("stop_sequences") or ()),
    )


def _tool(function: Mapping[str, Any]) -> Tool:
    return Tool(
        function["name"],
        str(function.get("description") or ""),
        function.get("parameters") or {"type": "object"},
    )
