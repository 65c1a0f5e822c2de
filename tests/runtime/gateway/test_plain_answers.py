from __future__ import annotations

from typing import Any

import orjson
import pytest

from tutelage.runtime.gateway.plain_answers import plain_chunk, plain_message
from tutelage.runtime.wires.chat import ChatWire

MESSAGE = {"role": "assistant", "content": "go to desk 1"}
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "large",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip
CHOICE = ANSWER["choices"][0]  # type: ignore[index]
CHUNK = {"id": "1", "created": 1, "choices": [{"index": 0, "delta": {"content": "go"}}]}


def test_a_plain_answer_says_what_its_full_reading_says() -> None:
    completion = ChatWire().completion(ANSWER)

    assert plain_message(ANSWER) == MESSAGE
    assert completion.choices[0].message.model_dump(exclude_unset=True) == MESSAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [CHOICE, {**CHOICE, "index": 1}]},
        {"choices": ["go"]},
        {"choices": [{**CHOICE, "index": 1}]},
        {"choices": [{**CHOICE, "logprobs": {}}]},
        {"choices": [{**CHOICE, "finish_reason": None}]},
        {"choices": [{**CHOICE, "message": None}]},
        {"choices": [{**CHOICE, "message": {**MESSAGE, "content": ["go"]}}]},
        {"choices": [{**CHOICE, "message": {**MESSAGE, "role": "user"}}]},
        {"choices": [{**CHOICE, "message": {**MESSAGE, "tool_calls": [{"id": "1"}]}}]},
        {"id": 1},
        {"created": "now"},
        {"usage": None},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 0}},
        {"usage": {"prompt_tokens": "3", "completion_tokens": 2}},
        {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": [1]}},
        {"error": {"message": "no"}},
    ],
)
def test_any_other_answer_is_read_in_full(changes: dict[str, Any]) -> None:
    assert plain_message({**ANSWER, **changes}) is None


def test_a_chunk_of_text_is_plain() -> None:
    assert plain_chunk(orjson.dumps(CHUNK)) == CHUNK


@pytest.mark.parametrize(
    "data",
    [
        b"[DONE]",
        b"{",
        b"[]",
        orjson.dumps({**CHUNK, "usage": {"prompt_tokens": 1}}),
        orjson.dumps({**CHUNK, "error": {"message": "no"}}),
        orjson.dumps({**CHUNK, "created": "now"}),
        orjson.dumps({**CHUNK, "choices": []}),
        orjson.dumps({**CHUNK, "choices": [1]}),
        orjson.dumps({**CHUNK, "choices": [{"index": 1, "delta": {"content": "go"}}]}),
        orjson.dumps({**CHUNK, "choices": [{"index": 0, "delta": {"content": None}}]}),
        orjson.dumps({**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
        orjson.dumps(
            {
                **CHUNK,
                "choices": [{"index": 0, "delta": {"content": "go"}, "finish_reason": "stop"}],
            }
        ),
    ],
)
def test_any_other_event_is_read_in_full(data: bytes) -> None:
    assert plain_chunk(data) is None
