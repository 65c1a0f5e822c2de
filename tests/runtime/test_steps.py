from __future__ import annotations

from tutelage.runtime.answer_form import AnswerForm
from tutelage.runtime.steps import action_text, conversation_id, read_step, tool_calls
from tutelage.runtime.types import ChatRequest, Message, Turn


def request(*messages: tuple[str, str]) -> ChatRequest:
    return ChatRequest(model="m", messages=[Message(role=r, content=c) for r, c in messages])


def test_the_opening_message_gives_goal_and_first_observation() -> None:
    step = read_step(
        request(("system", "Act."), ("user", "Task: put a mug in desk.\nYou see a desk 1.")),
        tenant="t",
        episode_id="e",
    )
    assert (step.goal, step.observation, step.index) == (
        "put a mug in desk.",
        "You see a desk 1.",
        0,
    )


def test_earlier_turns_become_history_with_who_served_them() -> None:
    step = read_step(
        request(
            ("user", "Task: tidy.\nA room."),
            ("assistant", "look"),
            ("user", "A desk."),
            ("assistant", "go to desk 1"),
            ("user", "On it, a pen."),
        ),
        tenant="t",
        episode_id="e",
        served={0: "student", 1: "teacher"},
    )
    assert step.index == 2
    assert step.history == (
        Turn("A room.", "look", "student"),
        Turn("A desk.", "go to desk 1", "teacher"),
    )
    assert step.observation == "On it, a pen."
    assert step.goal == "tidy."


def test_a_goal_given_by_the_caller_wins() -> None:
    step = read_step(request(("user", "hello")), tenant="t", episode_id="e", goal="greet")
    assert (step.goal, step.observation) == ("greet", "hello")


def test_without_a_goal_line_the_opening_is_the_goal() -> None:
    step = read_step(request(("user", "Book me a flight.")), tenant="t", episode_id="e")
    assert step.goal == "Book me a flight."
    assert step.observation == "Book me a flight."


def test_tool_calls_survive_the_way_to_text_and_back() -> None:
    call = {"id": "x", "type": "function", "function": {"name": "open", "arguments": '{"a": 1}'}}
    text = action_text(Message(role="assistant", content=None, tool_calls=[call]))
    assert tool_calls(text) == [{**call, "id": "call_0"}]
    assert tool_calls("go to desk 1") is None
    assert tool_calls('{"tool_calls":[broken') is None
    assert tool_calls('{"tool_calls":[1]}') is None
    assert tool_calls('{"tool_calls":[' + "[" * 100_000) is None


def test_tool_results_between_actions_are_one_observation() -> None:
    messages = [
        Message(role="user", content="Goal: count"),
        Message(role="assistant", content=None, tool_calls=[{"function": {"name": "ls"}}]),
        Message.model_validate({"role": "tool", "content": "a", "tool_call_id": "1"}),
        Message.model_validate({"role": "tool", "content": "b", "tool_call_id": "2"}),
    ]
    step = read_step(ChatRequest(model="m", messages=messages), tenant="t", episode_id="e")
    assert step.observation == "a\nb"
    assert step.history[0].action.startswith('{"tool_calls":')


def test_conversations_are_told_apart_by_what_stands_before_the_first_action() -> None:
    first = request(("user", "Task: a"))
    later = request(("user", "Task: a"), ("assistant", "look"), ("user", "seen"))
    other = request(("user", "Task: b"))
    assert conversation_id(first, tenant="t") == conversation_id(later, tenant="t")
    assert conversation_id(first, tenant="t") != conversation_id(other, tenant="t")
    assert conversation_id(first, tenant="t") != conversation_id(first, tenant="u")


def test_a_step_knows_what_form_its_answer_has_to_have() -> None:
    asked = request(("user", "Task: go"))
    assert read_step(asked, tenant="t", episode_id="e").form is None
    demanded = ChatRequest.model_validate({**asked.wire(), "tool_choice": "required"})
    assert read_step(demanded, tenant="t", episode_id="e").form == AnswerForm(must_call=True)
