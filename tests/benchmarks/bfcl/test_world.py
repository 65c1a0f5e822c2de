"""Real items, executed by the package's systems and judged by its checker."""

from __future__ import annotations

import importlib
import sys

import pytest

from tutelage.benchmarks.bfcl.calls import Call, action_of
from tutelage.benchmarks.bfcl.conversation import ADDED, END, STEPS_A_TURN
from tutelage.benchmarks.bfcl.functions import READS
from tutelage.benchmarks.bfcl.machine import Machine
from tutelage.benchmarks.bfcl.world import BfclWorld, bfcl_manner
from tutelage.benchmarks.environment import Outcome, Task
from tutelage.benchmarks.worker import WorldProcess
from tutelage.benchmarks.worlds import manner_of
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

PWD = action_of([Call("pwd", {})])


def task(id: str) -> Task:
    return Task(f"multi_turn_{id}", "any", id.rpartition("_")[0])


def to_the_end(world: BfclWorld) -> Outcome:
    while not (outcome := world.step(world.oracle().text)).done:
        pass
    return outcome


@pytest.mark.slow
async def test_the_oracle_does_forty_items_in_a_worker(world: BfclWorld) -> None:
    process = WorldProcess("bfcl")
    try:
        for one in await process.tasks("test:40"):
            await process.reset(one)
            while not (outcome := await process.step((await process.oracle()).text)).done:
                pass
            assert outcome.success, one.id
    finally:
        await process.aclose()


def test_a_student_that_looks_and_stumbles_leaves_the_oracle_on_its_way(world: BfclWorld) -> None:
    stumbles = ('{"tool_calls":[{"name":"nope","arguments":"{}"}]}', PWD, '{"tool_calls": oops')
    for one in world.tasks("test:40"):
        world.reset(one)
        outcome, number = Outcome("", False, False), 0
        while not outcome.done:
            assert not world.step(stumbles[number % 3]).done
            outcome, number = world.step(world.oracle().text), number + 1
        assert outcome.success, one.id


def test_who_only_ends_turns_fails(world: BfclWorld) -> None:
    for one in world.tasks("test:40"):
        world.reset(one)
        while not (outcome := world.step("Done.")).done:
            pass
        assert not outcome.success, one.id


def test_a_wrong_change_fails(world: BfclWorld) -> None:
    world.reset(task("base_2"))
    world.step(action_of([Call("mkdir", {"dir_name": "rubbish"})]))
    assert to_the_end(world) == Outcome("The user has no more requests.", True, False)
    assert world.step(END) == Outcome("Nothing happens: the conversation is over.", True, False)


def test_calls_may_come_in_one_action(world: BfclWorld) -> None:
    world.reset(task("base_2"))
    calls = [Call("cd", {"folder": "documents"}), Call("touch", {"file_name": "TeamNotes.txt"})]
    outcome = world.step(action_of(calls))
    assert outcome.observation.startswith('{"current_working_directory": "documents"}\n')
    assert world.oracle().text == END
    assert to_the_end(world).success


def test_a_withheld_function_is_refused_and_later_offered(world: BfclWorld) -> None:
    opening = world.reset(task("miss_func_2"))
    assert "\ncp(" not in opening.observation
    assert "\ntouch(file_name: string): Create a new file" in opening.observation
    copy = action_of([Call("cp", {"source": "a", "destination": "b"})])
    assert world.step(copy).observation == "Nothing happens: there is no function 'cp'."
    while ADDED not in (outcome := world.step(world.oracle().text)).observation:
        assert not outcome.done
    assert "\ncp(source: string, destination: string)" in outcome.observation
    assert world.step(copy).observation.startswith("{")


def test_too_many_steps_in_a_turn_end_the_conversation(world: BfclWorld) -> None:
    world.reset(task("base_2"))
    for _ in range(STEPS_A_TURN):
        assert not world.step(PWD).done
    assert world.step(PWD) == Outcome("You have taken too many steps.", True, False)


def test_an_argument_that_is_python_is_only_text(world: BfclWorld) -> None:
    world.reset(task("base_2"))
    text = "__import__('os').getcwd()"
    world.step(action_of([Call("touch", {"file_name": "a.txt"})]))
    world.step(action_of([Call("echo", {"content": text, "file_name": "a.txt"})]))
    outcome = world.step(action_of([Call("cat", {"file_name": "a.txt"})]))
    assert outcome.observation == f'{{"file_content": "{text}"}}'


def test_nothing_of_a_run_is_left_in_the_package(world: BfclWorld) -> None:
    world.reset(task("long_context_2"))
    world.step(PWD)
    utils = importlib.import_module("bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils")
    assert any(name.startswith("tutelage") for name in vars(utils))
    world.close()
    assert not any(name.startswith("tutelage") for name in vars(utils))
    with pytest.raises(BenchmarkError, match="call reset first"):
        world.oracle()


def test_calls_that_only_read_leave_every_system_as_it_was(world: BfclWorld) -> None:
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils

    seen = set()
    for one in world.tasks("train"):
        item = world.item(one)
        machine = Machine(f"tutelage_reads_{one.id}", item.entry)
        machine.run([])  # sets the systems up
        for call in (call for turn in item.gold for call in turn):
            before = _state(vars(multi_turn_utils), "tutelage_reads_")
            machine.run([call])
            after = _state(vars(multi_turn_utils), "tutelage_reads_")
            if call.name in READS:
                seen.add(call.name)
                assert before == after, call
        machine.close()
    assert len(seen) > 30


def _state(kept: dict[str, object], prefix: str) -> str:
    return repr(
        {
            name: {key: repr(value) for key, value in vars(system).items() if key[0] != "_"}
            for name, system in kept.items()
            if name.startswith(prefix)
        }
    )


def test_calls_are_compared_as_tools() -> None:
    manner = manner_of("bfcl")
    assert manner == bfcl_manner()
    assert (manner.canonical, manner.stop) == ("tools", ())
    assert manner.effects["ls"] == "read"
    assert "rm" not in manner.effects


def test_an_unknown_split_is_refused(world: BfclWorld) -> None:
    with pytest.raises(WorldMissing, match="unknown split 'exam' of bfcl"):
        world.tasks("exam")


def test_a_package_without_its_systems_is_said(
    world: BfclWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="is not installed"):
        world.reset(task("base_2"))
