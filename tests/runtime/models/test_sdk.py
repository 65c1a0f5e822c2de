from __future__ import annotations

import sys
from typing import Any

import openai
import pytest

from tutelage.runtime.client import ClientModel
from tutelage.runtime.errors import (
    BadResponse,
    ContextTooLong,
    MissingExtra,
    ModelError,
    ModelTimeout,
    RateLimited,
    Refused,
)
from tutelage.runtime.types import ChatRequest, Usage

MESSAGES: Any = [{"role": "user", "content": "Task: tidy.\nA room."}]


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "alias", "messages": MESSAGES, **fields})


@pytest.fixture(params=["sync", "async"])
def teacher(request: pytest.FixtureRequest, plain: Any, plain_async: Any) -> ClientModel:
    return ClientModel(plain if request.param == "sync" else plain_async)


async def test_a_clients_model_draws_several_samples(teacher: ClientModel, upstream: Any) -> None:
    completion = await teacher.complete(request(a_field_of_tomorrow=1, stream=True), 3)

    assert len(completion.choices) == 3
    assert completion.usage == Usage(input_tokens=3, cache_read_tokens=4, output_tokens=3)
    assert upstream.last["n"] == 3
    assert upstream.last["a_field_of_tomorrow"] == 1
    assert "stream" not in upstream.last


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"status": 400, "body": {"error": {"message": "bad"}}}, Refused),
        ({"status": 400, "body": {"error": {"code": "context_length_exceeded"}}}, ContextTooLong),
        ({"status": 429, "headers": {"Retry-After": "7"}}, RateLimited),
        ({"status": 500, "body": b"<html>"}, BadResponse),
        ({"body": b'{"id": "x", "choi'}, BadResponse),
        ({"body": b"<html>", "headers": {"Content-Type": "text/html"}}, BadResponse),
        ({"body": {"choices": []}}, BadResponse),
        ({"cut": True}, ModelError),
    ],
)
async def test_what_the_client_raises_is_translated_and_kept(
    teacher: ClientModel, upstream: Any, reply: Any, kind: type[ModelError]
) -> None:
    upstream.will(**reply)

    with pytest.raises(ModelError) as caught:
        await teacher.complete(request())

    assert isinstance(caught.value, kind)
    if "status" in reply:
        assert isinstance(caught.value.__cause__, openai.APIStatusError)
        assert caught.value.status == reply["status"]
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == 7


async def test_a_timeout_of_the_client_is_translated(plain_async: Any, upstream: Any) -> None:
    upstream.will(hang="before")
    model = ClientModel(plain_async.with_options(timeout=0.05))

    with pytest.raises(ModelTimeout, match="raise its `timeout`"):
        await model.complete(request())


async def test_a_stream_that_ends_too_early_is_a_bad_response(
    teacher: ClientModel, upstream: Any
) -> None:
    upstream.will(stream=upstream.sse(upstream.chunk("go"), done=False))
    chunks = teacher.stream(request())

    assert (await anext(chunks))["choices"][0]["delta"] == {"content": "go"}
    with pytest.raises(BadResponse, match="before the answer was complete"):
        await anext(chunks)


@pytest.mark.parametrize("piece", [b"data: {\n\n", b"data: 7\n\n"])
async def test_a_malformed_chunk_is_a_bad_response(
    teacher: ClientModel, upstream: Any, piece: bytes
) -> None:
    upstream.will(stream=[piece])

    with pytest.raises(BadResponse):
        await anext(teacher.stream(request()))


async def test_the_clients_key_is_not_repeated(teacher: ClientModel, upstream: Any) -> None:
    upstream.will(status=401, body=upstream.error("wrong key sk-a-key"))

    with pytest.raises(Refused) as caught:
        await teacher.complete(request())

    assert "sk-a-key" not in f"{caught.value}{caught.value.body}"
    assert "wrong key ***" in str(caught.value)


async def test_closing_a_clients_model_leaves_the_client_open(plain: Any) -> None:
    model = ClientModel(plain)
    await model.complete(request())

    await model.aclose()

    assert not plain.is_closed()


async def test_a_clients_model_shows_where_it_asks(teacher: ClientModel, upstream: Any) -> None:
    assert upstream.base_url in repr(teacher)


def test_a_missing_sdk_is_told_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[client\]'"):
        ClientModel(object())
