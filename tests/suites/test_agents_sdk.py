"""The OpenAI Agents SDK against the gateway: a tool loop, a handoff, a typed answer."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from pydantic import BaseModel
from tests.suites.conftest import Door

pytestmark = pytest.mark.suites

MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
QUIET = RunConfig(tracing_disabled=True)


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture(params=sorted(MODELS))
async def model(request: pytest.FixtureRequest, door: Door) -> Any:
    """The SDK's model over each of its APIs."""
    async with openai.AsyncOpenAI(base_url=door.openai_url, api_key="unused") as client:
        yield MODELS[request.param](model=door.model, openai_client=client)


async def test_a_tool_loop_runs_to_its_end(model: Any) -> None:
    asked: list[str] = []

    @function_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"sunny in {city}"

    agent = Agent(name="guide", instructions="Use your tool.", model=model, tools=[get_weather])
    result = await Runner.run(agent, "What is the weather in Paris?", run_config=QUIET)

    assert asked == ["Paris"]
    assert result.final_output == "I heard: sunny in Paris"


async def test_a_streamed_run_ends_with_the_same_answer(model: Any) -> None:
    agent = Agent(name="guide", instructions="Answer.", model=model)
    result = Runner.run_streamed(agent, "Say something.", run_config=QUIET)
    kinds = [event.type async for event in result.stream_events()]

    assert "raw_response_event" in kinds
    assert result.final_output == "I heard: Say something."


async def test_an_answer_has_the_type_that_was_asked_for(model: Any) -> None:
    agent = Agent(
        name="guide",
        instructions="Answer as JSON.",
        model=model,
        output_type=AgentOutputSchema(Weather),
    )
    result = await Runner.run(agent, "What is the weather in Paris?", run_config=QUIET)

    assert result.final_output == Weather(city="Paris", degrees=1)


async def test_a_handoff_reaches_the_other_agent(model: Any) -> None:
    other = Agent(name="other", instructions="Answer.", model=model)
    first = Agent(name="first", instructions="Hand off to other.", model=model, handoffs=[other])
    result = await Runner.run(first, "Please transfer to the other agent.", run_config=QUIET)

    assert result.last_agent.name == "other"
