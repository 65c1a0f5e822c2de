"""Pydantic AI against the gateway, over both of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.suites.conftest import Door

pytestmark = pytest.mark.suites


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture(params=["chat", "responses"])
async def model(request: pytest.FixtureRequest, door: Door) -> Any:
    """The library's model over each API."""
    kind = OpenAIChatModel if request.param == "chat" else OpenAIResponsesModel
    async with openai.AsyncOpenAI(base_url=door.openai_url, api_key="unused") as client:
        yield kind(door.model, provider=OpenAIProvider(openai_client=client))


async def test_a_tool_is_called_and_its_result_is_answered(model: Any) -> None:
    agent = Agent(model, system_prompt="Use your tool.")
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"sunny in {city}"

    result = await agent.run("What is the weather in Paris?")

    assert asked == ["Paris"]
    assert result.output == "I heard: sunny in Paris"


async def test_an_answer_has_the_type_that_was_asked_for(model: Any) -> None:
    agent = Agent(model, output_type=Weather)
    result = await agent.run("What is the weather in Paris?")

    assert result.output == Weather(city="Paris", degrees=1)


async def test_a_text_is_streamed(model: Any) -> None:
    agent = Agent(model)
    async with agent.run_stream("Say something.") as result:
        pieces = [piece async for piece in result.stream_text(delta=True)]

    assert "".join(pieces) == "I heard: Say something."
    assert result.usage.output_tokens > 0
