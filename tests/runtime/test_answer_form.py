from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.answer_form import AnswerForm, read_form
from tutelage.runtime.types import ChatRequest

WALK = {"type": "function", "function": {"name": "walk"}}
SCHEMA = {"type": "object", "properties": {"where": {"type": "string"}}}


def form(**fields: Any) -> AnswerForm | None:
    body = {"model": "m", "messages": [{"role": "user", "content": "where to?"}], **fields}
    return read_form(ChatRequest.model_validate(body))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [WALK]},
        {"tool_choice": "auto"},
        {"tool_choice": None, "response_format": None, "parallel_tool_calls": None},
        {"parallel_tool_calls": True},
        {"response_format": {"type": "text"}},
    ],
)
def test_most_requests_demand_nothing(fields: dict[str, Any]) -> None:
    assert form(**fields) is None


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tool_choice": "required"}, AnswerForm(must_call=True)),
        ({"tool_choice": "none"}, AnswerForm(callable=frozenset())),
        ({"tool_choice": WALK}, AnswerForm(must_call=True, callable=frozenset({"walk"}))),
        (
            {"tool_choice": allowed("required", "walk", "run")},
            AnswerForm(must_call=True, callable=frozenset({"walk", "run"})),
        ),
        ({"tool_choice": allowed("auto", "run")}, AnswerForm(callable=frozenset({"run"}))),
        ({"parallel_tool_calls": False}, AnswerForm(most_calls=1)),
        ({"response_format": {"type": "json_object"}}, AnswerForm(is_json=True)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            AnswerForm(is_json=True, schema=SCHEMA),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer"}}},
            AnswerForm(is_json=True, schema={}),
        ),
    ],
)
def test_a_demand_is_read(fields: dict[str, Any], expected: AnswerForm) -> None:
    assert form(**fields) == expected


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "walk"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": "walk"}}, "tool_choice"),
        ({"tool_choice": allowed("sometimes", "walk")}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": "walk"}}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": 1}}, "response_format"),
        ({"tool_choice": "any", "response_format": {"type": "grammar"}}, "tool_choice"),
    ],
)
def test_what_is_demanded_in_unknown_words_is_named(fields: dict[str, Any], unknown: str) -> None:
    found = form(**fields)
    assert found is not None
    assert found.unknown == unknown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "function", "name", "allowed_tools", "tools", "json_schema"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(choice=JSON, wanted=JSON, parallel=JSON)
def test_whatever_a_client_sends_is_read_or_named(choice: Any, wanted: Any, parallel: Any) -> None:
    found = form(tool_choice=choice, response_format=wanted, parallel_tool_calls=parallel)
    assert found is None or found.unknown in (None, "tool_choice", "response_format")
    if isinstance(choice, int | list) and choice is not None:
        assert found is not None
        assert found.unknown == "tool_choice"
