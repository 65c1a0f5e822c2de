"""What the clients ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.benchmarks.household.world import INSTRUCTIONS
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.gateway.answers import MODEL
from tutelage.overhead.gateway.load import call_bytes
from tutelage.overhead.setting import TENANT

CHAT_PATH = "/v1/chat/completions"


def chat_call(headers: Mapping[str, str], *, stream: bool) -> bytes:
    """The one short call that pass-through is measured with."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You act in a household. Answer with one command."},
            {"role": "user", "content": "Put a hot mug in a cabinet. You are at the desk."},
        ],
        "temperature": 0,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return call_bytes(CHAT_PATH, _bytes(body), headers)


def step_calls(headers: Mapping[str, str], count: int) -> Iterator[bytes]:
    """The calls of an agent in household episodes, step by step; no two are alike."""
    made = 0
    for episode in oracle_episodes(f"test:{count}", TENANT):
        for request in requests(episode, INSTRUCTIONS):
            if made == count:
                return
            yield call_bytes(CHAT_PATH, _bytes({**request.wire(), "model": MODEL}), headers)
            made += 1


def _bytes(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
