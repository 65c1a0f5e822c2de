"""A stand-in for vLLM servers that guess ahead: each answers, counts, and takes its time."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tutelage.runtime.errors import ModelError
from tutelage.runtime.models.speculation import NgramSpeculation, Speculation

TOKENS = 8
"""Of every answer."""


class DraftingServer(ThreadingHTTPServer):
    """Writes two tokens a forward where it guesses, else one."""

    served_name = "student"
    pid = None

    def __init__(self, speculation: Speculation | None, answer: str = "look") -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        self.guesses = speculation is not None
        self.text = answer
        self.refusal: str | None = None
        self.bodies: list[dict[str, Any]] = []
        self.generated = self.forwards = self.drafted = self.accepted = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.append(body)
        samples = body.get("n") or 1
        self.generated += TOKENS * samples
        self.forwards += TOKENS // 2 if self.guesses else TOKENS
        if self.guesses:
            self.drafted += TOKENS
            self.accepted += TOKENS // 2
        message = {"role": "assistant", "content": self.text}
        return {
            "id": "1",
            "model": body["model"],
            "choices": [{"index": n, "message": message} for n in range(samples)],
            "usage": {"prompt_tokens": 3, "completion_tokens": TOKENS * samples},
        }

    def page(self) -> str:
        return (
            f"vllm:generation_tokens_total {self.generated}.0\n"
            f"vllm:iteration_tokens_total_count {self.forwards}.0\n"
            f"vllm:spec_decode_num_draft_tokens_total {self.drafted}.0\n"
            f"vllm:spec_decode_num_accepted_tokens_total {self.accepted}.0\n"
        )

    async def __aenter__(self) -> Self:
        if self.refusal is not None:
            self.server_close()
            raise ModelError(self.refusal)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: DraftingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(self.server.page())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(json.dumps(self.server.answer(body)))

    def _send(self, text: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Servers:
    """Makes one for each way of guessing; suffix is not installed, as on CPUs."""

    def __init__(self) -> None:
        self.made: list[DraftingServer] = []

    def __call__(self, speculation: Speculation | None) -> Any:
        server = DraftingServer(speculation)
        if speculation is not None and not isinstance(speculation, NgramSpeculation):
            server.refusal = (
                "the vLLM server ended with status 1; end of its log /tmp/x.log:\n"
                "  raise ImportError(\nImportError: Arctic Inference is required for suffix."
            )
        self.made.append(server)
        return server
