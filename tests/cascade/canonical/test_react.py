from __future__ import annotations

import pytest

from tutelage.cascade.canonical.react import ReactCanonicalizer

FORM = ReactCanonicalizer()


def key(text: str, form: ReactCanonicalizer = FORM) -> str | None:
    action = form.past(text)
    return None if action is None else action.key


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Action: f\nAction Input: x", "Action: f\nAction Input: x"),
        ("Thought: t\nAction: `f`\nAction Input:  x ", "Action: f\nAction Input: x"),
        ("Action: 'f'\nAction Input: x", "Action: f\nAction Input: x"),
        ("Action: f[x y]", "Action: f\nAction Input: x y"),
        ("Action: f[]", "Action: f"),
        ("Action: f[x]\nAction Input: y", "Action: f[x]\nAction Input: y"),
        ("Action: f\nAction Input: {bad}", None),
        ("Action: f\nAction Input: {bad", "Action: f\nAction Input: {bad"),
        ("Action: f\nAction Input: [see]", "Action: f\nAction Input: [see]"),
        ('Action: f\nAction Input: {"a": 1, "a": 1}', None),
        (
            'Action: f\nAction Input: {"b": 1.0, "a": [2]}',
            'Action: f\nAction Input: {"a":[2],"b":1}',
        ),
        ("Action: f\ng", None),
        ("Action:", None),
        ("Final Answer: 42 ", "Final Answer: 42"),
        ("Final Answer:", None),
        ("Final Answer: 1\nFinal Answer: 2", None),
        ("Action: f\nObservation: o\nAction: f", None),
        ("look", None),
        ("", None),
    ],
)
def test_tool_and_input_are_read(text: str, form: str | None) -> None:
    assert key(text) == form
    if form is not None:
        assert key(form) == form


def test_known_tools_are_found_by_their_letters() -> None:
    form = ReactCanonicalizer(["Read File", "write", "WRITE"])
    assert key("Action: read_file", form) == "Action: Read File"
    assert key("Action: Write", form) == "Action: Write"
    assert key("Action: other", form) == "Action: other"
