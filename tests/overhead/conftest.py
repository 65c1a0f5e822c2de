"""A small bank around the configured parts, and a stand-in for vLLM with a prefix cache."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tutelage.overhead.setting import Setting, open_setting
from tutelage.retrieval.embedding import HashEmbedder

BLOCK = 16
"""Characters, which stand in for tokens."""


class PrefixServer(ThreadingHTTPServer):
    """Answers every chat with ``look``; caches prompts by blocks of characters, as vLLM does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"
        self.prefixes: set[str] = set()
        self.hits = self.queries = 0
        self.foreign = 0
        """Prompt tokens of somebody else."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(body["messages"])
        blocks = [text[:end] for end in range(BLOCK, len(text), BLOCK)]
        missed = next((n for n, one in enumerate(blocks) if one not in self.prefixes), len(blocks))
        self.prefixes.update(blocks)
        cached = missed * BLOCK
        self.hits += cached
        self.queries += len(text)
        message = {"role": "assistant", "content": "look"}
        return {
            "id": "1",
            "model": body["model"],
            "choices": [{"index": n, "message": message} for n in range(body.get("n") or 1)],
            "usage": {
                "prompt_tokens": len(text),
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }

    def metrics(self) -> str:
        return (
            f"vllm:prefix_cache_queries_total {self.queries}.0\n"
            f"vllm:prefix_cache_hits_total {self.hits}.0\n"
            f"vllm:prompt_tokens_total {self.queries + self.foreign}.0\n"
        )


class _Answers(BaseHTTPRequestHandler):
    server: PrefixServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(json.dumps({"data": [{"id": "tiny"}]}))
        else:
            self._send(self.server.metrics())

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


@pytest.fixture
def prefix_server() -> Iterator[PrefixServer]:
    with PrefixServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with open_setting(tmp_path, demonstrations=60, make_embedder=HashEmbedder) as made:
        yield made
