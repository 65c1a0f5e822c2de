"""Instructor against the gateway: typed answers through tools and through JSON."""

from __future__ import annotations

import anthropic
import instructor
import openai
import pytest
from pydantic import BaseModel
from tests.suites.conftest import Door

pytestmark = pytest.mark.suites


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


class Said(BaseModel):
    """What is said of a city."""

    city: str
    weather: str


MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_has_the_type_that_was_asked_for(door: Door, mode: instructor.Mode) -> None:
    with openai.OpenAI(base_url=door.openai_url, api_key="unused") as plain:
        client = instructor.from_openai(plain, mode=mode)
        weather = client.chat.completions.create(
            model=door.model,
            response_model=Weather,
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
            max_retries=0,
        )

    assert weather.model_dump() == {"city": "Paris", "degrees": 1}


def test_bare_json_is_read_into_the_type_that_was_asked_for(door: Door) -> None:
    with openai.OpenAI(base_url=door.openai_url, api_key="unused") as plain:
        client = instructor.from_openai(plain, mode=instructor.Mode.JSON)
        said = client.chat.completions.create(
            model=door.model,
            response_model=Said,
            messages=[{"role": "user", "content": "Answer with 'city' and 'weather'."}],
            max_retries=0,
        )

    assert said.model_dump() == {"city": "the city", "weather": "the weather"}


def test_responses_and_messages_have_it_too(door: Door) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    with openai.OpenAI(base_url=door.openai_url, api_key="unused") as plain:
        client = instructor.from_openai(plain, mode=instructor.Mode.RESPONSES_TOOLS)
        weather = client.responses.create(
            model=door.model, response_model=Weather, input=question, max_retries=0
        )
    assert weather.model_dump() == {"city": "Paris", "degrees": 1}
    with anthropic.Anthropic(base_url=door.url, api_key="unused") as other:
        client = instructor.from_anthropic(other, mode=instructor.Mode.TOOLS)
        weather = client.messages.create(
            model=door.model,
            response_model=Weather,
            messages=question,
            max_tokens=64,
            max_retries=0,
        )
    assert weather.model_dump() == {"city": "Paris", "degrees": 1}
