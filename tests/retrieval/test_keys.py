from __future__ import annotations

from tutelage.retrieval.keys import StateKey, TaskKeys, category_text, task_keys
from tutelage.retrieval.window import cut, imitable_steps
from tutelage.runtime.types import Served, Step, Trajectory, Turn


def sample(served: tuple[Served | None, ...] = (None,) * 4) -> Trajectory:
    return Trajectory(
        id="t:1",
        tenant="acme",
        goal="find 2 mugs",
        turns=tuple(Turn(f"see {i}", f"do {i}", actor) for i, actor in enumerate(served)),
        success=True,
        category="pick_two",
        task_id="task",
        source="oracle:test",
    )


def test_a_state_is_the_last_action_and_what_it_led_to() -> None:
    key = StateKey()
    assert key.of_turn(sample(), 0) == "start -> see 0"
    assert key.of_turn(sample(), 2) == "do 1 -> see 2"


def test_a_live_step_has_the_key_of_the_recorded_one() -> None:
    trajectory = sample()
    for key in (StateKey(), StateKey(numbers=False, goal=True)):
        for index in range(4):
            step = Step(
                tenant="acme",
                episode_id="e",
                index=index,
                goal=trajectory.goal,
                observation=trajectory.turns[index].observation,
                history=trajectory.turns[:index],
            )
            assert key.of_step(step) == key.of_turn(trajectory, index)


def test_numbers_goal_and_length_follow_the_settings() -> None:
    assert StateKey(numbers=False).of_turn(sample(), 1) == "do -> see"
    assert StateKey(goal=True).of_turn(sample(), 1) == "find 2 mugs | do 0 -> see 1"
    assert StateKey(limit_characters=4).of_turn(sample(), 1) == "do 0"


def test_a_task_is_known_by_its_goal_alone_at_first() -> None:
    step = Step(tenant="acme", episode_id="e", index=0, goal="g", observation="o")
    assert task_keys(step) == TaskKeys("g", None, None)
    assert category_text("pick_and-place") == "pick and place"


def test_a_window_ends_with_the_action_to_imitate() -> None:
    shown = cut(sample(), 2, before=2, after=0)
    assert [turn.action for turn in shown.window] == ["do 0", "do 1", "do 2"]
    assert shown.action == "do 2"
    assert (shown.id, shown.step_index, shown.target) == ("t:1:2", 2, 2)
    assert (shown.category, shown.task_id, shown.state) == ("pick_two", "task", "active")


def test_a_window_may_reach_past_its_target_and_is_cut_at_both_ends() -> None:
    shown = cut(sample(), 1, before=5, after=1)
    assert [turn.action for turn in shown.window] == ["do 0", "do 1", "do 2"]
    assert shown.action == "do 1"
    assert [turn.action for turn in cut(sample(), 3, before=0, after=9).window] == ["do 3"]


def test_steps_of_the_student_are_not_imitated() -> None:
    assert imitable_steps(sample(("teacher", "student", None, "student"))) == [0, 2]
