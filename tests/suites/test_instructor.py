"""Instructor against the gateway: typed answers through tools and through JSON."""

from __future__ import annotations

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


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_an_answer_has_the_type_that_was_asked_for(door: Door, mode: instructor.Mode) -> None:
    with openai.OpenAI(base_url=door.openai_url, api_key="unused") as plain:
        client = instructor.from_openai(plain, mode=mode)
        weather = client.chat.completions.create(
            model=door.model,
            response_model=Weather,
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        )

    assert isinstance(weather, Weather)
