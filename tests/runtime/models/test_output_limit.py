from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.models.output_limit import OutputLimit, usual_limit, with_limit
from tutelage.runtime.models.transport import Transport
from tutelage.runtime.models.wire_model import WireModel
from tutelage.runtime.types import ChatRequest
from tutelage.runtime.wires.chat import CHAT
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire
from tutelage.runtime.wires.responses import RESPONSES


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://API.OpenAI.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://api.openai.com.evil.example/v1", None),
        ("https://notapi.openai.com.example/v1", None),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_the_field_follows_from_the_address(base_url: str, field: str | None) -> None:
    assert usual_limit(base_url) == field


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_tokens": 5}, None, {"max_tokens": 5}),
        ({}, "max_tokens", {}),
        ({"max_tokens": None}, "max_completion_tokens", {"max_tokens": None}),
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            "max_completion_tokens",
            {"max_completion_tokens": 6},
        ),
        ({"max_tokens": 5, "max_completion_tokens": 6}, None, {
            "max_tokens": 5, "max_completion_tokens": 6,
        }),
    ],
)  # fmt: skip
def test_a_limit_stands_in_one_field(
    given: dict[str, Any], field: OutputLimit | None, expected: dict[str, Any]
) -> None:
    before = copy.deepcopy(given)
    assert with_limit(given, field) == expected
    assert given == before


MESSAGES = [{"role": "user", "content": "you see a desk"}]


def request(wire: Wire) -> ChatRequest:
    """The chat request of a client that limits its answer to seven tokens."""
    if wire.name == "responses":
        return wire.read({"model": "m", "input": "hi", "max_output_tokens": 17}).request
    return wire.read({"model": "m", "messages": MESSAGES, "max_tokens": 17}).request


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("wire", [CHAT, RESPONSES, MessagesWire()], ids=lambda wire: wire.name)
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("kind", ["wire", "openai"])
async def test_a_chat_endpoint_gets_the_limit_of_any_client_in_the_field_it_takes(
    kind: str, field: OutputLimit, wire: Wire, stream: bool
) -> None:
    async with FaultUpstream() as upstream:
        transport = Transport(upstream.base_url)
        made: WireModel = (
            OpenAIModel(upstream.base_url, "m", output_limit=field)
            if kind == "openai"
            else WireModel(transport, CHAT, "m", output_limit=field)
        )
        async with made:
            if stream:
                assert [one async for one in made.stream(request(wire))]
            else:
                assert (await made.complete(request(wire))).choices
        sent = json.loads(upstream.last.raw)
    limits = {name: sent[name] for name in sent if name.startswith("max_")}
    assert limits == {field: 17}


@pytest.mark.parametrize("wire", [RESPONSES, MessagesWire()], ids=lambda wire: wire.name)
async def test_other_apis_have_one_word_for_it(wire: Wire) -> None:
    async with FaultUpstream() as upstream:
        transport = Transport(upstream.base_url)
        async with WireModel(transport, wire, "m", output_limit="max_completion_tokens") as made:
            await made.complete(request(CHAT))
        sent = json.loads(upstream.last.raw)
    expected = "max_output_tokens" if wire.name == "responses" else "max_tokens"
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {expected: 17}
