from __future__ import annotations

import pytest
from tests.benchmarks.streamed import streamed

from tutelage.benchmarks.baselines.pooled import PooledModel
from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Usage

REQUEST = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "?"}]})


def model(said: str) -> ScriptedModel:
    return ScriptedModel(
        said, usage=lambda request, choices: Usage(input_tokens=10, output_tokens=len(choices))
    )


@pytest.mark.parametrize(
    ("n", "said"),
    [(1, ["a"]), (2, ["a", "b"]), (3, ["a", "a", "b"]), (4, ["a", "a", "b", "b"])],
)
async def test_samples_are_drawn_in_turn_and_paid_for_together(n: int, said: list[str]) -> None:
    first, second = model("a"), model("b")

    completion = await PooledModel([first, second]).complete(REQUEST, n)

    assert [choice.message.text for choice in completion.choices] == said
    assert [choice.index for choice in completion.choices] == list(range(n))
    assert completion.usage.output_tokens == n
    assert completion.usage.input_tokens == 10 * (1 + (n > 1))
    assert len(second.calls) == (n > 1)


async def test_a_failing_member_fails_the_vote() -> None:
    broken = ScriptedModel("b", failures={0: BadResponse("broken")})

    with pytest.raises(BadResponse, match="broken"):
        await PooledModel([model("a"), broken]).complete(REQUEST, 2)


async def test_the_first_one_streams() -> None:
    second = model("b")

    assert await streamed(PooledModel([model("a"), second]), REQUEST) == "a"
    assert second.calls == []
