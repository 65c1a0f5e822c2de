"""What openai-python's own tests of create, list, retrieve and delete call, against a gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.suites.conftest import TEACHER, Door
from tests.suites.gateways import RunningGateway

pytestmark = pytest.mark.suites

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CHAT_TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER},
}
RESPONSES_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather",
    "parameters": WEATHER,
    "strict": True,
}
QUESTION = "What will the weather be in Kraków for 3 days? I mean 'Kraków'."
ARGUMENTS = {"city": "Kraków", "days": 3}
HELLO: Any = [{"role": "user", "content": "hello"}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)


class Forecast(BaseModel):
    city: str
    days: int


@pytest.fixture(scope="module")
def client(door: Door) -> Iterator[OpenAI]:
    with OpenAI(base_url=door.openai_url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def direct(gateways: dict[str, RunningGateway]) -> Iterator[OpenAI]:
    """A client whose models are not configured, so that the mode does not matter."""
    url = gateways["agrees"].openai_url
    with OpenAI(base_url=url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture
async def live(door: Door) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=door.openai_url, api_key="any", max_retries=0) as made:
        yield made


def keeps_responses(door: Door) -> None:
    """What is relayed unread is kept by the upstream; without a database nothing is."""
    if door.mode in ("passthrough", "spooled"):
        pytest.skip("responses are kept by the upstream, or in the database that is gone")


# Chat completions


def test_a_chat_completion_is_created(client: OpenAI, door: Door) -> None:
    raw = client.chat.completions.with_raw_response.create(model=door.model, messages=HELLO)
    completion = raw.parse()
    assert completion.object == "chat.completion"
    assert completion.model == door.model
    assert completion.choices[0].message.content == "I heard: hello"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    assert raw.headers["x-tutelage-served"].startswith(door.served_by)
    assert raw.headers["x-tutelage-decision-id"]


def test_a_chat_completion_takes_all_params(client: OpenAI, door: Door) -> None:
    completion = client.chat.completions.create(
        model=door.model,
        messages=[
            {"role": "developer", "content": "Be brief.", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "me"},
        ],
        frequency_penalty=-2,
        presence_penalty=2,
        max_completion_tokens=50,
        metadata={"purpose": "a test"},
        parallel_tool_calls=True,
        reasoning_effort="low",
        response_format={"type": "text"},
        safety_identifier="hashed",
        service_tier="auto",
        stop=["\n\n"],
        temperature=1,
        tool_choice="none",
        tools=[CHAT_TOOL],
        top_p=1,
        user="user-1",
        verbosity="low",
    )
    assert completion.choices[0].message.content == "I heard: hello"


def test_a_chat_completion_is_streamed_raw(client: OpenAI, door: Door) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=door.model, messages=HELLO, stream=True
    ) as raw:
        lines = [line for line in raw.iter_lines() if line]
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all("usage" not in line or '"usage":null' in line for line in lines)


def test_a_streamed_chat_completion_adds_up(client: OpenAI, door: Door) -> None:
    chunks = list(
        client.chat.completions.create(
            model=door.model,
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "I heard: hello"
    assert {chunk.model for chunk in chunks} == {door.model}
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None


def test_the_stream_of_the_sdk_accumulates_tool_calls(client: OpenAI, door: Door) -> None:
    with client.chat.completions.stream(
        model=door.model,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{**CHAT_TOOL, "function": {**CHAT_TOOL["function"], "strict": True}}],
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert final.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [ARGUMENTS]


def test_two_tools_are_called_and_answered(client: OpenAI, door: Door) -> None:
    clock: Any = {"type": "function", "function": {"name": "get_time", "parameters": WEATHER}}
    messages: list[Any] = [{"role": "user", "content": "Use get_weather and get_time."}]
    asked: Any = {"model": door.model, "tools": [CHAT_TOOL, clock]}
    first = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert first.finish_reason == "tool_calls"
    calls = first.message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == [
        "get_weather",
        "get_time",
    ]
    messages.append(first.message.model_dump(exclude_none=True))
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": f"result {index}"}
        for index, call in enumerate(calls)
    ]
    second = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert second.message.content == "I heard: result 0 and result 1"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_tool_choice_is_obeyed(client: OpenAI, door: Door, choice: Any) -> None:
    completion = client.chat.completions.create(
        model=door.model, messages=HELLO, tools=[CHAT_TOOL], tool_choice=choice
    )
    assert completion.choices[0].message.tool_calls


def test_a_completion_is_parsed_by_a_schema(client: OpenAI, door: Door) -> None:
    parsed = client.chat.completions.parse(
        model=door.model, messages=[{"role": "user", "content": QUESTION}], response_format=Forecast
    )
    assert parsed.choices[0].message.parsed == Forecast(city="Kraków", days=3)


def test_a_parsed_stream_ends_with_the_object(client: OpenAI, door: Door) -> None:
    with client.chat.completions.stream(
        model=door.model, messages=[{"role": "user", "content": QUESTION}], response_format=Forecast
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == Forecast(city="Kraków", days=3)


def test_an_image_reaches_the_model(client: OpenAI, door: Door) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=door.model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look: "},
                    {"type": "image_url", "image_url": {"url": PIXEL}},
                ],
            }
        ],
    )
    assert raw.parse().choices[0].message.content == "I heard: look: (image_url)"
    # No agreement over what was seen: the teacher's.
    assert not raw.headers["x-tutelage-served"].startswith("student")


def test_several_choices_are_the_teachers(client: OpenAI, door: Door) -> None:
    completion = client.chat.completions.create(model=door.model, messages=HELLO, n=2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    streamed = client.chat.completions.create(
        model=door.model, messages=HELLO, n=2, stream=True, logprobs=False
    )
    assert {choice.index for chunk in streamed for choice in chunk.choices} == {0, 1}


async def test_chat_completions_work_asynchronously(live: AsyncOpenAI, door: Door) -> None:
    whole = await live.chat.completions.create(model=door.model, messages=HELLO)
    assert whole.choices[0].message.content == "I heard: hello"
    stream = await live.chat.completions.create(model=door.model, messages=HELLO, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(pieces) == "I heard: hello"
    async with live.chat.completions.stream(
        model=door.model, messages=[{"role": "user", "content": QUESTION}], response_format=Forecast
    ) as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.parsed == Forecast(city="Kraków", days=3)


# Responses


def test_a_response_is_created(client: OpenAI, door: Door) -> None:
    raw = client.responses.with_raw_response.create(model=door.model, input="hello")
    response = raw.parse()
    assert response.object == "response"
    assert response.status == "completed"
    assert response.model == door.model
    assert response.output_text == "I heard: hello"
    assert response.usage is not None
    assert response.usage.total_tokens > 0
    assert raw.headers["x-tutelage-served"].startswith(door.served_by)


def test_a_response_takes_all_params(client: OpenAI, door: Door) -> None:
    response = client.responses.create(
        model=door.model,
        instructions="Be brief.",
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            {"role": "assistant", "content": "hi"},
            {"type": "message", "role": "user", "content": "again"},
        ],
        max_output_tokens=50,
        metadata={"purpose": "a test"},
        parallel_tool_calls=True,
        reasoning={"effort": "low"},
        safety_identifier="hashed",
        service_tier="auto",
        store=True,
        temperature=1,
        text={"format": {"type": "text"}, "verbosity": "low"},
        tool_choice="none",
        tools=[RESPONSES_TOOL],
        top_p=1,
        truncation="disabled",
        user="user-1",
    )
    assert response.output_text == "I heard: again"


def test_the_events_of_a_response_are_in_order(client: OpenAI, door: Door) -> None:
    told = "hello " * 40 + "there"
    events = list(client.responses.create(model=door.model, input=told, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for before, after in (
        ("response.output_item.added", "response.content_part.added"),
        ("response.content_part.added", "response.output_text.delta"),
        ("response.output_text.delta", "response.output_text.done"),
        ("response.output_text.done", "response.output_item.done"),
    ):
        assert kinds.index(before) < kinds.index(after)
    assert kinds.count("response.output_text.delta") > 1
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == f"I heard: {told}"  # type: ignore[union-attr]


def test_a_streamed_response_calls_a_tool(client: OpenAI, door: Door) -> None:
    with client.responses.stream(
        model=door.model, input=QUESTION, tools=[RESPONSES_TOOL]
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    } <= kinds
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", ARGUMENTS)
    ]


def test_a_tool_loop_of_responses_ends_with_text(client: OpenAI, door: Door) -> None:
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    first = client.responses.create(model=door.model, input=items, tools=[RESPONSES_TOOL])
    call = next(item for item in first.output if item.type == "function_call")
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = client.responses.create(model=door.model, input=items, tools=[RESPONSES_TOOL])
    assert second.output_text == "I heard: sunny"


def test_a_response_is_parsed_by_a_schema(client: OpenAI, door: Door) -> None:
    response = client.responses.parse(model=door.model, input=QUESTION, text_format=Forecast)
    assert response.output_parsed == Forecast(city="Kraków", days=3)


def test_a_response_is_kept_retrieved_and_deleted(client: OpenAI, door: Door) -> None:
    keeps_responses(door)
    made = client.responses.create(model=door.model, input="hello", store=True)
    found = client.responses.retrieve(made.id)
    assert found.output_text == made.output_text
    items = client.responses.input_items.list(made.id)
    assert [item.content[0].text for item in items.data] == ["hello"]  # type: ignore[union-attr]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_streamed_response_is_kept_too(client: OpenAI, door: Door) -> None:
    keeps_responses(door)
    with client.responses.stream(model=door.model, input="hello") as stream:
        made = stream.get_final_response()
    assert client.responses.retrieve(made.id).output_text == "I heard: hello"


def test_a_response_that_is_not_to_be_stored_is_not_kept(client: OpenAI, door: Door) -> None:
    made = client.responses.create(model=door.model, input="hello", store=False)
    unknown = openai.InternalServerError if door.mode == "spooled" else openai.NotFoundError
    with pytest.raises(unknown):
        client.responses.retrieve(made.id)


def test_input_items_are_paged(client: OpenAI, door: Door) -> None:
    keeps_responses(door)
    texts = [f"line {number}" for number in range(5)]
    items: Any = [{"role": "user", "content": text} for text in texts]
    made = client.responses.create(model=door.model, input=items)
    listed = client.responses.input_items.list(made.id, limit=2, order="asc")
    assert [item.content[0].text for item in listed] == texts  # type: ignore[union-attr]


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_goes_on_from_a_previous_response(
    client: OpenAI, door: Door, stream: bool
) -> None:
    keeps_responses(door)

    def ask(**asked: Any) -> Any:
        if not stream:
            return client.responses.create(model=door.model, tools=[RESPONSES_TOOL], **asked)
        with client.responses.stream(model=door.model, tools=[RESPONSES_TOOL], **asked) as events:
            return events.get_final_response()

    first = ask(input=QUESTION)
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = ask(input=[output], previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.output_text == "I heard: sunny"


def test_tokens_of_a_response_are_counted(client: OpenAI, door: Door) -> None:
    counted = client.responses.input_tokens.count(model=door.model, input="hello there")
    assert counted.input_tokens > 0


async def test_responses_work_asynchronously(live: AsyncOpenAI, door: Door) -> None:
    whole = await live.responses.create(model=door.model, input="hello")
    assert whole.output_text == "I heard: hello"
    async with live.responses.stream(model=door.model, input=QUESTION, text_format=Forecast) as s:
        final = await s.get_final_response()
    assert final.output_parsed == Forecast(city="Kraków", days=3)


# The rest


def test_models_are_listed_and_retrieved(client: OpenAI, door: Door) -> None:
    names = [model.id for model in client.models.list()]
    assert {"passthrough", "teacher", "student"} <= set(names)
    assert client.models.retrieve(door.model).id == door.model


async def test_models_are_listed_asynchronously(live: AsyncOpenAI, door: Door) -> None:
    assert door.model in [model.id async for model in live.models.list()]
    assert (await live.models.retrieve(door.model)).object == "model"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_made(client: OpenAI, door: Door, encoding: Any) -> None:
    made = client.embeddings.create(
        model=door.model, input=["one", "three"], encoding_format=encoding
    )
    assert [row.index for row in made.data] == [0, 1]
    assert list(made.data[1].embedding)[:1] == [5.0] or encoding == "base64"


async def test_embeddings_work_asynchronously(live: AsyncOpenAI, door: Door) -> None:
    made = await live.embeddings.create(model=door.model, input="one")
    assert made.data[0].embedding == [3.0, 0.0]


def test_old_completions_are_passed_on(client: OpenAI, door: Door) -> None:
    whole = client.completions.create(model=door.model, prompt="hello", max_tokens=5)
    assert whole.choices[0].text == "I heard: hello"
    streamed = client.completions.create(model=door.model, prompt="hello", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == "I heard: hello"


# Failures


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("400", openai.BadRequestError),
        # The gateway's own key is refused, not the client's.
        ("401", openai.InternalServerError),
        ("403", openai.InternalServerError),
        ("404", openai.NotFoundError),
        ("409", openai.ConflictError),
        ("422", openai.UnprocessableEntityError),
        ("429;retry-after=7", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("529", openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_error_is_of_its_own_type(
    direct: OpenAI, fault: str, expected: type[openai.APIStatusError], stream: bool
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: direct.chat.completions.create(
            model=f"fault:{fault}", messages=HELLO, stream=stream
        ),
        lambda: direct.responses.create(model=f"fault:{fault}", input="hello", stream=stream),
    ]
    for call in calls:
        with pytest.raises(expected) as caught:
            call()
        told = "refuses the key" if fault in ("401", "403") else "the upstream says"
        assert told in str(caught.value)
        if "retry-after" in fault:
            assert caught.value.response.headers["retry-after"] == "7"


def test_a_clients_mistake_is_a_bad_request(client: OpenAI, door: Door) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=door.model, messages=[])
    assert caught.value.status_code == 400
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=door.model, input=[])
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=door.model, messages=HELLO, extra_body={"api_base": "x"}
        )


@pytest.mark.parametrize("fault", ["cut", "error-event", "malformed", "no-end"])
def test_a_broken_stream_is_an_error_of_the_sdk(direct: OpenAI, fault: str) -> None:
    with pytest.raises(openai.APIError):
        list(direct.chat.completions.create(model=f"fault:{fault}", messages=HELLO, stream=True))


def test_the_teacher_saw_its_own_name(client: OpenAI, door: Door, clever: tuple[Any, str]) -> None:
    client.chat.completions.create(model=door.model, messages=HELLO)
    asked = [body["model"] for _, body in clever[0].requests]
    assert TEACHER in asked
    assert door.model not in asked[-1:]
