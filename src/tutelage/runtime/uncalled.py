"""Answers of a student that was offered no tools: a call in them is none of the client's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.types import Message

_CALLS = ("tool_calls", "function_call")
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_UNNAMED = "(unnamed)"


class CallsTools(BadResponse):
    """A student calls a tool that nobody offered.

    Args:
        tool: What it calls.
    """

    def __init__(self, tool: str) -> None:
        super().__init__("the student called a tool that the request does not offer")
        self.tool = tool


def calls_tools(message: Message) -> str | None:
    """The first tool that a message calls; ``None``: it calls none."""
    return _called({"tool_calls": message.tool_calls, **(message.model_extra or {})})


async def without_calls(
    stream: AsyncGenerator[dict[str, Any]],
) -> AsyncGenerator[dict[str, Any]]:
    """A stream of chat chunks that begins with something said, and has no calls.

    What follows a text is passed on without its calls.

    Args:
        stream: Chat chunks; closed at the end.

    Raises:
        CallsTools: A call came before any text.
    """
    held: list[dict[str, Any]] = []
    has_begun = has_text = has_called = False
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            passed = chunk
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                called = _called(delta)
                has_text = has_text or bool(delta.get("content") or delta.get("refusal"))
                if called is not None and not has_text:
                    raise CallsTools(called)
                has_called = has_called or called is not None
                has_begun = has_begun or bool(choice.get("finish_reason"))
                has_begun = has_begun or any(delta.get(name) for name in _TEXTS)
            if has_called:
                passed = _stripped(chunk)
            held.append(passed)
            if has_begun:
                for one in held:
                    yield one
                held = []
    for one in held:
        yield one


def _called(said: Mapping[str, Any]) -> str | None:
    for name in _CALLS:
        calls = said.get(name)
        first = calls[0] if isinstance(calls, list) and calls else calls
        if first:
            function = first.get("function", first) if isinstance(first, Mapping) else {}
            named = function.get("name") if isinstance(function, Mapping) else None
            return str(named or _UNNAMED)
    return None


def _stripped(chunk: Mapping[str, Any]) -> dict[str, Any]:
    choices = []
    for choice in chunk.get("choices") or ():
        delta = {n: v for n, v in (choice.get("delta") or {}).items() if n not in _CALLS}
        reason = choice.get("finish_reason")
        ended = "stop" if reason in _CALLS else reason
        choices.append({**choice, "delta": delta, "finish_reason": ended})
    return {**chunk, "choices": choices}
