from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.remembered import LATENCY_FIELD, RememberedModel, shared_tokens
from tutelage.runtime.models.sample_file import SampleFile
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, SamplePlan


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SampleFile]:
    made = SampleFile(tmp_path / "run" / "samples.sqlite")
    yield made
    made.close()


class SeededModel:
    """Says the seed of each choice, as vLLM seeds them: s, s + 1, ..."""

    def __init__(self) -> None:
        self.calls: list[tuple[int | None, int]] = []

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        seed = (request.model_extra or {}).get("seed")
        self.calls.append((seed, n))
        await asyncio.sleep(0)
        return Completion.model_validate(
            {
                "id": "1",
                "model": "small",
                "choices": [said(f"seed {(seed or 0) + place}", place) for place in range(n)],
                "usage": {"input_tokens": 10, "cache_read_tokens": 5, "output_tokens": 3 * n},
            }
        )

    async def stream(self, request: ChatRequest) -> Any:
        raise AssertionError("streamed")
        yield


def said(text: str, index: int = 0, tokens: int | None = None) -> Choice:
    told = None if tokens is None else {"content": [{"token": "a", "logprob": -1.0}] * tokens}
    message = Message(role="assistant", content=text)
    return Choice(index=index, message=message, finish_reason="stop", logprobs=told)


def a_request(text: str = "look", **fields: Any) -> ChatRequest:
    body = {"model": "any", "temperature": 0.7, "seed": 40, **fields}
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": text}], **body})


def texts(completion: Completion) -> list[str]:
    return [choice.message.text for choice in completion.choices]


async def test_what_was_drawn_is_given_again_with_the_same_bill(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)

    first = await model.complete(a_request(), 3)
    again = await model.complete(a_request(), 3)

    assert texts(first) == ["seed 40", "seed 41", "seed 42"]
    assert again == first
    assert (again.usage.input_tokens, again.usage.cache_read_tokens) == (10, 5)
    assert again.usage.output_tokens == 9
    assert asked.calls == [(40, 3)]
    assert (model.drawn, model.given) == (3, 3)


async def test_one_by_one_gives_the_samples_of_a_joint_call(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)
    together = await model.complete(a_request(), 3)

    singly = [await model.complete(a_request(seed=40 + place)) for place in range(4)]

    assert [texts(one)[0] for one in singly[:3]] == texts(together)
    assert texts(singly[3]) == ["seed 43"]
    assert [one.usage.output_tokens for one in singly] == [3, 3, 3, 3]
    assert asked.calls == [(40, 3), (43, 1)]


async def test_only_the_gaps_of_a_joint_call_are_drawn(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)
    await model.complete(a_request(seed=42))

    found = await model.complete(a_request(), 5)

    assert texts(found) == [f"seed {seed}" for seed in range(40, 45)]
    assert asked.calls == [(42, 1), (40, 2), (43, 2)]


async def test_greedy_samples_are_the_same_for_all_seeds(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)

    one = await model.complete(a_request(temperature=0.0, seed=7))
    two = await model.complete(a_request(temperature=0.0, seed=8), 2)

    assert texts(one) == ["seed 7"]
    assert texts(two) == ["seed 7", "seed 7"]
    assert asked.calls == [(7, 1)]


@pytest.mark.parametrize(
    "other",
    [
        a_request("go"),
        a_request(temperature=0.8),
        a_request(max_tokens=5),
        a_request(tools=[{"type": "function", "function": {"name": "look"}}]),
        a_request(seed=99),
    ],
)
async def test_another_prompt_setting_tool_or_seed_is_asked_anew(
    file: SampleFile, other: ChatRequest
) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)
    await model.complete(a_request())

    await model.complete(other)

    assert len(asked.calls) == 2


async def test_another_model_shares_no_samples_but_another_alias_does(file: SampleFile) -> None:
    small, large = SeededModel(), SeededModel()
    await RememberedModel(small, "small", file).complete(a_request())

    await RememberedModel(large, "large", file).complete(a_request())
    await RememberedModel(small, "small", file).complete(a_request(model="alias", stream=True))

    assert len(large.calls) == 1
    assert len(small.calls) == 1


async def test_a_request_without_a_seed_keeps_samples_by_their_number(file: SampleFile) -> None:
    script = ScriptedModel([["a", "b"], ["c"]])
    model = RememberedModel(script, "small", file)
    request = a_request().model_copy(update={"__pydantic_extra__": {}})
    request = ChatRequest.model_validate({**request.wire(seed=None)})

    await model.complete(request, 2)
    found = await model.complete(request, 3)

    assert texts(found) == ["a", "b", "c"]
    assert "seed" not in (script.requests[-1].model_extra or {})


async def test_those_who_ask_at_once_share_one_call(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "small", file)

    found = await asyncio.gather(*(model.complete(a_request(), 3) for _ in range(4)))

    assert len(asked.calls) == 1
    assert all(one == found[0] for one in found)


async def test_a_failure_is_not_kept(file: SampleFile) -> None:
    script = ScriptedModel("look", failures={0: BadResponse("broken")})
    model = RememberedModel(script, "small", file)
    with pytest.raises(BadResponse):
        await model.complete(a_request())

    found = await model.complete(a_request())

    assert texts(found) == ["look"]
    assert file.size() == 1


async def test_hot_answers_pass_where_only_greedy_ones_are_kept(file: SampleFile) -> None:
    asked = SeededModel()
    model = RememberedModel(asked, "large", file, greedy_only=True)

    for temperature in (0.7, 0.7, None, 0.0, 0.0):
        await model.complete(a_request(temperature=temperature))

    assert len(asked.calls) == 4
    assert file.size() == 1


async def test_samples_outlive_the_process_that_drew_them(tmp_path: Path) -> None:
    path = tmp_path / "samples.sqlite"
    killed = SampleFile(path)
    await RememberedModel(SeededModel(), "small", killed).complete(a_request(), 2)
    # Not closed: what a killed process leaves behind.
    asked = SeededModel()
    opened = SampleFile(path)

    found = await RememberedModel(asked, "small", opened).complete(a_request(), 2)

    assert asked.calls == []
    assert texts(found) == ["seed 40", "seed 41"]
    opened.close()
    killed.close()


async def test_a_completion_tells_how_long_its_first_call_took(file: SampleFile) -> None:
    ticks = count()
    model = RememberedModel(SeededModel(), "small", file, timer=lambda: 2.5 * next(ticks))

    first = await model.complete(a_request())
    again = await model.complete(a_request())

    assert [(one.model_extra or {})[LATENCY_FIELD] for one in (first, again)] == [2.5, 2.5]


async def test_log_probabilities_and_tool_calls_are_kept(file: SampleFile) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "go", "arguments": "{}"}}
    spoken = said("", tokens=4)
    message = spoken.message.model_copy(update={"tool_calls": [call]})
    choice = spoken.model_copy(update={"message": message})
    model = RememberedModel(ScriptedModel([[choice]]), "small", file)
    first = await model.complete(a_request())

    again = await model.complete(a_request())

    assert again.choices[0].logprobs == spoken.logprobs
    assert again.choices[0].message.tool_calls == [call]
    assert again == first


async def test_a_stream_is_that_of_the_kept_sample(file: SampleFile) -> None:
    model = RememberedModel(SeededModel(), "small", file)
    await model.complete(a_request())

    pieces = [chunk async for chunk in model.stream(a_request())]

    said_pieces = [
        choice["delta"].get("content", "") for chunk in pieces for choice in chunk["choices"]
    ]
    assert "".join(said_pieces) == "seed 40"
    assert pieces[-1]["usage"]["completion_tokens"] == 3


async def test_samples_that_are_drawn_in_turn_are_those_drawn_together(file: SampleFile) -> None:
    from tutelage.runtime.sampling import Drawing

    asked = SeededModel()
    model = RememberedModel(asked, "small", file)
    together = Drawing(model, a_request(), SamplePlan(3, 0.7), lambda choices: False)
    await together.run()
    in_turn = Drawing(
        model, a_request(), SamplePlan(3, 0.7, "sequential"), lambda choices: len(choices) == 2
    )

    await in_turn.run()

    assert together.completion is not None
    assert in_turn.completion is not None
    assert texts(in_turn.completion) == texts(together.completion)[:2]
    assert asked.calls == [(40, 3)]


@given(st.integers(0, 500), st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_the_shares_of_a_call_add_up(total: int, spoken: list[str]) -> None:
    shares = shared_tokens(total, [said(text) for text in spoken])

    assert sum(shares) == total
    assert min(shares) >= 0


def test_tokens_that_choices_tell_decide_their_shares() -> None:
    assert shared_tokens(10, [said("a long text", tokens=2), said("b", tokens=8)]) == [2, 8]
