"""An agent that plays a household with one tool, as its author would write it with each SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.suites.heard import Heard
from tests.upstream_answers import Said

from tutelage.benchmarks.environment import Task
from tutelage.benchmarks.household.oracle import HouseholdOracle
from tutelage.benchmarks.household.world import HouseholdWorld

if TYPE_CHECKING:
    from anthropic import Anthropic
    from openai import OpenAI

MOST_STEPS = 30
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
    "additionalProperties": False,
}
NAME, ABOUT = "act", "Acts in the household and tells what is seen then."
CHAT_TOOL: Any = {
    "type": "function",
    "function": {"name": NAME, "description": ABOUT, "parameters": SCHEMA},
}
RESPONSES_TOOL: Any = {
    "type": "function",
    "name": NAME,
    "description": ABOUT,
    "parameters": SCHEMA,
    "strict": True,
}
MESSAGES_TOOL: Any = {"name": NAME, "description": ABOUT, "input_schema": SCHEMA}


def oracle_mind(heard: Heard) -> Said:
    """What the household's oracle does next, from the transcript alone."""
    opening, *rest = heard.transcript
    goal, _, seen = opening.text.partition("\n")
    oracle = HouseholdOracle(goal.removeprefix("Task: "), seen)
    said = [json.loads(text)["command"] for one in rest for text in one.arguments]
    told = [one.text for one in rest if one.role == "tool"]
    for command, observation in zip(said, told, strict=True):
        oracle.observe(command, observation)
    arguments = json.dumps({"command": oracle.next()})
    return Said(calls=((f"call_{len(said)}", NAME, arguments),))


@dataclass
class Game:
    """One episode as its agent sees it."""

    task: Task
    world: HouseholdWorld = field(default_factory=HouseholdWorld)
    commands: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    """Ids of the decisions, from the headers of the answers."""
    success: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        opening = self.world.reset(self.task)
        self.opening = f"Task: {opening.goal}\n{opening.observation}"

    def act(self, arguments: str | Mapping[str, Any]) -> str:
        """Takes the command of a tool call; the value is what is seen then."""
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert set(given) == {"command"}
        self.commands.append(given["command"])
        outcome = self.world.step(given["command"])
        self.done, self.success = outcome.done, outcome.success
        return outcome.observation

    @property
    def goes_on(self) -> bool:
        return not self.done and len(self.commands) < MOST_STEPS

    def note(self, headers: Mapping[str, str]) -> None:
        """Remembers the decision behind an answer; a model without a gateway makes none."""
        if "x-tutelage-decision-id" in headers:
            self.decisions.append(headers["x-tutelage-decision-id"])


@dataclass(frozen=True)
class Asking:
    """How an agent asks its model."""

    openai: OpenAI
    anthropic: Anthropic
    model: str
    stream: bool
    headers: Mapping[str, str]


def play_chat(game: Game, how: Asking) -> None:
    """With the Chat Completions of the OpenAI SDK."""
    messages: list[Any] = [
        {"role": "system", "content": game.world.instructions},
        {"role": "user", "content": game.opening},
    ]
    while game.goes_on:
        raw = how.openai.chat.completions.with_raw_response.create(
            model=how.model,
            messages=messages,
            tools=[CHAT_TOOL],
            stream=how.stream,
            extra_headers=how.headers,
        )
        game.note(raw.headers)
        answer = raw.parse()
        message = _joined(answer) if how.stream else _message(answer)
        messages.append(message)
        messages += [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": game.act(call["function"]["arguments"]),
            }
            for call in message["tool_calls"]
        ]


def _message(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    return dict(choice.message.model_dump(exclude_none=True))


def _joined(stream: Any) -> dict[str, Any]:
    """The message that chunks add up to, by the rules that all chat clients know."""
    calls: list[dict[str, Any]] = []
    reasons = []
    for chunk in stream:
        for choice in chunk.choices:
            if choice.finish_reason:
                reasons.append(choice.finish_reason)
            for piece in choice.delta.tool_calls or ():
                if piece.index == len(calls):
                    function = {"name": piece.function.name, "arguments": ""}
                    calls.append({"id": piece.id, "type": "function", "function": function})
                calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""
    assert reasons == ["tool_calls"]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def play_responses(game: Game, how: Asking) -> None:
    """With the Responses of the OpenAI SDK; the agent keeps the conversation."""
    items: list[Any] = [{"role": "user", "content": game.opening}]
    while game.goes_on:
        response = _response(game, how, input=items, store=False)
        items += [item.model_dump(exclude_none=True) for item in response.output]
        items += _outputs(game, response)


def play_kept_responses(game: Game, how: Asking) -> None:
    """With the Responses of the OpenAI SDK; the other side keeps the conversation."""
    asked: dict[str, Any] = {"input": game.opening}
    while game.goes_on:
        response = _response(game, how, **asked)
        asked = {"input": _outputs(game, response), "previous_response_id": response.id}


def _response(game: Game, how: Asking, **asked: Any) -> Any:
    raw = how.openai.responses.with_raw_response.create(
        model=how.model,
        instructions=game.world.instructions,
        tools=[RESPONSES_TOOL],
        stream=how.stream,
        extra_headers=how.headers,
        **asked,
    )
    game.note(raw.headers)
    answer: Any = raw.parse()
    if not how.stream:
        return answer
    *_, last = answer
    assert last.type == "response.completed"
    return last.response


def _outputs(game: Game, response: Any) -> list[Any]:
    calls = [item for item in response.output if item.type == "function_call"]
    assert calls
    return [
        {"type": "function_call_output", "call_id": c.call_id, "output": game.act(c.arguments)}
        for c in calls
    ]


def play_messages(game: Game, how: Asking) -> None:
    """With the Messages of the Anthropic SDK."""
    messages: list[Any] = [{"role": "user", "content": game.opening}]
    while game.goes_on:
        asked: Any = {
            "model": how.model,
            "max_tokens": 200,
            "system": game.world.instructions,
            "messages": messages,
            "tools": [MESSAGES_TOOL],
            "extra_headers": how.headers,
        }
        if how.stream:
            with how.anthropic.messages.stream(**asked) as stream:
                answer: Any = stream.get_final_message()
                game.note(stream.response.headers)
        else:
            raw = how.anthropic.messages.with_raw_response.create(**asked)
            answer = raw.parse()
            game.note(raw.headers)
        assert answer.stop_reason == "tool_use"
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": game.act(block.input)}
            for block in answer.content
            if block.type == "tool_use"
        ]
        messages += [
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": results},
        ]


AGENTS: Mapping[str, Callable[[Game, Asking], None]] = {
    "chat": play_chat,
    "responses": play_responses,
    "kept-responses": play_kept_responses,
    "messages": play_messages,
}
