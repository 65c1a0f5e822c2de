"""The same model at upstreams of every wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.errors import BadResponse, ModelError, RateLimited
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.transport import Transport, anthropic, bearer
from tutelage.runtime.models.wire_model import WireModel
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire
from tutelage.runtime.wires.responses import ResponsesWire

WIRES: list[Wire] = [ChatWire(), ResponsesWire(), MessagesWire()]
TOOL = {"type": "function", "function": {"name": "walk", "parameters": {"type": "object"}}}

Make = Callable[..., WireModel]

wires = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@pytest.fixture
async def faulty() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


@pytest.fixture
async def make(faulty: FaultUpstream) -> AsyncIterator[Make]:
    made: list[WireModel] = []

    def new(wire: Wire, model: str = "m", **more: Any) -> WireModel:
        style = anthropic if wire.name == "messages" else bearer
        transport = Transport(
            faulty.base_url,
            headers=style,
            secret=Secret("sk-upstream"),
            retries=Retries(attempts=1),
        )
        made.append(WireModel(transport, wire, model, **more))
        return made[-1]

    yield new
    for each in made:
        await each.aclose()


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    return ChatRequest.model_validate({**body, **fields})


async def streamed(model: WireModel, asked: ChatRequest) -> Completion:
    accumulator = Accumulator()
    async for chunk in model.stream(asked):
        accumulator.add(chunk)
    return accumulator.completion(asked, len)


async def whole(model: WireModel, asked: ChatRequest) -> Completion:
    return await model.complete(asked)


ways = pytest.mark.parametrize("ask", [whole, streamed])


@wires
@ways
async def test_a_text_is_read_with_cached_tokens(
    wire: Wire, ask: Any, make: Make, faulty: FaultUpstream
) -> None:
    completion = await ask(make(wire, "large"), request())

    assert completion.text == "go to desk 1"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens == 12
    assert completion.usage.cache_read_tokens == 4
    assert completion.usage.output_tokens == 5
    assert faulty.last.path == wire.path
    assert faulty.last.body["model"] == "large"


@wires
@ways
async def test_tool_calls_are_read(wire: Wire, ask: Any, make: Make) -> None:
    completion = await ask(make(wire, "fault:tools;count=2"), request(tools=[TOOL]))

    calls = completion.choices[0].message.tool_calls or []
    assert [call["function"]["name"] for call in calls] == ["walk", "walk"]
    assert len({call["id"] for call in calls}) == 2
    arguments = [json.loads(call["function"]["arguments"]) for call in calls]
    assert arguments == [{"where": "desk 1", "how": "quietly"}] * 2
    assert completion.choices[0].finish_reason == "tool_calls"


@wires
async def test_samples_are_drawn(wire: Wire, make: Make, faulty: FaultUpstream) -> None:
    completion = await make(wire).complete(request(), n=3)

    assert [choice.message.text for choice in completion.choices] == ["go to desk 1"] * 3
    assert faulty.calls() == (1 if wire.name == "chat" else 3)


@wires
@pytest.mark.parametrize(
    "fault", ["truncated", "malformed", "list", "wrong-type", "cut", "500", "502", "reset"]
)
async def test_a_wrong_answer_is_a_bad_response(wire: Wire, fault: str, make: Make) -> None:
    with pytest.raises(BadResponse):
        await make(wire, f"fault:{fault}").complete(request())


@pytest.mark.parametrize("wire", [ChatWire(), ResponsesWire()], ids=lambda wire: wire.name)
async def test_an_empty_answer_is_a_bad_response(wire: Wire, make: Make) -> None:
    # Not of the messages wire, where a model that has nothing to add says just that.
    with pytest.raises(BadResponse):
        await make(wire, "fault:empty").complete(request())


@wires
@pytest.mark.parametrize(
    "fault", ["malformed", "empty", "wrong-type", "cut", "no-end", "error-event", "503", "reset"]
)
async def test_a_wrong_stream_is_a_bad_response(wire: Wire, fault: str, make: Make) -> None:
    with pytest.raises(BadResponse):
        await streamed(make(wire, f"fault:{fault}"), request())


@wires
@ways
async def test_an_error_keeps_the_words_of_the_upstream(wire: Wire, ask: Any, make: Make) -> None:
    with pytest.raises(RateLimited) as caught:
        await ask(make(wire, "fault:429;retry-after=7"), request())

    assert caught.value.retry_after_s == 7
    assert caught.value.body is not None
    assert caught.value.body["message"] == "the upstream says 429"


@wires
async def test_connections_are_used_again(wire: Wire, make: Make, faulty: FaultUpstream) -> None:
    model = make(wire)
    for _ in range(3):
        await streamed(model, request())
        await model.complete(request())

    assert faulty.connections == 1


@wires
async def test_a_failure_in_mid_stream_comes_after_its_chunks(wire: Wire, make: Make) -> None:
    chunks = make(wire, "fault:cut").stream(request())

    assert (await anext(chunks))["object"] == "chat.completion.chunk"
    with pytest.raises(ModelError, match="broke off"):
        [chunk async for chunk in chunks]
