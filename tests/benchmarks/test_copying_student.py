from __future__ import annotations

import math
from collections import Counter

import pytest
from tests.benchmarks.streamed import streamed

from tutelage.benchmarks.copying_student import CopyingStudent
from tutelage.runtime.types import ChatRequest


def asked(*said: str, temperature: float | None = 0.7, **fields: object) -> ChatRequest:
    """A conversation that starts with the user and takes turns."""
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": text}
        for place, text in enumerate(said)
    ]
    return ChatRequest.model_validate(
        {"model": "m", "messages": messages, "temperature": temperature, **fields}
    )


async def said(student: CopyingStudent, request: ChatRequest, n: int = 1) -> list[str]:
    completion = await student.complete(request, n)
    return [choice.message.text for choice in completion.choices]


async def test_it_copies_what_follows_the_most_similar_observation() -> None:
    prompt = ("A red door.", "open door", "A green lamp.", "use lamp", "A green LAMP!")

    assert await said(CopyingStudent(), asked(*prompt, temperature=0.0)) == ["use lamp"]


async def test_of_equals_the_later_one_is_copied() -> None:
    prompt = ("A lamp.", "look", "A lamp.", "use lamp", "A lamp.")

    assert await said(CopyingStudent(), asked(*prompt, temperature=0.0)) == ["use lamp"]


async def test_without_a_fitting_turn_it_repeats_itself_and_agrees_with_itself() -> None:
    looping = asked("Task: tidy. A hall.", "go north", "A hall.", "go north", "A hall.")

    assert set(await said(CopyingStudent(), looping, 8)) == {"go north"}


async def test_without_any_turn_it_says_nothing() -> None:
    completion = await CopyingStudent().complete(asked("A hall."), 2)

    assert [choice.message.text for choice in completion.choices] == ["", ""]


async def test_samples_follow_the_weights_that_the_docstring_gives() -> None:
    # Words in common over all words: 1 for the first observation, 1/2 for the second.
    request = asked("red lamp", "one", "red lamp green door", "two", "red lamp", temperature=1.0)
    counted = Counter(await said(CopyingStudent(spread=0.5), request, 4000))

    expected = 1 / (1 + math.exp(-0.5 / 0.5))
    assert counted["one"] / 4000 == pytest.approx(expected, abs=0.03)
    assert counted["one"] + counted["two"] == 4000


async def test_the_log_probability_is_that_of_the_action_whoever_shows_it() -> None:
    request = asked("red lamp", "one", "red lamp", "one", "red lamp", "two", "red lamp")
    completion = await CopyingStudent().complete(request, 30)

    told = {
        choice.message.text: choice.logprobs["content"][0]["logprob"]
        for choice in completion.choices
        if choice.logprobs
    }
    assert told == {
        "one": pytest.approx(math.log(2 / 3)),
        "two": pytest.approx(math.log(1 / 3)),
    }


async def test_what_it_says_depends_on_prompt_and_seeds_alone() -> None:
    prompt = ("red lamp", "one", "red door", "two", "red sofa", "three", "red")
    first = await said(CopyingStudent(), asked(*prompt, seed=1), 12)

    assert first == await said(CopyingStudent(), asked(*prompt, seed=1), 12)
    assert first != await said(CopyingStudent(), asked(*prompt, seed=2), 12)
    assert first != await said(CopyingStudent(seed=1), asked(*prompt, seed=1), 12)


async def test_tokens_are_characters_over_four() -> None:
    completion = await CopyingStudent().complete(asked("red lamp", "use lamp", "red lamp"), 3)

    assert completion.usage.input_tokens == len("red lampuse lampred lamp") // 4
    assert completion.usage.output_tokens == 3 * (len("use lamp") // 4 + 1)


async def test_its_stream_says_the_same() -> None:
    request = asked("red lamp", "use lamp", "red lamp", temperature=0.0)

    assert await streamed(CopyingStudent(), request) == "use lamp"
