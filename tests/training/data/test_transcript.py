from __future__ import annotations

from tests.training.data.episodes import MIXED, SYSTEM, TAUGHT, chat, played

from tutelage.runtime.types import Trace
from tutelage.training.data.transcript import spoken, transcript

CALL = '{"tool_calls":[{"name":"open","arguments":"{\\"what\\": \\"box\\"}"}]}'


def shown(steps: tuple[Trace, ...]) -> list[dict[str, object]]:
    return [m.model_dump(exclude_unset=True) for m in transcript(steps).messages]


def changed(steps: tuple[Trace, ...], index: int, **update: object) -> tuple[Trace, ...]:
    return tuple(
        one.model_copy(update=update) if position == index else one
        for position, one in enumerate(steps)
    )


def test_the_chat_is_what_the_agent_sent_and_the_last_answer() -> None:
    steps = played(MIXED).steps()
    expected = [*chat(MIXED, 4, "put a mug away"), {"role": "assistant", "content": MIXED[4][1]}]
    assert shown(steps) == expected
    assert transcript(steps).answers == (2, 4, 6, 8, 10)


def test_demonstrations_of_the_first_prompt_are_left_out() -> None:
    steps = played(TAUGHT).steps()
    opening = list(steps[0].prompt)
    demonstration = [
        {"role": "user", "content": "Task: another"},
        {"role": "assistant", "content": "look"},
    ]
    steps = changed(steps, 0, prompt=(opening[0], *demonstration, opening[1]))
    assert shown(steps)[:2] == opening


def test_instructions_of_several_messages_are_joined_as_when_the_student_serves() -> None:
    steps = played(TAUGHT).steps()
    prompt = ({"role": "developer", "content": "Be brief."}, *steps[0].prompt)
    steps = changed(steps, 0, prompt=prompt)
    assert shown(steps)[0] == {"role": "system", "content": "Be brief.\n\nYou play."}


def test_without_a_prompt_goal_and_observation_make_the_opening() -> None:
    steps = changed(played(TAUGHT).steps(), 0, prompt=())
    assert shown(steps)[0] == {"role": "user", "content": "Task: put a mug away\na room"}


def test_an_answer_stands_as_the_client_repeated_it() -> None:
    steps = played(TAUGHT).steps()
    steps = changed(steps, 0, answer="Thought: a box.\nAction: open box")
    assert shown(steps)[2] == {"role": "assistant", "content": "open box"}


def test_an_answer_of_a_demonstration_is_not_taken_for_the_episodes_own() -> None:
    steps = played(TAUGHT).steps()
    prompt = (SYSTEM, {"role": "assistant", "content": "look"}, {"role": "user", "content": "x"})
    steps = changed(steps, 1, prompt=prompt)
    assert shown(steps)[2] == {"role": "assistant", "content": "open box"}


def test_tool_calls_and_their_results_stay_what_they_were() -> None:
    steps = changed(played(TAUGHT).steps(), 0, answer=CALL)
    result = {"role": "tool", "content": "a mug", "tool_call_id": "c"}
    steps = changed(steps, 1, prompt=(*steps[0].prompt, result))
    messages = shown(steps)
    assert messages[2]["tool_calls"] == [
        {
            "id": "0_call_0",
            "type": "function",
            "function": {"name": "open", "arguments": '{"what": "box"}'},
        }
    ]
    assert messages[3] == {"role": "tool", "content": "a mug", "tool_call_id": "0_call_0"}


def test_results_that_the_prompt_does_not_show_stand_in_the_first_of_them() -> None:
    two = CALL.replace("}]}", '},{"name":"look","arguments":"{}"}]}')
    steps = changed(played(TAUGHT).steps(), 0, answer=two)
    contents = [message["content"] for message in shown(steps)[3:5]]
    assert contents == ["a mug", "(see above)"]


def test_a_canonical_key_of_calls_becomes_calls_with_arguments_as_text() -> None:
    message = spoken('{"tool_calls":[{"arguments":{"what":"box"},"name":"open"}]}', 3)
    assert message.content is None
    assert message.tool_calls is not None
    assert message.tool_calls[0]["id"] == "3_call_0"
    assert message.tool_calls[0]["function"]["arguments"] == '{"what": "box"}'
