from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.data.episodes import (
    MIXED,
    TAUGHT,
    Row,
    all_ids,
    offering,
    played,
    record,
    words,
)

from tutelage.runtime.prompt import PromptSettings, render
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import ChatRequest, Message
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.examples import ExampleSettings, Shape, examples_of, lessons
from tutelage.training.data.reasoned import Tags
from tutelage.training.data.recorded import RecordedEpisode

WHOLE = ExampleSettings(shape="trajectories")
REASONED = "Thought: the mug is in it.\nAction: open box"


def made(
    recorded: RecordedEpisode, settings: ExampleSettings | None = None
) -> tuple[TrainingExample, ...]:
    return examples_of(recorded, all_ids(recorded), settings or ExampleSettings(), words)


def answers(example: TrainingExample) -> list[object]:
    return [example.messages[index]["content"] for index in example.supervised]


def test_a_taught_episode_is_one_chat_with_loss_on_every_answer() -> None:
    (example,) = made(played(TAUGHT, family="put"), WHOLE)
    assert example.id == example.episode_id == "e1"
    assert answers(example) == ["open box", "take mug", "move mug to shelf"]
    assert example.origin == "teacher"
    assert (example.family, example.task_id, example.goal) == ("put", "game-1", "put a mug away")
    assert example.actions == ("open box", "take mug", "move mug to shelf")
    assert example.trace_ids == ("e1-0", "e1-1", "e1-2")


def test_the_students_turns_stand_in_the_chat_without_loss() -> None:
    (example,) = made(played(MIXED), WHOLE)
    said = [m["content"] for m in example.messages if m["role"] == "assistant"]
    assert said == [row[1] for row in MIXED]
    assert answers(example) == [row[1] for row in MIXED if row[2] == "teacher"]
    assert example.origin == "recovery"


def test_a_chat_ends_with_the_last_answer_that_carries_loss() -> None:
    rows: list[Row] = [*TAUGHT, ("a shelf", "look", "student")]
    (example,) = made(played(rows), WHOLE)
    assert example.messages[-1]["content"] == "move mug to shelf"
    assert example.origin == "teacher"


def test_steps_say_how_the_state_came_about() -> None:
    origins = {example.id: example.origin for example in made(played(MIXED))}
    assert origins == {"e1:0": "teacher", "e1:2": "recovery", "e1:4": "correction"}


def test_an_audit_that_disagrees_corrects_the_students_step_and_makes_the_next_a_recovery() -> None:
    recorded = played(MIXED, audits=[(3, "go to desk", False)])
    origins = {example.id: example.origin for example in made(recorded)}
    assert origins["e1:3"] == "correction"
    assert origins["e1:4"] == "recovery"
    example = next(one for one in made(recorded) if one.id == "e1:3")
    assert answers(example) == ["go to desk"]
    assert example.trace_ids == ("e1-3",)


@pytest.mark.parametrize("audit", [(3, "go to shelf", True), (3, None, False), (3, None, None)])
def test_an_audit_that_agrees_or_says_nothing_corrects_nothing(
    audit: tuple[int, str | None, bool | None],
) -> None:
    assert "e1:3" not in {example.id for example in made(played(MIXED, audits=[audit]))}


def test_a_correction_of_a_whole_episode_is_a_chat_of_its_own() -> None:
    whole, correction = made(played(MIXED, audits=[(3, "go to desk", False)]), WHOLE)
    assert len(whole.supervised) == 3
    assert correction.id == "e1:3"
    assert correction.messages[-1]["content"] == "go to desk"
    assert correction.messages[:-1] == whole.messages[: len(correction.messages) - 1]


def test_what_the_gate_refused_stands_in_the_chat_without_loss() -> None:
    recorded = played(TAUGHT)
    (example,) = examples_of(recorded, {"e1-0", "e1-2"}, WHOLE, words)
    assert answers(example) == ["open box", "move mug to shelf"]
    assert any(message["content"] == "take mug" for message in example.messages)
    assert examples_of(recorded, (), WHOLE, words) == ()


def test_an_episode_with_a_gap_gives_nothing() -> None:
    recorded = played(TAUGHT)
    torn = RecordedEpisode(recorded.episode, recorded.traces[1:])
    assert made(torn) == ()


@given(st.integers(0, 4), st.integers(1, 4))
def test_a_step_is_the_prompt_that_the_student_gets_when_it_serves(
    history: int, asked: int
) -> None:
    prompt = PromptSettings(history_turns=history)
    rows = [(seen, done, "teacher") for seen, done, _ in MIXED]
    recorded = played([(seen, done, "teacher") for seen, done, _ in rows])
    trace = recorded.steps()[asked]
    request = ChatRequest(
        model="agent", messages=[Message.model_validate(one) for one in trace.prompt]
    )
    step = read_step(request, tenant="acme", episode_id="e1", goal=trace.goal)
    served = render(request, step, (), prompt, words).request.messages
    examples = made(recorded, ExampleSettings(prompt=prompt, refusals=()))
    example = next(one for one in examples if one.id == f"e1:{asked}")
    assert list(example.messages[:-1]) == [m.model_dump(exclude_unset=True) for m in served]
    assert example.supervised == (len(served),)


def test_a_step_that_does_not_fit_gives_nothing() -> None:
    settings = ExampleSettings(prompt=PromptSettings(max_prompt_tokens=3))
    assert made(played(TAUGHT), settings) == ()


def test_the_prompt_with_its_demonstrations_is_a_second_example_when_asked() -> None:
    recorded = played(TAUGHT[:1])
    shown = (*recorded.traces[0].prompt[:1], {"role": "user", "content": "A demonstration."})
    demonstrated = recorded.traces[0].model_copy(
        update={"demonstrations": ("d1",), "prompt": (*shown, recorded.traces[0].prompt[1])}
    )
    recorded = RecordedEpisode(recorded.episode, (demonstrated,))
    plain, aided = made(recorded, ExampleSettings(demonstrated=True))
    assert plain.id == "e1:0"
    assert aided.id == "e1:0:demonstrated"
    assert aided.messages[:-1] == demonstrated.prompt
    assert [one.id for one in made(recorded)] == ["e1:0"]


def test_an_answer_with_a_thought_gives_a_row_for_each_task() -> None:
    recorded = played([("a room", REASONED, "teacher")])
    rows = made(recorded, ExampleSettings(tasks=("act", "why", "react")))
    assert [(row.id, row.task, answers(row)[0]) for row in rows] == [
        ("e1:0", "act", "Action: open box"),
        ("e1:0:why", "why", "the mug is in it."),
        ("e1:0:react", "react", REASONED),
    ]
    asked = [str(row.messages[-2]["content"]).splitlines()[-1] for row in rows]
    assert asked == ["a room", "[WHY]", "[REACT]"]


def test_tags_are_a_setting() -> None:
    recorded = played([("a room", REASONED, "teacher")])
    (row,) = made(recorded, ExampleSettings(tags=Tags(act="[ACT]")))
    assert str(row.messages[-2]["content"]).endswith("\n[ACT]")


def test_an_answer_without_a_thought_gives_the_action_alone() -> None:
    rows = made(played(TAUGHT[:1]), ExampleSettings(tasks=("act", "why", "react")))
    assert [row.task for row in rows] == ["act"]


@pytest.mark.parametrize(("repeats", "task"), [(REASONED, "react"), ("open box", "act")])
def test_a_whole_chat_is_a_reasoning_one_if_its_answers_show_thoughts(
    repeats: str, task: str
) -> None:
    rows: list[Row] = [("a room", REASONED, "teacher"), ("a mug", "take mug", "teacher")]
    recorded = played(rows)
    messages = list(recorded.traces[1].prompt)
    messages[2] = {"role": "assistant", "content": repeats}
    second = recorded.traces[1].model_copy(update={"prompt": tuple(messages)})
    (example,) = made(RecordedEpisode(recorded.episode, (recorded.traces[0], second)), WHOLE)
    assert example.task == task


def test_a_key_names_actions_that_were_compared_with_nothing() -> None:
    recorded = played(TAUGHT[:1])
    bare = recorded.traces[0].model_copy(update={"action": None})
    recorded = RecordedEpisode(recorded.episode, (bare,))
    (lesson,) = lessons(recorded, {"e1-0"}, key=str.upper)
    assert lesson.action == "OPEN BOX"
    assert lessons(recorded, {"e1-0"})[0].action == "open box"


@pytest.mark.parametrize("shape", ["steps", "trajectories"])
@given(st.lists(st.sampled_from(["student", "teacher"]), min_size=1, max_size=6))
def test_loss_is_on_the_teachers_answers_and_nowhere_else(shape: Shape, served: list[str]) -> None:
    rows: list[Row] = [
        (f"seen {i}", f"do {i}", "student" if who == "student" else "teacher")
        for i, who in enumerate(served)
    ]
    examples = made(played(rows, record()), ExampleSettings(shape=shape))
    taught = {f"do {i}" for i, who in enumerate(served) if who == "teacher"}
    assert {answer for example in examples for answer in answers(example)} == taught
    for example in examples:
        assert all(example.messages[i]["role"] == "assistant" for i in example.supervised)
        assert list(example.supervised) == sorted(example.supervised)


def names(example: TrainingExample) -> list[str]:
    return [tool["function"]["name"] for tool in example.tools]


def test_each_step_has_the_tools_that_it_offered() -> None:
    recorded = offering(played(TAUGHT), "open", "", "take")
    assert [names(example) for example in made(recorded)] == [["open"], [], ["take"]]


def test_a_trajectory_whose_tools_change_is_one_chat_for_each_set() -> None:
    first, second = made(offering(played(TAUGHT), "open", "take", "open"), WHOLE)
    assert (first.id, names(first), answers(first)) == (
        "e1",
        ["open"],
        ["open box", "move mug to shelf"],
    )
    assert (second.id, names(second), answers(second)) == ("e1:tools1", ["take"], ["take mug"])
    assert second.messages == first.messages[: len(second.messages)]
