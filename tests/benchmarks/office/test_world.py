from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.benchmarks.environment import Environment, OracleAction, Task
from tutelage.benchmarks.office.catalogue import office_apis
from tutelage.benchmarks.office.shell.shell import Shell
from tutelage.benchmarks.office.tools_world import NoCalls, OfficeToolsWorld, calls_of
from tutelage.benchmarks.office.world import OfficeWorld, code_of
from tutelage.benchmarks.worlds import create_world, manner_of
from tutelage.runtime.errors import BenchmarkError, WorldMissing

World = OfficeWorld | OfficeToolsWorld
MOST_STEPS = 28


@pytest.fixture(scope="module")
def code_world() -> Iterator[OfficeWorld]:
    world = OfficeWorld()
    yield world
    world.close()


@pytest.fixture(params=["office", "office-tools"])
def world(request: pytest.FixtureRequest, code_world: OfficeWorld) -> Iterator[World]:
    if request.param == "office":
        yield code_world
    else:
        tools_world = OfficeToolsWorld()
        yield tools_world
        tools_world.close()


def _play(
    world: World, task: Task, *, detour: Callable[[int], str | None] = lambda _: None
) -> bool:
    world.reset(task)
    for step in range(MOST_STEPS):
        outcome = world.step(detour(step) or world.oracle().text)
        if outcome.done:
            return outcome.success
    return False


def _write(world: World, app: str, api: str, **arguments: object) -> str:
    """An action that logs in where needed, and makes one call."""
    desk = world.playing().game.desk
    desk.logged_in.add(app)
    if app != "supervisor":
        arguments = {"access_token": desk.token(app), **arguments}
    if world.name == "office":
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"apis.{app}.{api}({given})"
    call = {"name": f"{app}__{api}", "arguments": json.dumps(arguments)}
    return json.dumps({"tool_calls": [call]})


def _all(world: World) -> list[Task]:
    return [task for split in ("train", "dev", "test") for task in world.tasks(split)]


def test_the_oracle_solves_tasks_of_every_split(world: World) -> None:
    for split in ("train:9", "dev:9", "test:9"):
        for task in world.tasks(split):
            assert _play(world, task), task.id


def test_the_oracle_solves_every_task(world: World) -> None:
    failed = [task.id for task in _all(world) if not _play(world, task)]
    assert failed == []


def test_an_agent_that_only_completes_the_task_solves_none(world: World) -> None:
    for task in _all(world):
        world.reset(task)
        outcome = world.step(_write(world, "supervisor", "complete_task"))
        assert outcome.done
        assert not outcome.success, task.id


def test_an_agent_that_does_nothing_is_never_done(world: World) -> None:
    for task in world.tasks("test:12"):
        world.reset(task)
        assert not any(world.step("").done for _ in range(5))


def _last_step(world: World, task: Task) -> str:
    """Plays all but the last step, and says what that is."""
    world.reset(task)
    while True:
        action = world.oracle().text
        if "complete_task" in action:
            return action
        world.step(action)


def test_an_agent_that_does_damage_besides_fails(world: World) -> None:
    for task in world.tasks("test:15"):
        end = _last_step(world, task)
        world.step(_write(world, "todo", "add_item", list_name="home", title="unasked"))
        outcome = world.step(end)
        assert outcome.done
        assert not outcome.success
        verdict = world.playing().verdict
        assert verdict is not None
        assert (verdict.collateral, verdict.missing, verdict.answered) == (1, 0, True)


def test_a_wrong_answer_fails(world: World) -> None:
    questions = 0
    for task in world.tasks("test"):
        world.reset(task)
        if world.playing().game.assignment.answer is None:
            continue
        questions += 1
        for wrong in ("nobody", -1, None):
            _last_step(world, task)
            outcome = world.step(_write(world, "supervisor", "complete_task", answer=wrong))
            assert outcome.done
            assert not outcome.success
    assert questions >= 9


def test_an_answer_that_nobody_asked_for_fails(world: World) -> None:
    task = next(one for one in world.tasks("test") if one.id == "append_line-0")
    _last_step(world, task)
    assert not world.step(_write(world, "supervisor", "complete_task", answer=5)).success


def test_equal_actions_show_equal_observations(world: World) -> None:
    def transcript(task: Task) -> list[str]:
        seen = [world.reset(task).observation]
        for _ in range(MOST_STEPS):
            action = world.oracle().text
            outcome = world.step(action)
            seen += [action, outcome.observation]
            if outcome.done:
                break
        return seen

    for task in world.tasks("test:6"):
        assert transcript(task) == transcript(task)


def test_the_oracle_reads_first_and_is_an_expert(code_world: OfficeWorld) -> None:
    code_world.reset(code_world.tasks("test")[0])
    thoughts = []
    for _ in range(MOST_STEPS):
        action = code_world.oracle()
        assert action.knowledge == "expert"
        thoughts.append(action.text)
        if code_world.step(action.text).done:
            break
    order = [
        "show_app_descriptions",
        "show_api_descriptions",
        "show_api_doc",
        "passwords",
        ".login(",
    ]
    places = [next(i for i, text in enumerate(thoughts) if part in text) for part in order]
    assert places == sorted(places)
    assert all(text.count("```") == 2 for text in thoughts)


def test_a_detour_that_only_looks_leaves_the_script_as_it_is(world: World) -> None:
    look = {2: "print(apis.supervisor.show_today())"}
    if world.name == "office-tools":
        look = {2: '{"tool_calls":[{"name":"supervisor__show_today","arguments":{}}]}'}
    for task in world.tasks("dev:9"):
        assert _play(world, task, detour=look.get)
        assert world.playing().verdict is not None


def test_after_a_detour_that_breaks_its_variables_the_oracle_does_what_is_missing(
    code_world: OfficeWorld,
) -> None:
    for task in code_world.tasks("dev"):
        code_world.reset(task)
        done = False
        for step in range(2 * MOST_STEPS):
            broken = step == 5
            action = "accounts = None" if broken else code_world.oracle().text
            if outcome := code_world.step(action):
                done = outcome.success
            if outcome.done:
                break
        assert done, task.id


def _play_on(world: World, steps: int = MOST_STEPS) -> tuple[list[OracleAction], bool]:
    actions = []
    for _ in range(steps):
        actions.append(world.oracle())
        outcome = world.step(actions[-1].text)
        if outcome.done:
            return actions, outcome.success
    return actions, False


def test_work_that_another_agent_did_is_not_done_twice(world: World) -> None:
    task = next(one for one in world.tasks("test") if one.id == "add_item-0")
    world.reset(task)
    wanted = dict(world.playing().game.assignment.wanted[0].values)
    del wanted["done"]
    world.step(_write(world, "todo", "add_item", list_name=wanted.pop("list"), **wanted))
    actions, success = _play_on(world)
    assert success
    assert not any("add_item" in one.text and "list_name" in one.text for one in actions)
    assert [one.knowledge for one in actions].count("planner") == 1
    assert actions[-1].knowledge == "planner"


def test_half_done_work_is_finished_call_by_call(world: World) -> None:
    for name in ("move_items-0", "retag_notes-0"):
        task = next(one for one in world.tasks("test") if one.id == name)
        world.reset(task)
        wanted = world.playing().game.assignment.wanted
        values = world.playing().game.assignment.values
        if name == "move_items-0":
            half = ("todo", "move_item", {"item_id": wanted[-1].key, "list_name": values["new"]})
            left = len(wanted) - 1
        else:
            half = ("notes", "untag_note", {"note_id": wanted[0].key, "tag": values["old"]})
            left = 2 * len(wanted) - 1
        world.step(_write(world, half[0], half[1], **half[2]))
        actions, success = _play_on(world)
        assert success
        assert [one.knowledge for one in actions].count("planner") == left + 1


def test_work_that_can_no_longer_be_done_is_left_out(world: World) -> None:
    task = next(one for one in world.tasks("train") if one.id == "change_place-0")
    world.reset(task)
    key = world.playing().game.assignment.wanted[0].key
    world.step(_write(world, "calendar", "cancel_event", event_id=key))
    while world.oracle().knowledge == "expert":
        world.step(world.oracle().text)
    world.playing().game.desk.logged_in.clear()
    actions, success = _play_on(world)
    assert not success
    for action, part in zip(actions, ("login", "update_event", "complete_task"), strict=True):
        assert part in action.text


def test_failing_steps_of_another_agent_do_not_make_the_oracle_skip_its_reading(
    code_world: OfficeWorld,
) -> None:
    task = code_world.tasks("test")[0]
    code_world.reset(task)
    first = code_world.oracle()
    for code in ("1 / 0", "nonsense(", "missing"):
        code_world.step(code)
        assert code_world.oracle() == first
    actions, success = _play_on(code_world)
    assert success
    assert {one.knowledge for one in actions} == {"expert"}


def test_lost_variables_are_set_again() -> None:
    world = OfficeWorld(Shell({a: list(x) for a, x in office_apis().apis.items()}, step_s=0.5))
    for task in world.tasks("test:3"):
        world.reset(task)
        while "accounts[" not in world.oracle().text:
            world.step(world.oracle().text)
        world.step(world.oracle().text)
        assert world.step("while True: pass").observation.startswith("Stopped: ")
        actions, success = _play_on(world)
        assert success
        assert "show_account_passwords" in actions[0].text
        assert {one.knowledge for one in actions} == {"expert"}
    world.close()


def test_an_oracle_whose_script_fails_again_and_again_makes_the_missing_calls(
    code_world: OfficeWorld,
) -> None:
    task = next(one for one in code_world.tasks("test") if one.id == "move_items-0")
    code_world.reset(task)
    while "move_item(" not in code_world.oracle().text:
        code_world.step(code_world.oracle().text)
    code_world.step("del items, todo_token")
    actions, success = _play_on(code_world)
    assert success
    assert actions[-1].knowledge == "planner"


def test_once_over_a_task_stays_over(world: World) -> None:
    assert _play(world, world.tasks("test")[0])
    again = world.step("print(1)")
    assert again.done
    assert again.success
    assert again.observation == "Nothing happens: the task is over."


def test_reset_forgets_the_task_before(world: World) -> None:
    first, second = world.tasks("train")[:2]
    opening, action = world.reset(first), world.oracle()
    world.step(action.text)
    world.reset(second)
    assert (world.reset(first), world.oracle()) == (opening, action)


def test_playing_before_a_reset_is_refused() -> None:
    for made in (OfficeWorld(), OfficeToolsWorld()):
        for play in (lambda made=made: made.step("x"), made.oracle):
            with pytest.raises(BenchmarkError, match="call reset first"):
                play()
        with pytest.raises(WorldMissing, match="no task"):
            made.reset(Task("trial", "test", "easy"))
        made.close()


def test_both_forms_come_with_tutelage() -> None:
    worlds: list[Environment] = [create_world("office"), create_world("office-tools")]
    assert [one.name for one in worlds] == ["office", "office-tools"]
    for one in worlds:
        assert isinstance(one, OfficeWorld | OfficeToolsWorld)
        one.close()


def test_the_world_says_how_it_wants_to_be_played(world: World) -> None:
    manner = manner_of(world.name)
    assert manner.canonical == ("code" if world.name == "office" else "tools")
    assert (len(manner.tools) > 80) == (world.name == "office-tools")
    assert manner.effects["apis.todo.delete_item"] == "write"
    assert manner.stop == ()


def test_code_is_that_of_the_fences_or_all_of_it() -> None:
    assert code_of("x = 1") == "x = 1"
    assert code_of("I think.\n```python\nx = 1\n```\nSo.") == "x = 1\n"
    assert code_of("```\nx = 1\n```\n```py\ny = 2\n") == "x = 1\n\ny = 2\n"


def test_code_that_is_refused_as_a_whole_is_a_refusal(code_world: OfficeWorld) -> None:
    code_world.reset(code_world.tasks("test")[0])
    for code in ("I would look at the mails.", "x.__class__", "print(1"):
        assert code_world.step(code).observation.startswith("Nothing happens: ")
    assert code_world.step("x = 1").observation == "Done. Nothing was printed."
    assert code_world.step("1 / 0").observation.startswith("Traceback: line 1\nZeroDivisionError")


@pytest.mark.parametrize(
    "action",
    [
        "text",
        "{}",
        "[]",
        '{"tool_calls": []}',
        '{"tool_calls": 5}',
        '{"tool_calls": [5]}',
        '{"tool_calls": [{"name": 5}]}',
        '{"tool_calls": [{"arguments": {}}]}',
        '{"tool_calls": [{"name": "a", "arguments": "[]"}]}',
        '{"tool_calls": [{"name": "a", "arguments": "{"}]}',
        '{"tool_calls": [{"name": "a", "arguments": [1]}]}',
        "[" * 9000,
    ],
)
def test_what_is_no_tool_call_is_refused(action: str) -> None:
    with pytest.raises(NoCalls):
        calls_of(action)
    world = OfficeToolsWorld()
    world.reset(world.tasks("test")[0])
    assert world.step(action).observation.startswith("Nothing happens: ")


def test_tool_calls_are_read_in_all_their_forms() -> None:
    expected = [("mail__show", {"a": 1})]
    for call in (
        '{"name":"mail__show","arguments":{"a":1}}',
        '{"name":"mail__show","arguments":"{\\"a\\":1}"}',
        '{"id":"1","type":"function","function":{"name":"mail__show","arguments":"{\\"a\\":1}"}}',
    ):
        assert calls_of(f'{{"tool_calls":[{call}]}}') == expected
    assert calls_of('{"tool_calls":[{"name":"x__y","arguments":""}]}') == [("x__y", {})]


def test_several_calls_are_made_up_to_the_first_that_is_refused() -> None:
    world = OfficeToolsWorld()
    world.reset(world.tasks("test")[0])
    today = {"name": "supervisor__show_today", "arguments": {}}
    bad = {"name": "mail__nothing", "arguments": {}}
    shown = world.step(json.dumps({"tool_calls": [today, bad, today]})).observation
    assert shown.count("2026-") == 1
    assert "has no API 'nothing'" in shown
    assert world.step(json.dumps({"tool_calls": [bad]})).observation.startswith("Nothing happens")


def test_long_answers_of_tools_are_cut() -> None:
    world = OfficeToolsWorld()
    world.reset(world.tasks("test")[0])
    world.playing().game.desk.insert("notes", title="long", body="x" * 9_000, tags="")
    key = world.playing().game.desk.rows("SELECT MAX(id) AS id FROM notes")[0]["id"]
    observation = world.step(_write(world, "notes", "show_note", note_id=key)).observation
    assert len(observation) < 4_100
    assert observation.endswith("(output is cut at 4000 characters)")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_no_text_from_an_agent_stops_the_world(code_world: OfficeWorld, actions: list[str]) -> None:
    tools_world = OfficeToolsWorld()
    for world in (code_world, tools_world):
        world.reset(world.tasks("dev")[1])
        for action in actions:
            world.step(action)
        assert isinstance(world.oracle(), OracleAction)
    tools_world.close()


def test_speed_is_reported(world: World, record_property: Callable[[str, Any], None]) -> None:
    tasks = world.tasks("train:40")
    started = time.perf_counter()
    assert all(_play(world, task) for task in tasks)
    record_property(f"{world.name}_episodes_per_s", round(40 / (time.perf_counter() - started)))
