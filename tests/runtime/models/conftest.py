"""An OpenAI-compatible model that talks to the scripted endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tutelage.runtime.models.openai import OpenAIModel


async def no_wait(seconds: float) -> None:
    """Takes the place of the waits between attempts."""


@pytest.fixture
async def connect(upstream: Any) -> AsyncIterator[Any]:
    """Makes models of the endpoint, closed after the test; waits between attempts take no time."""
    made: list[OpenAIModel] = []

    def make(base_url: str | None = None, model: str = "student-7", **more: Any) -> OpenAIModel:
        made.append(OpenAIModel(base_url or upstream.base_url, model, **{"sleep": no_wait, **more}))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()
