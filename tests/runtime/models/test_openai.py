from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from tutelage.runtime.errors import (
    BadRequest,
    BadResponse,
    ConfigError,
    ContextTooLong,
    ModelError,
    Refused,
)
from tutelage.runtime.models.fields import PUBLIC_FIELDS
from tutelage.runtime.models.openai import OpenAIModel, Retries
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Usage
from tutelage.runtime.wires.native import NATIVE

KEY = "sk-a-key-that-nobody-may-see"
NEVER = Retries(attempts=1)


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "you see a desk"}]}
    return ChatRequest.model_validate({**body, **fields})


async def test_every_field_is_passed_on_under_the_name_of_the_endpoints_model(
    connect: Any, upstream: Any
) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.3,
        "tools": [{"type": "function", "function": {"name": "go", "parameters": {}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "logit_bias": {"5": -100},
        "a_field_of_tomorrow": {"x": [1, None]},
        "stop": ["\n"],
        "seed": None,
        "n": 1,
    }
    messages = [
        {"role": "system", "content": "s", "name": "operator"},
        {"role": "user", "content": [{"type": "text", "text": "t"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "content": "done", "tool_call_id": "1"},
    ]

    await connect().complete(request(messages=messages, stream=True, **fields))

    assert upstream.last == {"model": "student-7", "messages": messages, **fields}


async def test_a_request_that_json_cannot_hold_is_the_callers_fault(connect: Any) -> None:
    with pytest.raises(BadRequest, match="cannot be written as JSON"):
        await connect().complete(request(metadata={"a": object()}))


@pytest.mark.parametrize(
    ("base_url", "options", "message"),
    [
        ("api.example.com/v1", {}, "give an address such as"),
        ("ftp://example.com", {}, "give an address such as"),
        ("http://", {}, "give an address such as"),
        ("http://example.com:70000/v1", {}, "base_url"),
        ("http://example.com/v1?key=1", {}, "what follows the path"),
        ("http://me:secret@example.com/v1", {}, "as api_key"),
        ("http://example.com/v1", {"model": " "}, "own name of the model"),
        ("http://example.com/v1", {"max_n": 0}, "max_n = 0"),
    ],
)
def test_a_wrong_setting_is_told_at_once(
    base_url: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        OpenAIModel(base_url, **{"model": "m", **options})

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
def test_the_address_is_taken_with_or_without_its_tail(tail: str) -> None:
    assert OpenAIModel(f"http://h:1/v1{tail}", "m").base_url == "http://h:1/v1"


async def test_an_answer_is_read_with_its_usage(connect: Any, upstream: Any) -> None:
    completion = await connect().complete(request())

    assert completion.text == "go to desk 1"
    assert completion.usage == Usage(input_tokens=3, cache_read_tokens=4, output_tokens=3)
    assert upstream.seen[-1].path == "/v1/chat/completions"


async def test_samples_are_asked_for_in_one_call(connect: Any, upstream: Any) -> None:
    completion = await connect().complete(request(), n=3)

    assert upstream.last["n"] == 3
    assert [choice.index for choice in completion.choices] == [0, 1, 2]


async def test_the_requests_own_n_is_kept(connect: Any, upstream: Any) -> None:
    completion = await connect().complete(request(n=3))

    assert upstream.last["n"] == 3
    assert len(completion.choices) == 3


async def test_samples_above_the_endpoints_limit_are_drawn_by_several_calls(
    connect: Any, upstream: Any
) -> None:
    completion = await connect(max_n=2).complete(request(), n=5)

    assert sorted(one.body["n"] for one in upstream.seen) == [1, 2, 2]
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3, 4]
    assert completion.usage == Usage(input_tokens=9, cache_read_tokens=12, output_tokens=9)


async def test_a_failing_batch_fails_the_call_and_cancels_the_others(
    connect: Any, upstream: Any
) -> None:
    upstream.will(hang="before")
    upstream.will(status=400, body=upstream.error("no"))

    with pytest.raises(Refused):
        await connect(max_n=1).complete(request(), n=2)
    assert await asyncio.to_thread(upstream.disconnected.wait, 5)


async def test_fields_of_the_endpoint_win_over_the_requests(connect: Any, upstream: Any) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 1, "model": "other"}

    await connect(extra_body=extra).complete(request(top_k=9))

    assert upstream.last["top_k"] == 1
    assert upstream.last["chat_template_kwargs"] == {"enable_thinking": False}
    assert upstream.last["model"] == "student-7"


async def test_only_allowed_fields_are_passed_on_beside_those_of_the_endpoint(
    connect: Any, upstream: Any
) -> None:
    model = connect(allowed_fields=PUBLIC_FIELDS, extra_body={"chat_template_kwargs": {"x": 1}})
    message = {"role": "user", "content": "hi", "prompt_embeds": "AAAA"}

    await model.complete(request(messages=[message], seed=3, prompt_embeds="AAAA", guided_json={}))

    assert upstream.last == {
        "model": "student-7",
        "messages": [{"role": "user", "content": "hi"}],
        "seed": 3,
        "chat_template_kwargs": {"x": 1},
    }


async def test_what_only_another_wire_understands_is_left_out(connect: Any, upstream: Any) -> None:
    part = {"type": "text", "text": "hi"}
    message = {"role": "user", "content": [{**part, NATIVE: {"cache_control": {}}}]}

    await connect().complete(request(messages=[message], **{NATIVE: {"thinking": {}}}))

    assert upstream.last == {
        "model": "student-7",
        "messages": [{"role": "user", "content": [part]}],
    }


async def test_the_key_is_sent_and_never_shown(connect: Any, upstream: Any) -> None:
    model = connect(api_key=Secret(KEY))
    upstream.will(status=401, body=upstream.error(f"wrong key {KEY}"))

    with pytest.raises(Refused) as caught:
        await model.complete(request())

    assert upstream.seen[-1].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{caught.value}{caught.value.body}{model!r}"
    assert "check the API key" in str(caught.value)


async def test_without_a_key_no_authorization_is_sent(connect: Any, upstream: Any) -> None:
    await connect().complete(request())

    assert "Authorization" not in upstream.seen[-1].headers


@pytest.mark.parametrize(
    ("status", "message", "code", "kind"),
    [
        (400, "bad tool", None, Refused),
        (400, "too long", "context_length_exceeded", ContextTooLong),
        (400, "This model's maximum context length is 8192 tokens.", None, ContextTooLong),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None, ContextTooLong),
        (400, "The decoder prompt (length 9000) is longer than the maximum model length", None,
         ContextTooLong),
        (413, "Input is too long for requested model.", None, ContextTooLong),
        (401, "who are you", None, Refused),
        (404, "The model `student-7` does not exist", None, Refused),
        (422, "messages: field required", None, Refused),
    ],
)  # fmt: skip
async def test_a_rejected_request_is_not_retried_and_keeps_the_endpoints_error(
    connect: Any, upstream: Any, status: int, message: str, code: str | None, kind: type[ModelError]
) -> None:
    body = upstream.error(message, code)
    upstream.will(status=status, body=body)

    with pytest.raises(ModelError) as caught:
        await connect().complete(request())

    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.body == body["error"]
    assert message in str(caught.value)
    assert len(upstream.seen) == 1


async def test_a_page_of_a_proxy_is_a_bad_response_and_is_not_quoted(
    connect: Any, upstream: Any
) -> None:
    upstream.will(status=502, body=b"<html>nginx/1.2 at 10.0.0.7</html>")

    with pytest.raises(BadResponse) as caught:
        await connect(retries=NEVER).complete(request())

    assert caught.value.body is None
    assert "nginx" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello</html>", "something other than JSON"),
        (b'{"id": "x", "choices": [{"index": 0, "mess', "something other than JSON"),
        (b"", "something other than JSON"),
        (b"[]", "JSON that is no object"),
        (b'{"id": "x", "model": "m", "choices": []}', "without choices"),
        (b'{"error": {"message": "overloaded"}}', "without choices: overloaded"),
        (b'{"choices": [{"index": 0}]}', "no chat completion"),
        (b'{"choices": [{"index": 0, "message": {"role": "a"}}], "usage": 3}', "no chat"),
    ],
)  # fmt: skip
async def test_a_200_that_is_no_completion_is_a_bad_response_and_not_retried(
    connect: Any, upstream: Any, body: bytes, message: str
) -> None:
    upstream.will(body=body)

    with pytest.raises(BadResponse, match=message):
        await connect().complete(request())

    assert len(upstream.seen) == 1


async def test_an_answer_without_id_and_model_is_taken(connect: Any, upstream: Any) -> None:
    upstream.will(body={"choices": upstream.completion["choices"]})

    completion = await connect().complete(request())

    assert completion.model == "student-7"
    assert completion.usage == Usage()


async def test_an_answer_that_breaks_off_is_a_bad_response(connect: Any, upstream: Any) -> None:
    upstream.will(cut=True)

    with pytest.raises(BadResponse, match="broke off in the middle"):
        await connect().complete(request())

    assert len(upstream.seen) == 1


async def test_a_redirect_is_not_followed(connect: Any, upstream: Any) -> None:
    upstream.will(status=307, body=b"", headers={"Location": f"{upstream.base_url}/elsewhere"})

    with pytest.raises(BadResponse, match="not followed"):
        await connect().complete(request())

    assert [one.path for one in upstream.seen] == ["/v1/chat/completions"]


async def test_a_closed_model_opens_new_connections(upstream: Any) -> None:
    async with OpenAIModel(upstream.base_url, "m") as model:
        await model.complete(request())
    await model.aclose()

    assert (await model.complete(request())).text == "go to desk 1"
    await model.aclose()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_model_serves_one_event_loop_after_another(upstream: Any) -> None:
    model = OpenAIModel(upstream.base_url, "m")

    async def ask() -> str:
        return (await model.complete(request())).text

    async def ask_and_close() -> str:
        async with model:
            return await ask()

    # The first loop ends without closing anything, which the interpreter rightly complains of.
    assert asyncio.run(ask()) == "go to desk 1"
    assert asyncio.run(ask_and_close()) == "go to desk 1"
    assert model.transport._sessions == {}
    gc.collect()
