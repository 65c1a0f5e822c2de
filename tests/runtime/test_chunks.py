from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.chunks import Accumulator, chunks
from tutelage.runtime.types import ChatRequest, Completion, Usage

REQUEST = ChatRequest.model_validate(
    {"model": "alias", "messages": [{"role": "user", "content": "one two"}]}
)


def completion(content: str | None, calls: list[dict[str, Any]] | None = None) -> Completion:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = Usage(input_tokens=3, cache_read_tokens=2, output_tokens=1)
    return Completion.model_validate(
        {"id": "c1", "model": "alias", "created": 7, "choices": [choice], "usage": usage}
    )


def joined(pieces: list[dict[str, Any]]) -> Completion:
    accumulator = Accumulator()
    for piece in pieces:
        accumulator.add(piece)
    return accumulator.completion(REQUEST, lambda text: len(text.split()))


calls = st.lists(
    st.builds(
        lambda name, arguments, position: {
            "id": f"call_{position}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        },
        st.text(min_size=1, max_size=8),
        st.text(max_size=60),
        st.integers(0, 9),
    ),
    max_size=3,
)


@given(st.text(max_size=200), calls)
def test_a_streamed_completion_adds_up_to_itself(content: str, tools: list[dict[str, Any]]) -> None:
    whole = completion(content or None, tools)
    pieces = list(chunks(whole, usage=True))
    again = joined(pieces)
    assert again.wire() == whole.wire()
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    assert pieces[-1]["choices"] == []


def test_usage_comes_only_when_it_was_asked_for() -> None:
    pieces = list(chunks(completion("hello"), usage=False))
    assert all("usage" not in piece for piece in pieces)
    counted = joined(pieces).usage
    assert (counted.input_tokens, counted.output_tokens) == (2, 1)


def test_other_choices_are_left_out() -> None:
    delta = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    assert joined([delta]).text == ""
