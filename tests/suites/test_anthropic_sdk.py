"""The Anthropic SDK against a gateway: what Claude clients call, and the types of its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from pydantic import BaseModel
from tests.fault_upstream import ThreadedUpstream
from tests.suites.conftest import Door
from tests.suites.gateways import RunningGateway

pytestmark = pytest.mark.suites

HELLO: Any = [{"role": "user", "content": "hello"}]
QUESTION = "What will the weather be in Kraków for 3 days? I mean 'Kraków'."
TOOL: Any = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
}
ARGUMENTS = {"city": "Kraków", "days": 3}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg"
    "=="
)


class Forecast(BaseModel):
    city: str
    days: int


@pytest.fixture(scope="module")
def client(door: Door) -> Iterator[Anthropic]:
    with Anthropic(base_url=door.url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def direct(gateways: dict[str, RunningGateway]) -> Iterator[Anthropic]:
    """A client whose models are not configured, so that the mode does not matter."""
    url = gateways["agrees"].url
    with Anthropic(base_url=url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture
async def live(door: Door) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=door.url, api_key="any", max_retries=0) as made:
        yield made


def test_a_message_is_created(client: Anthropic, door: Door) -> None:
    raw = client.messages.with_raw_response.create(model=door.model, max_tokens=64, messages=HELLO)
    message = raw.parse()
    assert (message.type, message.role, message.model) == ("message", "assistant", door.model)
    assert [block.text for block in message.content if block.type == "text"] == ["I heard: hello"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert raw.headers["x-tutelage-served"].startswith(door.served_by)


def test_a_message_takes_all_params(client: Anthropic, door: Door) -> None:
    message = client.messages.create(
        model=door.model,
        max_tokens=64,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {"role": "assistant", "content": "hi"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "again", "cache_control": {"type": "ephemeral"}}
                ],
            },
        ],
        metadata={"user_id": "13803d75-b4b5-4c3e-b2a2-6f21399b021b"},
        service_tier="auto",
        stop_sequences=["\n\n"],
        tools=[TOOL],
        tool_choice={"type": "none"},
        # The SDK has no words for these any more, other clients have.
        extra_body={"temperature": 1.0, "top_k": 5, "top_p": 0.7},
    )
    assert [block.text for block in message.content if block.type == "text"] == ["I heard: again"]


def test_the_events_of_a_stream_are_in_order(client: Anthropic, door: Door) -> None:
    told = "hello " * 40 + "there"
    stream = client.messages.create(
        model=door.model,
        max_tokens=64,
        messages=[{"role": "user", "content": told}],
        stream=True,
    )
    events = list(stream)
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    order = ["content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
    assert sorted(order, key=kinds.index) == order
    text = "".join(
        event.delta.text
        for event in events
        if event.type == "content_block_delta" and event.delta.type == "text_delta"
    )
    assert text == f"I heard: {told}"
    assert kinds.count("content_block_delta") > 1
    assert events[0].message.model == door.model  # type: ignore[union-attr]


def test_the_stream_of_the_sdk_accumulates_a_tool_call(client: Anthropic, door: Door) -> None:
    with client.messages.stream(
        model=door.model,
        max_tokens=64,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[TOOL],
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert "input_json" in kinds
    assert final.stop_reason == "tool_use"
    assert [block.input for block in final.content if block.type == "tool_use"] == [ARGUMENTS]
    assert final.usage.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_ends_with_text(client: Anthropic, door: Door, stream: bool) -> None:
    def ask(messages: list[Any]) -> Any:
        asked: Any = {"model": door.model, "max_tokens": 64, "tools": [TOOL]}
        if not stream:
            return client.messages.create(messages=messages, **asked)
        with client.messages.stream(messages=messages, **asked) as events:
            return events.get_final_message()

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    first = ask(messages)
    call = next(block for block in first.content if block.type == "tool_use")
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "sunny"}],
    }
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = ask(messages)
    assert [block.text for block in second.content if block.type == "text"] == ["I heard: sunny"]
    assert second.stop_reason == "end_turn"


def test_a_failed_tool_is_told_to_the_model(client: Anthropic, door: Door) -> None:
    messages: list[Any] = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": "no such city",
                    "is_error": True,
                },
                {"type": "text", "text": "try again, without a tool"},
            ],
        },
    ]
    message = client.messages.create(
        model=door.model,
        max_tokens=64,
        messages=messages,
        tools=[TOOL],
        tool_choice={"type": "none"},
    )
    assert [block.text for block in message.content if block.type == "text"] == [
        "I heard: try again, without a tool"
    ]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_tool_choice_is_obeyed(client: Anthropic, door: Door, choice: Any) -> None:
    message = client.messages.create(
        model=door.model, max_tokens=64, messages=HELLO, tools=[TOOL], tool_choice=choice
    )
    assert message.stop_reason == "tool_use"


def test_an_image_is_the_teachers(client: Anthropic, door: Door) -> None:
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    raw = client.messages.with_raw_response.create(
        model=door.model,
        max_tokens=64,
        messages=[{"role": "user", "content": [{"type": "text", "text": "look: "}, image]}],
    )
    seen = "image_url" if door.mode == "translated" else "image"
    assert [b.text for b in raw.parse().content if b.type == "text"] == [f"I heard: look: ({seen})"]
    assert not raw.headers["x-tutelage-served"].startswith("student")


def test_a_message_is_parsed_by_a_schema(client: Anthropic, door: Door) -> None:
    message = client.messages.parse(
        model=door.model,
        max_tokens=64,
        messages=[{"role": "user", "content": QUESTION}],
        output_format=Forecast,
    )
    assert message.parsed_output == Forecast(city="Kraków", days=3)


def test_beta_headers_and_the_beta_query_reach_the_upstream(
    direct: Anthropic, faulty: ThreadedUpstream
) -> None:
    # As Claude Code says it; this SDK leaves the query out.
    asked: Any = {
        "model": "any-other",
        "messages": HELLO,
        "betas": ["interleaved-thinking-2025-05-14"],
        "extra_query": {"beta": "true"},
    }
    direct.beta.messages.create(max_tokens=64, **asked)
    direct.beta.messages.count_tokens(**asked)
    for received in faulty.requests[-2:]:
        assert received.query == "beta=true"
        assert "interleaved-thinking-2025-05-14" in received.headers["anthropic-beta"]
        assert received.headers["anthropic-version"] == direct.default_headers["anthropic-version"]
        assert "x-api-key" not in received.headers


def test_a_beta_call_is_served_in_every_mode(client: Anthropic, door: Door) -> None:
    message = client.beta.messages.create(
        model=door.model,
        max_tokens=64,
        messages=HELLO,
        betas=["interleaved-thinking-2025-05-14"],
    )
    assert [block.text for block in message.content if block.type == "text"] == ["I heard: hello"]
    with client.beta.messages.stream(model=door.model, max_tokens=64, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "I heard: hello"


@pytest.mark.parametrize("beta", [False, True])
def test_tokens_are_counted(client: Anthropic, door: Door, beta: bool) -> None:
    asked: Any = {"model": door.model, "messages": HELLO, "system": "Be brief.", "tools": [TOOL]}
    where = client.beta.messages if beta else client.messages
    assert where.count_tokens(**asked).input_tokens > 0


def test_models_are_listed_and_retrieved(client: Anthropic, door: Door) -> None:
    listed = list(client.models.list())
    assert {"passthrough", "student"} <= {model.id for model in listed}
    found = client.models.retrieve(door.model)
    assert (found.type, found.id, found.display_name) == ("model", door.model, door.model)


async def test_messages_work_asynchronously(live: AsyncAnthropic, door: Door) -> None:
    whole = await live.messages.create(model=door.model, max_tokens=64, messages=HELLO)
    assert [block.text for block in whole.content if block.type == "text"] == ["I heard: hello"]
    async with live.messages.stream(model=door.model, max_tokens=64, messages=HELLO) as stream:
        pieces = [piece async for piece in stream.text_stream]
    assert "".join(pieces) == "I heard: hello"
    assert door.model in [model.id async for model in live.models.list()]


# Failures


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("400", anthropic.BadRequestError),
        # The gateway's own key is refused, not the client's.
        ("401", anthropic.InternalServerError),
        ("404", anthropic.NotFoundError),
        ("413", anthropic.RequestTooLargeError),
        ("429;retry-after=7", anthropic.RateLimitError),
        ("500", anthropic.InternalServerError),
        ("529", anthropic.OverloadedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_error_is_of_its_own_type(
    direct: Anthropic, fault: str, expected: type[anthropic.APIStatusError], stream: bool
) -> None:
    with pytest.raises(expected) as caught:
        direct.messages.create(model=f"fault:{fault}", max_tokens=64, messages=HELLO, stream=stream)
    told = "refuses the key" if fault in ("401", "403") else "the upstream says"
    assert told in str(caught.value)
    if "retry-after" in fault:
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["cut", "error-event", "malformed", "no-end"])
def test_a_broken_stream_is_an_error_of_the_sdk(direct: Anthropic, fault: str) -> None:
    with (
        pytest.raises(anthropic.APIError),
        direct.messages.stream(model=f"fault:{fault}", max_tokens=64, messages=HELLO) as stream,
    ):
        stream.get_final_message()


def test_a_clients_mistake_is_a_bad_request(client: Anthropic, door: Door) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model=door.model, max_tokens=64, messages=[])
    assert caught.value.body["type"] == "error"  # type: ignore[index]
    assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
