from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutelage.retrieval.exposures import ToolSet, stale_tools
from tutelage.retrieval.tool_schema import called_tools, tool_hashes, tool_set_sha256

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory

CALL = '{"tool_calls":[{"name":"find","arguments":"{}"},{"name":"open","arguments":"{}"}]}'


def tool(parameters: dict[str, Any], description: str = "") -> dict[str, Any]:
    function = {"name": "find", "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def test_the_shape_of_a_tool_counts_and_its_description_does_not() -> None:
    plain = {"type": "object", "properties": {"what": {"type": "string"}}}
    told = {"type": "object", "properties": {"what": {"type": "string", "description": "What."}}}
    other = {"type": "object", "properties": {"what": {"type": "integer"}}}
    named = {"type": "object", "properties": {"description": {"type": "string"}}}

    assert tool_hashes([tool(plain)]) == tool_hashes([tool(told, "Finds.")])
    hashes = [tool_hashes([tool(shape)])["find"] for shape in (plain, other, named, {})]
    assert len(set(hashes)) == 4


def test_other_ways_to_write_a_tool_are_read() -> None:
    flat = {"name": "find", "input_schema": {"enum": [1, 2]}}

    assert tool_hashes([flat]) == tool_hashes([tool({"enum": [1, 2]})])
    assert tool_hashes([{"type": "web_search"}]) == {}
    assert tool_set_sha256({"a": "1", "b": "2"}) == tool_set_sha256({"b": "2", "a": "1"})


def test_the_tools_of_a_trajectory_are_those_that_its_teacher_calls(
    trajectory: MakeTrajectory,
) -> None:
    turns = [("a room", CALL), ("a hall", CALL.replace("find", "lose")), ("end", "stop")]

    found = called_tools(trajectory(turns=turns, served=["teacher", "student", "teacher"]))

    assert found == {"find", "open"}


def test_a_schema_is_stale_once_another_one_outlives_it() -> None:
    old = ToolSet({"find": "1", "open": "1"}, 0.0, 100.0)
    both = stale_tools([old, ToolSet({"find": "2"}, 90.0, 150.0)], grace_s=60.0)
    later = stale_tools([old, ToolSet({"find": "2"}, 90.0, 161.0)], grace_s=60.0)

    assert not both("find", "1")
    assert later("find", "1")
    assert not later("find", "2")
    assert not later("open", "1")
