"""Records what SDKs send while they play a household; ``python -m tests.suites.record_sessions``.

The recordings stand in ``sessions/``: the bodies that each client sent, its headers but for
credentials, and what the model did at each step.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.house import games_of
from tests.suites.household_agent import AGENTS, Asking, Game, oracle_mind

FOLDER = Path(__file__).with_name("sessions")
MODEL = "household"
STEPS = range(6, 7)
"""Of the games that are played."""
# Of the machine that recorded, or made anew by whoever replays.
_LEFT_OUT = ("host", "content-length", "authorization", "x-api-key", "connection", "x-stainless-")

Play = Callable[[Game, str], None]


def by_sdk(wire: str, *, stream: bool) -> Play:
    """An agent on the plain SDKs of the providers."""

    def play(game: Game, url: str) -> None:
        from anthropic import Anthropic
        from openai import OpenAI

        with (
            OpenAI(base_url=f"{url}/v1", api_key="any") as openai,
            Anthropic(base_url=url, api_key="any") as anthropic,
        ):
            AGENTS[wire](game, Asking(openai, anthropic, MODEL, stream, {}))

    return play


def by_agents_sdk(wire: str, *, stream: bool) -> Play:
    """The tool loop of the OpenAI Agents SDK; it ends with the game."""

    def play(game: Game, url: str) -> None:
        asyncio.run(_run_agent(game, url, wire, stream=stream))

    return play


async def _run_agent(game: Game, url: str, wire: str, *, stream: bool) -> None:
    from agents import (
        Agent,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        RunConfig,
        Runner,
        function_tool,
    )
    from openai import AsyncOpenAI

    @function_tool
    def act(command: str) -> str:
        """Acts in the household and tells what is seen then."""
        return game.act({"command": command})

    def over(_: Any, results: list[Any]) -> Any:
        from agents import ToolsToFinalOutputResult

        return ToolsToFinalOutputResult(is_final_output=game.done, final_output="done")

    kind = OpenAIChatCompletionsModel if wire == "chat" else OpenAIResponsesModel
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        agent = Agent(
            name="player",
            instructions=game.world.instructions,
            model=kind(model=MODEL, openai_client=client),
            tools=[act],
            tool_use_behavior=over,
        )
        quiet = RunConfig(tracing_disabled=True)
        if not stream:
            await Runner.run(agent, game.opening, run_config=quiet, max_turns=30)
            return
        result = Runner.run_streamed(agent, game.opening, run_config=quiet, max_turns=30)
        async for _ in result.stream_events():
            pass


SESSIONS: Mapping[str, Play] = {
    "openai-chat": by_sdk("chat", stream=False),
    "openai-chat-streamed": by_sdk("chat", stream=True),
    "openai-responses": by_sdk("responses", stream=False),
    "openai-responses-streamed": by_sdk("responses", stream=True),
    "anthropic": by_sdk("messages", stream=False),
    "anthropic-streamed": by_sdk("messages", stream=True),
    "agents-sdk-chat": by_agents_sdk("chat", stream=False),
    "agents-sdk-chat-streamed": by_agents_sdk("chat", stream=True),
    "agents-sdk-responses": by_agents_sdk("responses", stream=False),
    "agents-sdk-responses-streamed": by_agents_sdk("responses", stream=True),
}


def record(play: Play, game: Game) -> dict[str, Any]:
    """What a client sends while it plays, and what the model commands at each step."""
    upstream = CleverUpstream({MODEL: oracle_mind})
    with served(upstream) as base_url:
        play(game, base_url.removesuffix("/v1"))
    assert game.success
    assert upstream.complaints == []
    assert len(upstream.requests) == len(game.commands)
    steps = [
        {
            "path": path,
            "headers": {
                name: value for name, value in headers.items() if not name.startswith(_LEFT_OUT)
            },
            "body": body,
            "command": command,
        }
        for (path, body), headers, command in zip(
            upstream.requests, upstream.headers, game.commands, strict=True
        )
    ]
    return {"task": game.task.id, "steps": steps}


def main() -> None:
    """Records all sessions anew."""
    FOLDER.mkdir(exist_ok=True)
    for (name, play), task in zip(SESSIONS.items(), games_of(STEPS), strict=False):
        session = record(play, Game(task))
        text = json.dumps(session, indent=1, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
