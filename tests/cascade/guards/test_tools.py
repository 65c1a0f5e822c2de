from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        {"properties": {"where": {"minLength": "long"}}},
        {"$ref": "#/nowhere"},
        {"$ref": 7},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"properties": {"count": {"multipleOf": 0}}},
        {"$schema": 7, "properties": {"where": {"$schema": [], "type": "number"}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array"},
        {"unevaluatedProperties": False},
        {"patternProperties": {"[": {}}, "additionalProperties": False},
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
    """Both ask which names the patterns beside them match."""
    schema = {"type": "object", "patternProperties": {"^(a+)+$": {}}, keyword: False}
    assert decided(step(tool(schema=schema)), agreed(("walk", {"a" * 60 + "!": 1}))) == UNKNOWN


@pytest.mark.parametrize("dialect", ["draft-07/schema#", "draft-04/schema#", "unheard-of"])
def test_a_part_that_names_another_dialect_is_checked_by_the_same_rules(dialect: str) -> None:
    """Its own rules would run the pattern."""
    part = {"$schema": f"http://json-schema.org/{dialect}", "pattern": "^(a+)+$"}
    for schema in (
        {"properties": {"where": part}},
        {"properties": {"where": {"$ref": "#/$defs/p"}}, "$defs": {"p": part}},
        {**part, "properties": {"where": {"anyOf": [part, {"$ref": "#"}]}}},
    ):
        offered = step(tool(schema=schema))
        assert decided(offered, agreed(("walk", {"where": "a" * 60 + "!"}))) == STUDENT


def test_a_property_may_be_called_as_a_keyword_is() -> None:
    schema = {"properties": {"$schema": {"type": "number"}}, "additionalProperties": False}
    assert decided(step(tool(schema=schema)), agreed(("walk", {"$schema": 3}))) == STUDENT
    assert decided(step(tool(schema=schema)), agreed(("walk", {"$schema": "x"}))) == UNKNOWN


KEYWORDS = """
    type properties where $ref # #/$defs/a $defs a items anyOf not enum const required pattern
    $schema $id $anchor $dynamicRef if then additionalProperties patternProperties multipleOf
    unevaluatedProperties maximum minLength uniqueItems contains minContains dependentSchemas
    prefixItems propertyNames string object number http://127.0.0.1:1/s
"""
WORDS = st.sampled_from(KEYWORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)


@given(schema=JSON, arguments=st.dictionaries(WORDS, JSON, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_schema_and_no_arguments_break_the_guard(schema: Any, arguments: dict[str, Any]) -> None:
    served, reason = decided(step(tool(schema=schema)), agreed(("walk", arguments)))
    assert (served, reason) in (STUDENT, UNKNOWN)


def test_schemas_that_multiply_do_not_multiply_the_work() -> None:
    """Thirty levels that each try two ways would be 2**30 ways."""
    definitions: dict[str, Any] = {
        f"l{i}": {"anyOf": [{"$ref": f"#/$defs/l{i + 1}"}] * 2} for i in range(30)
    }
    definitions["l30"] = {"type": "number"}
    schema = {"properties": {"where": {"$ref": "#/$defs/l0"}}, "$defs": definitions}
    assert decided(step(tool(schema=schema)), agreed(("walk", {"where": "desk"}))) == UNKNOWN


def test_a_schema_that_is_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(2000):
        schema = {"properties": {"where": schema}}
    assert decided(step(tool(schema=schema)), agreed(("walk", {"where": {}}))) == UNKNOWN


def test_a_large_ordinary_schema_is_checked() -> None:
    names = [f"field_{index}" for index in range(300)]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "enum": ["x", "y"]} for name in names},
        "required": names,
        "additionalProperties": False,
    }
    offered = step(tool(schema=schema))
    assert decided(offered, agreed(("walk", dict.fromkeys(names, "x")))) == STUDENT
    assert decided(offered, agreed(("walk", {**dict.fromkeys(names, "x"), "z": "x"}))) == UNKNOWN


def test_a_guarded_policy_says_so_also_where_it_wants_the_teacher() -> None:
    """A caller may insist on the student: the reason is what keeps it from getting it."""
    offered = step(tool("pay", None))
    decision = ToolGuard(AlwaysTeacher(), ["pay"]).decide(offered, agreed(("pay", {})), [])
    assert decision.reason is Reason.TEACHER_ONLY_TOOL


def test_no_policy_gives_a_reserved_tool_to_the_student() -> None:
    offered = step(tool("pay", None))
    guard = ToolGuard(AlwaysStudent(), ["pay"])
    assert guard.decide(offered, agreed(("pay", {})), []) == Decision(
        served="teacher", reason=Reason.TEACHER_ONLY_TOOL, detail="pay"
    )
