"""An OpenAI-like endpoint on the loopback interface that says what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Said = str | dict[str, Any]
"""The text of a message, or its fields."""


class ScriptedEndpoint:
    """Serves ``/v1/chat/completions`` on a free port while its context is open.

    Args:
        say: What every choice says; a function is given the request's body and the choice's index.
    """

    model = "scripted"

    def __init__(self, say: Said | Callable[[dict[str, Any], int], Said] = "look") -> None:
        self.say = say
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def settings(self, role: str) -> list[str]:
        """Command-line options that make it the student or the teacher."""
        return [
            *("--set", f"{role}.base_url={self.base_url}"),
            *("--set", f"{role}.model={self.model}"),
            *("--set", f"{role}.priced_as=gpt-4.1-mini"),
        ]

    def answer(self, body: dict[str, Any]) -> tuple[str, bytes]:
        """Content type and content of the answer to a request."""
        if self.status != 200:
            error = {"message": "out of order", "type": "server_error", "param": None, "code": None}
            return "application/json", json.dumps({"error": error}).encode()
        messages = [self._message(body, index) for index in range(body.get("n") or 1)]
        if body.get("stream"):
            return "text/event-stream", self._events(messages[0], body)
        choices = [
            {"index": index, "message": message, "finish_reason": "stop"}
            for index, message in enumerate(messages)
        ]
        usage = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}
        made = {"id": "c1", "object": "chat.completion", "created": 1, "model": self.model}
        return "application/json", json.dumps({**made, "choices": choices, "usage": usage}).encode()

    def _message(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        said = self.say(body, index) if callable(self.say) else self.say
        return {"role": "assistant", **({"content": said} if isinstance(said, str) else said)}

    def _events(self, message: dict[str, Any], body: dict[str, Any]) -> bytes:
        half = len(message["content"]) // 2
        deltas = [
            {"role": "assistant", "content": message["content"][:half]},
            {"content": message["content"][half:]},
            {},
        ]
        made = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
            for delta in deltas
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}
            chunks.append({"choices": [], "usage": usage})
        lines = [json.dumps({**made, **chunk}) for chunk in chunks]
        return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error."""


def _handler(endpoint: ScriptedEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: the client would wait for its own late acknowledgement.
        wbufsize = -1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.bodies.append(body)
            endpoint.headers.append({name.lower(): v for name, v in self.headers.items()})
            endpoint.asked.set()
            kind, content = endpoint.answer(body)
            self.send_response(endpoint.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
