from __future__ import annotations

import math
from typing import Any

import pytest
from tests.benchmarks.streamed import streamed

from tutelage.benchmarks.baselines.verifying import VerifyingModel
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Usage

REQUEST = ChatRequest.model_validate(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "A desk."}],
        "temperature": 0.7,
        "tools": [{"type": "function", "function": {"name": "walk"}}],
    }
)


def opinions(*said: str) -> ScriptedModel:
    return ScriptedModel([list(said)], usage=Usage(input_tokens=7, output_tokens=4))


def told(choice: Any) -> float:
    value: float = choice.logprobs["content"][0]["logprob"]
    return value


@pytest.mark.parametrize(
    ("said", "share"),
    [
        (("yes", "Yes.", " YES, it is", "right"), 1.0),
        (("yes", "no", "No", "true"), 0.5),
        (("no", "yesterday", "", "I say yes"), 0.01),
    ],
)
async def test_the_share_of_yes_is_the_answers_probability(
    said: tuple[str, ...], share: float
) -> None:
    student = ScriptedModel("open desk 1", usage=Usage(input_tokens=5, output_tokens=3))

    completion = await VerifyingModel(student, opinions(*said)).complete(REQUEST, 2)

    assert [choice.message.text for choice in completion.choices] == ["open desk 1"] * 2
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert [told(one) for one in completion.choices] == [pytest.approx(math.log(share))] * 2
    assert completion.usage == Usage(input_tokens=12, output_tokens=7)


async def test_the_answer_is_greedy_and_the_question_names_it() -> None:
    student, verifier = ScriptedModel("open desk 1"), opinions("yes", "yes", "yes")

    await VerifyingModel(student, verifier, votes=3, temperature=0.5).complete(REQUEST)

    (drawn,), (asked,) = student.calls, verifier.calls
    assert (drawn.request.temperature, drawn.n) == (0.0, 1)
    assert (asked.request.temperature, asked.n, asked.request.tools) == (0.5, 3, None)
    assert asked.request.messages[:-1] == REQUEST.messages
    assert "Proposed next action: open desk 1\n" in asked.request.messages[-1].text
    assert (asked.request.model_extra or {}).get("max_tokens", 4) == 4


async def test_its_stream_is_the_answer() -> None:
    model = VerifyingModel(ScriptedModel("open desk 1"), opinions("yes", "no", "no", "no"))

    assert await streamed(model, REQUEST) == "open desk 1"
