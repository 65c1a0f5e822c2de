from __future__ import annotations

import http.client
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.overhead.gateway import plain_upstream
from tutelage.overhead.gateway.answers import TEXT, write_answers
from tutelage.overhead.gateway.plain_upstream import Script
from tutelage.overhead.gateway.upstream import Upstream, open_upstream

CHAT = "/v1/chat/completions"
kinds = pytest.mark.parametrize(
    "compile_it",
    [
        pytest.param(True, marks=pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")),
        False,
    ],
    ids=["compiled", "plain"],
    scope="module",
)
pytestmark = kinds


@pytest.fixture(scope="module")
def started(
    compile_it: bool, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("either")
    with open_upstream(folder, programs, compile_it=compile_it) as made:
        yield made


def post(
    port: int, path: str = CHAT, body: Any = None, *, method: str = "POST"
) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, content)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def test_it_is_what_was_wanted(started: Upstream, compile_it: bool) -> None:
    assert started.is_compiled is compile_it
    assert started.base_url == f"http://127.0.0.1:{started.port}/v1"


def test_a_chat_is_answered(started: Upstream) -> None:
    status, kind, body = post(started.port, body={"model": "m", "messages": []})

    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["choices"][0]["message"]["content"] == TEXT


def test_as_many_choices_come_as_were_asked_for(started: Upstream) -> None:
    _, _, body = post(started.port, body={"n": 3})

    assert len(json.loads(body)["choices"]) == 3


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_stream_comes_when_it_is_asked_for(
    started: Upstream, separators: tuple[str, str]
) -> None:
    asked = json.dumps({"messages": [], "stream": True}, separators=separators).encode()

    status, kind, body = post(started.port, body=asked)

    assert (status, kind) == (200, "text/event-stream")
    assert body.count(b"\n\n") == 23
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_word_in_a_message_asks_for_no_stream(started: Upstream) -> None:
    messages = [{"role": "user", "content": 'say {"stream":true,"n":3}'}]

    _, kind, body = post(started.port, body={"messages": messages})

    assert kind == "application/json"
    assert len(json.loads(body)["choices"]) == 1


def test_messages_are_answered(started: Upstream) -> None:
    _, kind, body = post(started.port, "/v1/messages", {"messages": []})
    _, kind_of_stream, stream = post(started.port, "/v1/messages?beta=true", {"stream": True})

    assert (kind, kind_of_stream) == ("application/json", "text/event-stream")
    assert json.loads(body)["content"] == [{"type": "text", "text": TEXT}]
    assert b"message_stop" in stream


def test_models_are_listed_and_other_paths_are_not_there(started: Upstream) -> None:
    status, _, body = post(started.port, "/v1/models", method="GET")

    assert (status, json.loads(body)["data"][0]["id"]) == (200, "scripted")
    assert post(started.port, "/elsewhere", method="GET")[0] == 404
    assert post(started.port, "/elsewhere", {})[0] == 404


def test_a_body_may_come_in_many_pieces(started: Upstream) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 300_000}], "n": 2}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    with socket.create_connection(("127.0.0.1", started.port), timeout=10) as one:
        for start in range(0, len(head + body), 7000):
            one.sendall((head + body)[start : start + 7000])
        answer = http.client.HTTPResponse(one)
        answer.begin()

        assert len(json.loads(answer.read())["choices"]) == 2


def test_a_body_may_come_in_chunks(started: Upstream) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    with socket.create_connection(("127.0.0.1", started.port), timeout=10) as one:
        one.sendall(head + b'7\r\n{"n":2}\r\n0\r\n\r\n')
        answer = http.client.HTTPResponse(one)
        answer.begin()

        assert len(json.loads(answer.read())["choices"]) == 2


def test_a_connection_is_used_again(started: Upstream) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", started.port, timeout=10)
    seen = []
    for stream in (False, True, False):
        connection.request("POST", CHAT, json.dumps({"stream": stream}))
        answer = connection.getresponse()
        seen.append((answer.status, bool(answer.read())))
    connection.close()

    assert seen == [(200, True)] * 3


def test_every_second_call_fails_if_it_is_told_to(
    compile_it: bool, programs: Path, tmp_path: Path
) -> None:
    with open_upstream(tmp_path, programs, fail_every=2, compile_it=compile_it) as made:
        statuses = [post(made.port, body={"stream": n % 3 == 0})[0] for n in range(6)]

    assert statuses == [200, 500] * 3


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.content = b""
        self.is_closed = False

    def write(self, piece: bytes) -> None:
        self.content += piece

    def close(self) -> None:
        self.is_closed = True


def test_what_is_no_http_ends_the_connection(compile_it: bool, tmp_path: Path) -> None:
    write_answers(tmp_path)
    transport: Any = Written()
    connection = plain_upstream.Connection(Script(tmp_path, 0))
    connection.connection_made(transport)

    connection.data_received(b"nonsense\r\n\r\n")

    assert transport.is_closed


def test_both_kinds_send_the_same_bytes(
    compile_it: bool, started: Upstream, tmp_path: Path
) -> None:
    write_answers(tmp_path)
    script = Script(tmp_path, 0)

    for path, asked in (
        (CHAT, {}),
        (CHAT, {"n": 3}),
        (CHAT, {"n": 9}),
        (CHAT, {"stream": True}),
        ("/v1/messages", {}),
        ("/v1/messages", {"stream": True}),
    ):
        body = json.dumps(asked).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        expected = b"".join(script.answer(b"POST", path.encode(), body))
        with socket.create_connection(("127.0.0.1", started.port), timeout=10) as one:
            one.sendall(head + body)
            found = b""
            while len(found) < len(expected):
                piece = one.recv(65536)
                assert piece
                found += piece
        assert found == expected
