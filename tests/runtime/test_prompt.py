from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import ContextTooLong
from tutelage.runtime.prompt import PromptSettings, render
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import ChatRequest, Demonstration, Message, Retrieved, Turn


def words(text: str) -> int:
    return len(text.split())


def demonstration(name: str, *, length: int = 2, score: float = 1.0) -> Retrieved:
    window = tuple(Turn(f"{name} sees {i}", f"{name} acts {i}") for i in range(length))
    return Retrieved(
        Demonstration(
            id=f"{name}:0",
            tenant="t",
            trajectory_id=name,
            step_index=0,
            goal=f"goal of {name}",
            window=window,
            source="oracle:test",
        ),
        score,
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


def texts(request: ChatRequest) -> list[str]:
    return [f"{m.role}: {m.text}" for m in request.messages]


def rendered(
    request: ChatRequest, retrieved: list[Retrieved], settings: PromptSettings, **more: object
) -> list[str]:
    step = read_step(request, tenant="t", episode_id="e")
    return texts(render(request, step, retrieved, settings, words, **more).request)  # type: ignore[arg-type]


def test_demonstrations_stand_as_turns_between_instructions_and_transcript_best_last() -> None:
    near, far = demonstration("near", length=1), demonstration("far", length=1)
    assert rendered(transcript(0), [near, far], PromptSettings()) == [
        "system: Act.",
        "user: Task: goal of far\nfar sees 0",
        "assistant: far acts 0",
        "user: Task: goal of near\nnear sees 0",
        "assistant: near acts 0",
        "user: Task: tidy.\nA room.",
    ]


def test_block_rendering_quotes_a_demonstration_in_one_message() -> None:
    lines = rendered(transcript(0), [demonstration("d")], PromptSettings(rendering="block"))
    assert lines[1].startswith("user: <example>\nExample of another episode. Task: goal of d")
    assert lines[2] == "assistant: Noted."


def test_a_long_transcript_keeps_its_opening_and_latest_turns() -> None:
    lines = rendered(transcript(4), [], PromptSettings(history_turns=2))
    assert lines == [
        "system: Act.",
        "user: Task: tidy.\nA room.\nobservation 1",
        "assistant: action 2",
        "user: observation 2",
        "assistant: action 3",
        "user: observation 3",
    ]


def test_no_history_leaves_the_opening_and_the_latest_observation() -> None:
    lines = rendered(transcript(2), [], PromptSettings(history_turns=0))
    assert lines == ["system: Act.", "user: Task: tidy.\nA room.\nobservation 1"]


def test_the_least_useful_demonstration_is_dropped_first() -> None:
    best, worst = demonstration("best"), demonstration("worst")
    lines = rendered(transcript(0), [best, worst], PromptSettings(max_prompt_tokens=60))
    assert any("best" in line for line in lines)
    assert not any("worst" in line for line in lines)


def test_the_oldest_turns_go_once_no_demonstration_is_left() -> None:
    settings = PromptSettings(history_turns=None, max_prompt_tokens=45)
    lines = rendered(transcript(6), [demonstration("d", length=9)], settings)
    assert not any("sees" in line for line in lines)
    assert lines[-1] == "user: observation 5"
    assert "assistant: action 0" not in lines


def test_an_observation_beyond_the_budget_is_a_clear_error() -> None:
    huge = ChatRequest(model="m", messages=[Message(role="user", content="word " * 100_000)])
    with pytest.raises(ContextTooLong, match="max_prompt_tokens = 1600"):
        rendered(huge, [demonstration("d")], PromptSettings())


def test_a_pinned_prompt_only_grows_until_the_delta() -> None:
    settings = PromptSettings(layout="pinned")
    pinned = [demonstration("whole", length=3)]
    earlier = rendered(transcript(1), [demonstration("x")], settings, pinned=pinned)
    later = rendered(transcript(2), [demonstration("y")], settings, pinned=pinned)
    stable = len(earlier) - len(demonstration("x").demonstration.window) * 2 - 1
    assert later[:stable] == earlier[:stable]
    assert later[-1] == "user: Task: tidy.\nobservation 1"
    assert later[-2] == "assistant: y acts 1"


def test_tool_demonstrations_become_tool_messages_with_a_result_for_every_call() -> None:
    action = '{"tool_calls":[{"name":"ls","arguments":"{}"},{"name":"pwd","arguments":"{}"}]}'
    one = demonstration("d").demonstration.model_copy(
        update={"window": (Turn("start", action), Turn("files", "done"))}
    )
    step = read_step(transcript(0), tenant="t", episode_id="e")
    result = render(transcript(0), step, [Retrieved(one, 1.0)], PromptSettings(), words)
    roles = [m.role for m in result.request.messages]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "user"]
    calls = result.request.messages[2].tool_calls or []
    ids = [m.model_dump()["tool_call_id"] for m in result.request.messages[3:5]]
    assert [call["id"] for call in calls] == ids


def test_a_window_that_ends_with_a_tool_call_is_closed() -> None:
    action = '{"tool_calls":[{"name":"ls","arguments":"{}"}]}'
    one = demonstration("d").demonstration.model_copy(update={"window": (Turn("start", action),)})
    step = read_step(transcript(0), tenant="t", episode_id="e")
    result = render(transcript(0), step, [Retrieved(one, 1.0)], PromptSettings(), words)
    assert [m.role for m in result.request.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]


@given(
    turns=st.integers(0, 8),
    demos=st.integers(0, 5),
    budget=st.integers(40, 400),
    keep=st.none() | st.integers(0, 6),
    layout=st.sampled_from(["per-step", "pinned"]),
)
def test_the_budget_holds_and_the_latest_observation_stays(
    turns: int, demos: int, budget: int, keep: int | None, layout: str
) -> None:
    settings = PromptSettings(layout=layout, history_turns=keep, max_prompt_tokens=budget)  # type: ignore[arg-type]
    request = transcript(turns)
    step = read_step(request, tenant="t", episode_id="e")
    found = [demonstration(f"d{i}") for i in range(demos)]
    result = render(request, step, found, settings, words)
    total = sum(words(m.text) + 5 for m in result.request.messages)
    # The reminder of the task before the latest observation is not budgeted: two words.
    assert total <= budget + 2
    assert result.request.messages[-1].text.endswith(request.messages[-1].text.split("\n")[-1])
    assert set(result.demonstrations) <= set(found)


def test_instructions_of_any_role_are_one_system_message_for_the_student() -> None:
    request = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "Task: tidy.\nA room."},
                {"role": "system", "content": "It is late."},
            ],
        }
    )
    step = read_step(request, tenant="t", episode_id="e")
    rendered = render(request, step, [], PromptSettings(), lambda text: len(text.split()))
    assert [(m.role, m.text) for m in rendered.request.messages] == [
        ("system", "Be brief.\n\nIt is late."),
        ("user", "Task: tidy.\nA room."),
    ]
