from __future__ import annotations

import pytest

from tutelage.training.data.reasoned import Reasoned, read_reason


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("Thought: it is hot.\nAction: open", Reasoned("it is hot.", "Action: open")),
        (
            "**Thought:** two\nlines\nAction: look\nAction Input: x",
            Reasoned("two\nlines", "Action: look\nAction Input: x"),
        ),
        ("thinking: done\nFinal Answer: 4", Reasoned("done", "Final Answer: 4")),
        ("open box", None),
        ("Action: open", None),
        ("Thought: only this", None),
        ("Thought: a\nAction: b\nAction: c", None),
        ("Thought:\nAction: b", None),
        ("Thought: a\nAction: ", None),
    ],
)
def test_a_thought_before_one_labelled_action_is_a_reason(
    answer: str, parts: Reasoned | None
) -> None:
    assert read_reason(answer) == parts
