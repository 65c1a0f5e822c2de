"""A loop with one tool, as its author would write it with each SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthropic import Anthropic
    from openai import OpenAI

QUESTION, RESULT = "What is the weather in Paris?", "sunny in Paris"
ANSWER = f"I heard: {RESULT}"
"""What the scripted model makes of the result."""
NAME, ABOUT, ARGUMENTS = "get_weather", "The weather of a city.", {"city": "Paris"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FUNCTION = {"name": NAME, "description": ABOUT, "parameters": SCHEMA}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
RESPONSES_TOOL: Any = {"type": "function", **FUNCTION}
MESSAGES_TOOL: Any = {"name": NAME, "description": ABOUT, "input_schema": SCHEMA}


@dataclass(frozen=True)
class Asked:
    """How a loop asks."""

    openai: OpenAI
    anthropic: Anthropic
    model: str
    stream: bool
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """How a loop ended."""

    text: str
    tokens: tuple[int, int]
    """Of the last prompt and of the last answer."""


def chat_loop(how: Asked) -> Ended:
    """Over Chat Completions."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        asked: Any = {
            "model": how.model,
            "messages": messages,
            "tools": [CHAT_TOOL],
            "extra_headers": how.headers,
        }
        if how.stream:
            options: Any = {"include_usage": True}
            with how.openai.chat.completions.stream(stream_options=options, **asked) as events:
                answer: Any = events.get_final_completion()
        else:
            answer = how.openai.chat.completions.create(**asked)
        message = answer.choices[0].message
        if not message.tool_calls:
            usage = answer.usage
            return Ended(message.content, (usage.prompt_tokens, usage.completion_tokens))
        (made,) = message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        function = {"name": made.function.name, "arguments": made.function.arguments}
        _check(function["name"], json.loads(function["arguments"]))
        spoken = [{"id": made.id, "type": "function", "function": function}]
        messages += [
            {"role": "assistant", "content": None, "tool_calls": spoken},
            {"role": "tool", "tool_call_id": made.id, "content": RESULT},
        ]


def responses_loop(how: Asked) -> Ended:
    """Over Responses; the client keeps the conversation."""
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        asked: Any = {
            "model": how.model,
            "input": items,
            "tools": [RESPONSES_TOOL],
            "extra_headers": how.headers,
            "store": False,
        }
        if how.stream:
            with how.openai.responses.stream(**asked) as events:
                answer: Any = events.get_final_response()
        else:
            answer = how.openai.responses.create(**asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            usage = answer.usage
            return Ended(answer.output_text, (usage.input_tokens, usage.output_tokens))
        (made,) = calls
        _check(made.name, json.loads(made.arguments))
        spoken = {"type": "function_call", "call_id": made.call_id, "name": made.name}
        items += [
            {**spoken, "arguments": made.arguments},
            {"type": "function_call_output", "call_id": made.call_id, "output": RESULT},
        ]


def messages_loop(how: Asked) -> Ended:
    """Over Messages."""
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    while True:
        asked: Any = {
            "model": how.model,
            "max_tokens": 200,
            "messages": messages,
            "tools": [MESSAGES_TOOL],
            "extra_headers": how.headers,
        }
        if how.stream:
            with how.anthropic.messages.stream(**asked) as events:
                answer: Any = events.get_final_message()
        else:
            answer = how.anthropic.messages.create(**asked)
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            usage = answer.usage
            read = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
            text = "".join(block.text for block in answer.content if block.type == "text")
            return Ended(text, (usage.input_tokens + read, usage.output_tokens))
        (made,) = calls
        assert answer.stop_reason == "tool_use"
        _check(made.name, made.input)
        spoken = {"type": "tool_use", "id": made.id, "name": made.name, "input": made.input}
        result = {"type": "tool_result", "tool_use_id": made.id, "content": RESULT}
        messages += [
            {"role": "assistant", "content": [spoken]},
            {"role": "user", "content": [result]},
        ]


def _check(name: str, arguments: object) -> None:
    assert (name, arguments) == (NAME, ARGUMENTS)


LOOPS: Mapping[str, Callable[[Asked], Ended]] = {
    "chat": chat_loop,
    "responses": responses_loop,
    "messages": messages_loop,
}
