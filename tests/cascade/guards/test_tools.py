from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.canonical.tools import tool_action
from tutelage.cascade.guards.tools import ToolGuard
from tutelage.cascade.paper import Paper
from tutelage.runtime.types import Action, Agreement, Decision, Reason, SamplePlan, Step

WHERE = {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]}


def step(*tools: dict[str, Any]) -> Step:
    return Step("t", "e", 0, "g", "o", tools=tools)


def tool(name: str = "walk", schema: Any = WHERE) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def agreed(*calls: tuple[str, Any]) -> Agreement:
    """Three samples that make the same calls."""
    named = [{"function": {"name": n, "arguments": json.dumps(a)}} for n, a in calls]
    action = tool_action(named)
    assert action is not None
    return Agreement(votes=((action, 3),), samples=3, chosen=0, agreed=True)


def decided(
    offered: Step, agreement: Agreement, teacher_only: Sequence[str] = ()
) -> tuple[str, Reason]:
    decision = ToolGuard(Paper(), teacher_only).decide(offered, agreement, [])
    return decision.served, decision.reason


STUDENT = ("student", Reason.AGREED)
UNKNOWN = ("teacher", Reason.UNKNOWN_TOOL)
RESERVED = ("teacher", Reason.TEACHER_ONLY_TOOL)


def test_a_call_that_fits_an_offered_tool_is_the_students() -> None:
    assert decided(step(tool()), agreed(("walk", {"where": "desk 1"}))) == STUDENT


def test_the_plan_is_that_of_the_wrapped_policy() -> None:
    assert ToolGuard(Paper(samples=5, temperature=0.3)).plan(step()) == SamplePlan(5, 0.3)


@pytest.mark.parametrize(
    "agreement",
    [
        Agreement(votes=((Action("text", "walk"), 3),), samples=3, chosen=0, agreed=True),
        Agreement(votes=(), samples=3, chosen=None, agreed=False),
    ],
    ids=["text", "nothing"],
)
def test_what_calls_no_tool_is_left_to_the_policy(agreement: Agreement) -> None:
    expected = Paper().decide(step(), agreement, [])
    assert ToolGuard(Paper(), ["*"]).decide(step(), agreement, []) == expected


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("delete_file", "delete_file"),
        ("delete_file", "delete_*"),
        ("a.b/c", "a.b/?"),
        ("pay", "[op]ay"),
        ("anything", "*"),
    ],
)
def test_a_reserved_tool_is_the_teachers_whatever_the_student_agrees_on(
    name: str, pattern: str
) -> None:
    offered = step(tool(name, None))
    assert decided(offered, agreed((name, {})), ["other", pattern]) == RESERVED


@pytest.mark.parametrize("pattern", ["delete", "DELETE_*", "delete_?", "x*"])
def test_a_pattern_reserves_what_it_matches_as_a_whole_and_no_more(pattern: str) -> None:
    offered = step(tool("delete_file", None))
    assert decided(offered, agreed(("delete_file", {})), [pattern]) == STUDENT


def test_one_reserved_call_among_others_is_enough() -> None:
    offered = step(tool("walk", None), tool("pay", None))
    agreement = agreed(("walk", {}), ("pay", {}), ("walk", {}))
    assert decided(offered, agreement, ["pay"]) == RESERVED


@pytest.mark.parametrize(
    "offered",
    [
        step(),
        step(tool("run")),
        step(tool("Walk")),
        step({"type": "web_search"}),
        step({"type": "function", "function": "walk"}),
        step({"type": "custom", "custom": {"name": "walk"}}),
    ],
)
def test_a_tool_that_is_not_offered_is_not_called(offered: Step) -> None:
    assert decided(offered, agreed(("walk", {"where": "desk 1"}))) == UNKNOWN


@pytest.mark.parametrize(
    "arguments", [{}, {"where": 1}, {"where": None}, {"where": ["desk 1"]}, {"to": "desk 1"}]
)
def test_arguments_that_do_not_fit_the_schema_are_not_the_students(
    arguments: dict[str, Any],
) -> None:
    assert decided(step(tool()), agreed(("walk", arguments))) == UNKNOWN


@pytest.mark.parametrize("schema", [None, {}, True])
def test_a_tool_without_a_schema_takes_any_arguments(schema: Any) -> None:
    assert decided(step(tool(schema=schema)), agreed(("walk", {"x": [1, {}]}))) == STUDENT


@pytest.mark.parametrize(
    "schema",
    [
        "no schema",
        7,
        ["object"],
        {"type": "thing"},
        {"type": 7},
        {"properties": 7},
        {"required": "where", "properties": []},
        {"enum": 3},
        {"minLength": "long", "properties": {"where": {"minLength": "long"}}},
        {"$ref": "#/nowhere"},
        {"$ref": 7},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"multipleOf": 0, "properties": {"count": {"multipleOf": 0}}},
        False,
    ],
)
def test_a_schema_that_cannot_be_checked_lets_nothing_pass(schema: Any) -> None:
    """Whatever a client sends as a schema: the call is refused, and nothing else goes wrong."""
    offered = step(tool(schema=schema))
    assert decided(offered, agreed(("walk", {"where": "desk 1", "count": 3}))) == UNKNOWN


def test_a_schema_may_refer_to_its_own_parts() -> None:
    schema = {
        "type": "object",
        "properties": {"where": {"$ref": "#/$defs/place"}},
        "$defs": {"place": {"enum": ["desk 1"]}},
    }
    assert decided(step(tool(schema=schema)), agreed(("walk", {"where": "desk 1"}))) == STUDENT
    assert decided(step(tool(schema=schema)), agreed(("walk", {"where": "desk 2"}))) == UNKNOWN


@pytest.mark.parametrize("key", ["$ref", "$schema", "$id", "$dynamicRef"])
async def test_a_schema_elsewhere_is_never_fetched(key: str, tmp_path: Any) -> None:
    """No socket is opened and no file is read for a reference; a listener would see it."""
    met: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append("connection")
        writer.close()

    listener = await asyncio.start_server(note, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    (tmp_path / "all.json").write_text("{}")
    async with listener:
        for address in (f"http://127.0.0.1:{port}/s.json", f"file://{tmp_path}/all.json"):
            schema = {key: address, "type": "object", "properties": {"where": {key: address}}}
            served, _ = await asyncio.to_thread(
                decided, step(tool(schema=schema)), agreed(("walk", {"where": "desk 1"}))
            )
            if "ef" in key:
                assert served == "teacher"
        # What was accepted would have been seen by now.
        await asyncio.sleep(0)
    assert met == []


SLOW_PATTERNS = ["^(a+)+$", "(a|a)*$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*x"]


@pytest.mark.parametrize("pattern", SLOW_PATTERNS)
@pytest.mark.parametrize("place", ["pattern", "patternProperties", "propertyNames", "format"])
def test_a_clients_regular_expression_is_never_run(pattern: str, place: str) -> None:
    """Each of these would take longer than the universe on the text below."""
    text = "a" * 60 + "!"
    schemas: dict[str, dict[str, Any]] = {
        "pattern": {"properties": {"where": {"pattern": pattern}}},
        "patternProperties": {"patternProperties": {pattern: {"type": "number"}}},
        "propertyNames": {"propertyNames": {"pattern": pattern}},
        "format": {"properties": {"where": {"format": "regex", "pattern": pattern}}},
    }
    arguments = {text: "x"} if "roper" in place else {"where": text}
    offered = step(tool(schema={"type": "object", **schemas[place]}))
    assert decided(offered, agreed(("walk", arguments))) == STUDENT


@pytest.mark.parametrize("keyword", ["additionalProperties", "unevaluatedProperties"])
def test_no_keyword_runs_the_patterns_beside_it(keyword: str) -> None:
    """``additionalProperties`` asks which names the patterns beside it match."""
    schema = {"type": "object", "patternProperties": {"^(a+)+$": {}}, keyword: False}
    offered = step(tool(schema=schema))
    begun_s = time.process_time()
    served, _ = decided(offered, agreed(("walk", {"a" * 26 + "!": 1})))
    assert served == "teacher"
    # The pattern alone would take many times as long on any machine.
    assert time.process_time() - begun_s < 2.0


def test_schemas_that_multiply_do_not_multiply_the_work() -> None:
    """Thirty levels that each try two ways would be 2**30 ways."""
    definitions: dict[str, Any] = {
        f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(30)
    }
    definitions["l30"] = {"type": "number"}
    schema = {"properties": {"where": {"$ref": "#/$defs/l0"}}, "$defs": definitions}
    begun_s = time.process_time()
    served, _ = decided(step(tool(schema=schema)), agreed(("walk", {"where": "desk"})))
    assert served == "teacher"
    assert time.process_time() - begun_s < 5.0


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    value: Any = "x"
    for _ in range(2000):
        schema, value = {"properties": {"a": schema}}, {"a": value}
    agreement = Agreement(
        votes=((Action("tool", '{"tool_calls":[{"arguments":%s,"name":"walk"}]}' % nested(400)), 3),),
        samples=3,
        chosen=0,
        agreed=True,
    )
    served, reason = decided(step(tool(schema=schema)), agreement)
    assert (served, reason) == UNKNOWN


def nested(depth: int) -> str:
    return '{"a":' * depth + '"x"' + "}" * depth


def test_a_guarded_policy_says_so_also_where_it_wants_the_teacher() -> None:
    """A caller may insist on the student: the reason is what keeps it from getting it."""
    offered = step(tool("pay", None))
    decision = ToolGuard(AlwaysTeacher(), ["pay"]).decide(offered, agreed(("pay", {})), [])
    assert decision.reason is Reason.TEACHER_ONLY_TOOL


def test_no_policy_gives_a_reserved_tool_to_the_student() -> None:
    offered = step(tool("pay", None))
    guard = ToolGuard(AlwaysStudent(), ["pay"])
    assert guard.decide(offered, agreed(("pay", {})), []) == Decision(
        served="teacher", reason=Reason.TEACHER_ONLY_TOOL, score=None
    )
