from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.overhead.gateway.answers import EVENTS, TEXT, pieces, write_answers


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_answers(tmp_path)
    return tmp_path


def test_the_completion_has_the_size_that_others_were_measured_with(written: Path) -> None:
    assert len((written / "chat-1.json").read_bytes()) == 351


@pytest.mark.parametrize("n", [1, 3, 8])
def test_n_choices_say_the_same(written: Path, n: int) -> None:
    completion = json.loads((written / f"chat-{n}.json").read_bytes())

    assert [one["index"] for one in completion["choices"]] == list(range(n))
    assert {one["message"]["content"] for one in completion["choices"]} == {TEXT}


def test_a_stream_is_22_writes_that_add_up_to_the_text(written: Path) -> None:
    writes = (written / "chat.sse").read_bytes().split(b"\0")

    events = [one for one in b"".join(writes).decode().split("\n\n") if one]
    chunks = [json.loads(one.removeprefix("data: ")) for one in events[:-1]]
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    assert len(writes) == EVENTS == 22
    assert events[-1] == "data: [DONE]"
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(one.get("content", "") for one in deltas) == TEXT
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 80


def test_a_stream_of_messages_adds_up_to_the_text(written: Path) -> None:
    stream = (written / "message.sse").read_bytes().replace(b"\0", b"").decode()

    events = [one.split("\n") for one in stream.split("\n\n") if one]
    values = [json.loads(data.removeprefix("data: ")) for _, data in events]
    assert [name.removeprefix("event: ") for name, _ in events] == [one["type"] for one in values]
    assert values[0]["type"] == "message_start"
    assert values[-1]["type"] == "message_stop"
    assert "".join(one["delta"].get("text", "") for one in values if "delta" in one) == TEXT


@pytest.mark.parametrize("text", ["", "look", TEXT, "x" * 400])
def test_pieces_add_up(text: str) -> None:
    assert len(pieces(text)) == 19
    assert "".join(pieces(text)) == text
