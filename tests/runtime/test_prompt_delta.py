from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.deliberations import Shelf, deliberator, request, thought

from tutelage.runtime.deliberation import new_deliberation
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.prompt import (
    PromptSettings,
    demonstration_tokens,
    is_covered,
    render,
)
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import ChatRequest, Demonstration, Message, Retrieved, Turn

DELTA = PromptSettings(layout="pinned-delta", max_prompt_tokens=10_000)


def words(text: str) -> int:
    return len(text.split())


def shown(name: str, step: int = 0, *, length: int = 2, target: int = -1) -> Retrieved:
    window = tuple(Turn(f"{name} sees {i}", f"{name} acts {i}") for i in range(length))
    return Retrieved(
        Demonstration(
            id=f"{name}:{step}",
            tenant="t",
            trajectory_id=name,
            step_index=step,
            goal=f"goal of {name}",
            window=window,
            target=target,
            source="oracle:test",
        ),
        1.0,
    )


def transcript(turns: int) -> ChatRequest:
    messages = [
        Message(role="system", content="Act."),
        Message(role="user", content="Task: tidy.\nA room."),
    ]
    for i in range(turns):
        messages.append(Message(role="assistant", content=f"action {i}"))
        messages.append(Message(role="user", content=f"observation {i}"))
    return ChatRequest(model="m", messages=messages)


def rendered(
    made: ChatRequest,
    near: list[Retrieved],
    pinned: list[Retrieved],
    settings: PromptSettings = DELTA,
) -> list[str]:
    step = read_step(made, tenant="t", episode_id="e")
    prompt = render(made, step, near, settings, words, pinned=pinned).request
    return [f"{m.role}: {m.text}" for m in prompt.messages]


def test_the_steps_own_demonstrations_stand_before_the_turns_that_mirror_them() -> None:
    assert rendered(transcript(3), [shown("near", 4)], [shown("whole", length=1)]) == [
        "system: Act.",
        "user: Task: goal of whole\nwhole sees 0",
        "assistant: whole acts 0",
        "user: Task: tidy.\nA room.",
        "assistant: action 0",
        "user: observation 0",
        "assistant: action 1",
        "user: Task: goal of near\nnear sees 0",
        "assistant: near acts 0",
        "user: near sees 1",
        "assistant: near acts 1",
        "user: Task: tidy.\nobservation 1",
        "assistant: action 2",
        "user: observation 2",
    ]


def test_without_mirror_they_stand_before_the_latest_observation() -> None:
    settings = PromptSettings(layout="pinned-delta", mirror=False)
    lines = rendered(transcript(1), [shown("near", 4, length=1)], [], settings)
    assert lines[-4:] == [
        "assistant: action 0",
        "user: Task: goal of near\nnear sees 0",
        "assistant: near acts 0",
        "user: Task: tidy.\nobservation 0",
    ]


def test_at_the_opening_the_transcript_comes_last_as_it_is() -> None:
    lines = rendered(transcript(0), [shown("near", length=1)], [])
    assert lines[-1] == "user: Task: tidy.\nA room."
    assert "goal of near" in lines[1]


def test_what_the_prefix_shows_is_not_shown_again() -> None:
    whole = shown("a", 0, length=4, target=0)
    lines = rendered(transcript(2), [shown("a", 3), shown("b", 1)], [whole])
    assert sum("goal of a" in line for line in lines) == 1
    assert sum("goal of b" in line for line in lines) == 1


def test_a_transcript_alone_follows_the_prefix_where_nothing_is_new() -> None:
    whole = shown("a", 0, length=4, target=0)
    lines = rendered(transcript(2), [shown("a", 3)], [whole])
    assert lines[-5:] == [f"{m.role}: {m.text}" for m in transcript(2).messages[1:]]


@pytest.mark.parametrize(
    ("step", "expected"), [(1, False), (2, True), (4, True), (5, False), (0, False)]
)
def test_a_window_covers_the_steps_that_it_holds(step: int, expected: bool) -> None:
    window = shown("a", 3, length=3, target=1)
    assert is_covered(shown("a", step), [window]) is expected
    assert not is_covered(shown("b", step), [window])
    assert not is_covered(shown("a", step), [])


def test_a_transcript_with_calls_of_tools_keeps_its_order() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    made = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "Task: tidy.\nA room."},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "files", "tool_call_id": "1"},
            ],
        }
    )
    lines = rendered(made, [shown("near", length=1)], [])
    assert [line.partition(":")[0] for line in lines] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]


@settings(deadline=None)
@given(
    turns=st.integers(0, 9),
    near=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=4, unique=True),
    length=st.integers(1, 4),
    mirror=st.booleans(),
)
def test_what_stands_before_the_delta_starts_the_next_prompt_as_well(
    turns: int, near: list[tuple[str, int]], length: int, mirror: bool
) -> None:
    settings = PromptSettings(layout="pinned-delta", mirror=mirror, max_prompt_tokens=10_000)
    pinned = [shown("a", 0, length=5, target=0)]
    found = [shown(name, step, length=length) for name, step in near]
    now = rendered(transcript(turns), found, pinned, settings)
    later = rendered(transcript(turns + 1), [shown("d")], pinned, settings)
    full = rendered(transcript(turns + 1), [], pinned, settings)
    stable = next((i for i, line in enumerate(now) if line != full[i]), len(now))
    # Pinned demonstrations, and all of the transcript but the turns that mirror a window.
    kept = turns - (length - 1 if mirror else 0)
    assert stable >= 11 + 2 * max(0, kept)
    # The next step may draw more turns below the demonstrations than this one did.
    assert later[: min(stable, 11 + 2 * turns - 1)] == now[: min(stable, 11 + 2 * turns - 1)]


@settings(deadline=None)
@given(
    turns=st.integers(0, 8),
    demos=st.integers(0, 5),
    pinned=st.integers(0, 2),
    budget=st.integers(40, 400),
)
def test_the_budget_holds_and_the_latest_observation_stays(
    turns: int, demos: int, pinned: int, budget: int
) -> None:
    settings = PromptSettings(layout="pinned-delta", max_prompt_tokens=budget)
    made = transcript(turns)
    step = read_step(made, tenant="t", episode_id="e")
    found = [shown(f"d{i}") for i in range(demos)]
    lead = [shown(f"p{i}") for i in range(pinned)]
    result = render(made, step, found, settings, words, pinned=lead)
    assert sum(words(m.text) + 5 for m in result.request.messages) <= budget
    assert result.request.messages[-1].text.endswith(made.messages[-1].text.split("\n")[-1])


def test_a_demonstration_is_counted_as_the_prompt_counts_it() -> None:
    one = shown("a").demonstration
    bare = render(
        transcript(0), read_step(transcript(0), tenant="t", episode_id="e"), [], DELTA, words
    )
    aided = render(
        transcript(0),
        read_step(transcript(0), tenant="t", episode_id="e"),
        [shown("a")],
        DELTA,
        words,
    )
    added = [sum(words(m.text) + 5 for m in prompt.request.messages) for prompt in (bare, aided)]
    assert demonstration_tokens(one, "turns", words) == added[1] - added[0]


# In an episode.


async def test_the_first_steps_demonstrations_stay_where_no_trajectory_is_pinned() -> None:
    shelf, student = Shelf("first"), ScriptedModel("go")
    made = deliberator(student, retriever=shelf, prompt=DELTA)
    about = thought()
    await made.deliberate(about, None)
    assert about.episode.pinned is not None
    assert [one.demonstration.id for one in about.episode.pinned] == ["first:0"]
    # It was found for this step, so that it tells of it.
    assert [one.demonstration.id for one in about.near] == ["first:0"]

    shelf.id = "later"
    again = new_deliberation(request(), about.episode, "id2", 0.0, "cascade")
    await made.deliberate(again, None)
    assert [one.demonstration.id for one in again.demonstrations] == ["first:0", "later:0"]
    assert [one.demonstration.id for one in again.near] == ["later:0"]


async def test_a_covered_demonstration_still_tells_of_its_step() -> None:
    made = deliberator(
        ScriptedModel("go"),
        retriever=Shelf("same"),
        pinned_retriever=Shelf("same"),
        prompt=DELTA,
    )
    about = thought()
    await made.deliberate(about, None)
    assert [one.demonstration.id for one in about.demonstrations] == ["same:0"]
    assert [one.demonstration.id for one in about.near] == ["same:0"]
