"""A stand-in for two model endpoints, so that the examples run without a network or a key.

It speaks the OpenAI chat completions protocol on the loopback interface. The model ``big`` knows
how to handle a ticket. The model ``small`` can only copy: where its prompt shows what was done at
a sight like the present one it does the same, else each of its samples says something else.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

GUESSES = ("wait", "ask a colleague", "close the ticket")
NUMBER = re.compile(r"\d+")


def big(messages: list[dict[str, Any]]) -> str:
    """The next command for a ticket, as an expert would give it."""
    seen: str = messages[-1]["content"]
    if "is open" in seen:
        return f"show order {NUMBER.findall(seen)[-1]}"
    if "was paid" in seen:
        return f"refund order {NUMBER.findall(seen)[0]}"
    return "close ticket"


def small(messages: list[dict[str, Any]], sample: int) -> str:
    """What was done at a like sight earlier in the prompt, else a guess."""
    seen = NUMBER.sub("#", messages[-1]["content"])
    for before, after in reversed(list(pairwise(messages))):
        if after["role"] == "assistant" and NUMBER.sub("#", before["content"]) == seen:
            own = NUMBER.findall(messages[-1]["content"])
            theirs = NUMBER.findall(before["content"])
            return renamed(str(after["content"]), dict(zip(theirs, own, strict=True)))
    return GUESSES[sample % len(GUESSES)]


def renamed(text: str, names: dict[str, str]) -> str:
    """The text with numbers in place of others."""
    return NUMBER.sub(lambda found: names.get(found[0], found[0]), text)


class Handler(BaseHTTPRequestHandler):
    """Answers ``POST /v1/chat/completions``."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        """One completion with as many choices as were asked for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body["messages"]
        texts = [
            big(messages) if body["model"] == "big" else small(messages, sample)
            for sample in range(body.get("n") or 1)
        ]
        prompt_tokens = sum(len(message["content"]) for message in messages) // 4
        answer_tokens = sum(len(text) for text in texts) // 4
        content = json.dumps(
            {
                "id": "scripted",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [
                    {
                        "index": index,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": "stop",
                    }
                    for index, text in enumerate(texts)
                ],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": answer_tokens,
                    "total_tokens": prompt_tokens + answer_tokens,
                },
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def scripted_upstream() -> Iterator[str]:
    """Serves both models while the block runs; yields the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
