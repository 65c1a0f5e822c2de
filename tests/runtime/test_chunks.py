from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.chunks import Accumulator, chunks, usage_chunk
from tutelage.runtime.types import ChatRequest, Completion, Message, Usage

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


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def test_reasoning_and_refusals_are_streamed_and_collected() -> None:
    said = {"role": "assistant", "content": None, "reasoning_content": "h" * 40, "refusal": "no"}
    whole = completion(None)
    choice = whole.choices[0].model_copy(update={"message": Message.model_validate(said)})
    whole = whole.model_copy(update={"choices": [choice]})
    assert joined(list(chunks(whole, usage=True))).wire() == whole.wire()


def test_reasoning_is_known_by_two_names() -> None:
    read = joined([chunk(reasoning="h"), chunk(reasoning_content="m")])
    assert (read.choices[0].message.model_extra or {})["reasoning_content"] == "hm"


def test_counts_that_the_endpoint_added_to_the_usage_are_kept() -> None:
    counts = {
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    read = joined([chunk(content="a"), {"choices": [], "usage": counts}])
    assert read.usage == Usage(
        input_tokens=1, cache_read_tokens=2, cache_write_tokens=3, output_tokens=4
    )
    assert read.wire()["usage"] == counts
    assert list(chunks(read, usage=True))[-1]["usage"] == counts


@given(*[st.integers(0, 10_000)] * 4)
def test_a_usage_is_read_as_it_was_written(fresh: int, read: int, written: int, out: int) -> None:
    usage = Usage(
        input_tokens=fresh, cache_read_tokens=read, cache_write_tokens=written, output_tokens=out
    )
    assert Usage.from_wire(usage.wire()) == usage
    assert ("cache_write_tokens" in usage.wire()["prompt_tokens_details"]) == bool(written)


def test_more_cached_tokens_than_the_prompt_has_are_not_believed() -> None:
    details = {"cached_tokens": 4, "cache_write_tokens": 9}
    usage = Usage.from_wire({"prompt_tokens": 5, "prompt_tokens_details": details})
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (0, 4, 1)


def test_what_only_one_api_understands_is_collected_without_its_live_pieces() -> None:
    content = [{"type": "thinking", "thinking": "h", "signature": "s"}]
    read = joined(
        [
            chunk(anthropic={"delta": {}, "usage": {}}),
            chunk(anthropic="junk"),
            chunk(anthropic={"content": content}),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
    )
    assert (read.choices[0].message.model_extra or {})["anthropic"] == {"content": content}
    assert joined(list(chunks(read, usage=True))).wire() == read.wire()


def test_a_new_id_begins_a_new_call_where_an_endpoint_numbers_none() -> None:
    def piece(id: str | None, arguments: str) -> dict[str, Any]:
        return chunk(
            tool_calls=[{"id": id, "function": {"name": id and "f", "arguments": arguments}}]
        )

    read = joined([piece("a", "{"), piece(None, "}"), piece("b", "{}"), piece("b", "")])
    calls = read.choices[0].message.tool_calls or []
    assert [call["id"] for call in calls] == ["a", "b"]
    assert [call["function"]["arguments"] for call in calls] == ["{}", "{}"]


def test_a_stream_knows_whether_its_endpoint_told_its_usage() -> None:
    said = completion("go")
    collected = Accumulator()
    for piece in chunks(said, usage=False):
        collected.add(piece)
    assert not collected.has_usage
    collected.add(usage_chunk(said))
    assert collected.has_usage
