from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.cascade.canonical.effects import Effects
from tutelage.cascade.canonical.schema_form import SchemaForm
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import ToolCanonicalizer, canonicalizer_for
from tutelage.cascade.canonical.tools import ToolForm
from tutelage.runtime.types import Choice, Message

NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": NUMBER}}]


def calling(*calls: tuple[str, object]) -> Message:
    return Message(
        role="assistant",
        tool_calls=[
            {"id": "c", "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for n, a in calls
        ],
    )


def test_the_tools_of_a_step_say_what_is_equal() -> None:
    form = ToolCanonicalizer()
    stepped = form.for_tools(TOOLS)
    one, other = calling(("f", {})), calling(("f", {"n": "3"}))
    assert form.action(one) != form.action(other)
    action = stepped.action(one)
    assert action is not None
    assert action == stepped.action(other) == stepped.past(action.key)
    assert form.for_tools(()).action(one) == form.action(one)


def test_equal_tools_share_one_form() -> None:
    form = ToolCanonicalizer()
    assert form.for_tools(TOOLS) is form.for_tools(json.loads(json.dumps(TOOLS)))
    for number in range(200):
        form.for_tools([{"type": "function", "function": {"name": f"f{number}"}}])
    first = form.for_tools(TOOLS).action(calling(("f", {})))
    assert first == form.for_tools(TOOLS).action(calling(("f", {"n": 3})))


def test_tools_that_are_no_plain_json_are_understood_as_well() -> None:
    tools = [MappingProxyType(TOOLS[0])]
    form = ToolCanonicalizer().for_tools(tools)
    assert form.action(calling(("f", {}))) == form.action(calling(("f", {"n": 3})))


def test_a_form_that_knows_no_tools_is_left_as_it_is() -> None:
    text = TextCanonicalizer()
    assert canonicalizer_for(text, TOOLS) is text
    form = ToolCanonicalizer(text)
    assert canonicalizer_for(form, ()) is form
    stepped = canonicalizer_for(form, TOOLS)
    assert stepped.action(Message(role="assistant", content="Go to the desk.")) == text.past(
        "go to desk"
    )


def test_without_a_text_form_texts_are_compared_as_they_stand() -> None:
    form = ToolCanonicalizer()
    assert form.past(" Done. ") == form.action(Message(role="assistant", content="Done."))
    assert form.past("Done.") != form.past("done.")
    assert form.past("  ") is None


def test_calls_that_were_cut_name_no_action() -> None:
    choice = Choice(index=0, message=calling(("f", {})), finish_reason="length")
    assert ToolCanonicalizer().action(choice) is None
    whole = choice.model_copy(update={"finish_reason": "tool_calls"})
    assert ToolCanonicalizer().action(whole) is not None


def test_two_schemas_of_one_name_say_nothing() -> None:
    form = ToolForm([*TOOLS, *TOOLS])
    plain = form.action([{"name": "f", "arguments": {}}])
    assert plain is not None
    assert plain != form.action([{"name": "f", "arguments": {"n": 3}}])


def test_tools_without_functions_are_passed_over() -> None:
    form = ToolForm([{"type": "web_search"}, *TOOLS])
    assert form.action([{"name": "f", "arguments": {}}]) == form.action(
        [{"name": "f", "arguments": {"n": 3}}]
    )


def test_only_neighbouring_reads_may_change_places() -> None:
    form = ToolForm(effects=Effects({"get_*": "read"}))
    calls: list[dict[str, Any]] = [
        {"name": name, "arguments": {}} for name in ("get_a", "get_b", "write")
    ]
    a, b, w = calls
    assert form.action([b, a, w]) == form.action([a, b, w])
    assert form.action([a, w, b]) != form.action([b, w, a])
    assert form.action([a, w]) != form.action([w, a])
    assert ToolForm().action([a, b]) != ToolForm().action([b, a])


@pytest.mark.parametrize(
    ("schema", "value", "formed"),
    [
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, "-12", -12),
        ({"type": "integer"}, "-0", "-0"),
        ({"type": "integer"}, " 12", " 12"),
        ({"type": "integer"}, "+12", "+12"),
        ({"type": "integer"}, "1e3", "1e3"),
        ({"type": "integer"}, "9" * 30, "9" * 30),
        ({"type": "integer"}, "١٢", "١٢"),
        ({"type": "integer"}, "null", "null"),
        ({"type": "integer"}, 2.0, 2),
        ({"type": "integer"}, 1e300, 1e300),
        ({"type": "integer"}, True, True),
        ({"type": "integer", "enum": ["1", 1]}, "1", "1"),
        ({"type": "number"}, "1e3", 1000),
        ({"type": "number"}, "0.5", 0.5),
        ({"type": "number"}, "0.1000000000000000055", "0.1000000000000000055"),
        ({"type": "number"}, "1e999", "1e999"),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "True", "True"),
        ({"type": "boolean"}, 1, 1),
        ({"type": ["integer", "string"]}, "1", "1"),
        ({"type": ["integer", "null"]}, "1", 1),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "1", 1),
        ({"oneOf": [{"type": "integer"}, {"minimum": 1}]}, "1", "1"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "1", "1"),
        ({"allOf": [{"type": "integer"}]}, "1", 1),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, "1", "1"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "1", 1),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer"}}}, "1", 1),
        ({"$ref": "#/$defs/gone"}, "1", "1"),
        ({"$ref": "http://x/y"}, "1", "1"),
        ({"$ref": "#"}, "1", "1"),
        ({"$ref": 5}, "1", "1"),
        ({"type": "string"}, 1, 1),
        ({"type": 5, "anyOf": "x"}, "1", "1"),
        ({"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, ["1"], ["1"]),
        ({"items": {"type": "integer"}}, ["1", "2"], [1, 2]),
        ({"uniqueItems": True}, [2, 1, "a", None], ["a", 1, 2, None]),
        ({"uniqueItems": "yes"}, [2, 1], [2, 1]),
        ({"patternProperties": {}, "additionalProperties": NUMBER}, {"a": {}}, {"a": {}}),
        ({"additionalProperties": NUMBER}, {"a": {}}, {"a": {"n": 3}}),
        (NUMBER, {}, {"n": 3}),
        ({**NUMBER, "required": ["n"]}, {}, {}),
        ({**NUMBER, "minProperties": 1}, {}, {}),
        ({**NUMBER, "if": {}}, {}, {}),
        ({"properties": {"n": {"type": "integer", "default": "x"}}}, {}, {}),
        ({"properties": {"n": {"type": "integer", "default": None}}}, {}, {}),
        ({"properties": {"n": {"enum": [1], "default": True}}}, {}, {}),
        ({"properties": {"n": {"enum": [1], "default": 1}}}, {}, {"n": 1}),
        ({"properties": {"n": {"default": {"b": 1}}}}, {}, {"n": {"b": 1}}),
        ({"properties": 5, "required": 5}, {"a": 1}, {"a": 1}),
        ({"anyOf": [NUMBER, {"type": "null"}]}, {}, {"n": 3}),
        ({"anyOf": [NUMBER, {"type": "object"}]}, {}, {}),
        (True, {"a": "1"}, {"a": "1"}),
        (None, "1", "1"),
    ],
)
def test_a_value_takes_the_form_that_its_schema_allows(
    schema: Any, value: Any, formed: Any
) -> None:
    found = SchemaForm(schema).of(value)
    assert json.dumps(found, sort_keys=True) == json.dumps(formed, sort_keys=True)
    assert json.dumps(SchemaForm(schema).of(found)) == json.dumps(found)


def test_what_a_schema_does_to_a_value_leaves_the_value_alone() -> None:
    value: dict[str, Any] = {"tags": ["b", "a"]}
    schema = {"properties": {"n": {"default": 1}, "tags": {"uniqueItems": True}}}
    assert SchemaForm(schema).of(value) == {"tags": ["a", "b"], "n": 1}
    assert value == {"tags": ["b", "a"]}
    assert SchemaForm(schema, ordered=["tags"], fill=False).of(value) == value


def test_declared_paths_reach_into_lists() -> None:
    form = SchemaForm(None, order_free=["lines.*.tags"])
    assert form.of({"lines": [{"tags": [2, 1]}], "tags": [2, 1]}) == {
        "lines": [{"tags": [1, 2]}],
        "tags": [2, 1],
    }


def test_values_of_too_many_parts_name_no_action() -> None:
    form = ToolForm(TOOLS)
    assert form.action([{"name": "f", "arguments": {"x": [0] * 20_000}}]) is None
    assert ToolForm().action([{"name": "f", "arguments": {"x": [0] * 20_000}}]) is not None


def test_schemas_that_refer_to_themselves_end() -> None:
    looped = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert SchemaForm(looped).of({"a": "1"}) == {"a": "1"}
    deep = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    assert SchemaForm(deep).of("1") == "1"
    tree = {"type": "object", "properties": {"in": {"$ref": "#"}, "n": {"default": 1}}}
    assert SchemaForm(tree).of({"in": {}}) == {"in": {"n": 1}, "n": 1}


SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["integer", "number", "string", "boolean", ["null", "integer"]]
            ),
            "default": st.sampled_from([1, "1", None, True, 2.0]),
            "enum": st.just([1, "1"]),
        },
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)},
            optional={"required": st.just(["a"]), "type": st.just("object")},
        ),
        st.fixed_dictionaries({"items": inner, "uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    st.sampled_from([1, 1.0, "1", True, "true", None, "x", 2.5, "-2.50"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(schema=SCHEMAS, value=VALUES)
def test_the_form_of_a_value_is_its_own_form(schema: Any, value: Any) -> None:
    form = SchemaForm(schema)
    found = form.of(value)
    assert json.dumps(form.of(found), sort_keys=True) == json.dumps(found, sort_keys=True)
