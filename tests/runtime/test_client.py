from __future__ import annotations

import asyncio
import threading
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tutelage.runtime.client import ClientModel, wrap_client
from tutelage.runtime.errors import (
    BadRequest,
    ConfigError,
    ModelError,
)
from tutelage.runtime.models.openai import OpenAIModel, Retries
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.sync import SyncRuntime
from tutelage.runtime.types import Usage

MESSAGES: Any = [
    {"role": "system", "content": "Act."},
    {"role": "user", "content": "Task: tidy.\nA room."},
]
TOOLS: Any = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}]
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "go", "arguments": '{"to": 1}'}}


async def test_a_wrapped_client_answers_as_the_client_does(any_client: Any, upstream: Any) -> None:
    answer = await any_client.create(temperature=0.5)
    await any_client.close()

    assert type(answer) is ChatCompletion
    assert answer.choices[0].message.content == "go to desk 1"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "gpt-x"
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert upstream.last == {"model": "gpt-x", "messages": MESSAGES, "temperature": 0.5}


async def test_an_answer_tells_who_served_it(any_client: Any) -> None:
    answer = await any_client.create()
    await any_client.close()

    told = answer.model_extra["tutelage"]
    assert told["served"] == "teacher"
    assert told["reason"] == "always"
    assert answer.tutelage == told
    assert len(told["trace_id"]) == 32


async def test_every_argument_reaches_the_teacher(any_client: Any, upstream: Any) -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "logit_bias": {"5": -100},
        "seed": 7,
        "stop": ["\n"],
        "user": "u",
    }

    await any_client.create(
        **fields,
        extra_body={"top_k": 3, "guided": {"a": [1]}},
        extra_headers={"X-Own": "1"},
        extra_query={"api-version": "2"},
        timeout=33,
    )
    await any_client.close()

    assert upstream.last == {
        "model": "gpt-x", "messages": MESSAGES, "top_k": 3, "guided": {"a": [1]}, **fields
    }  # fmt: skip
    assert upstream.seen[-1].headers["X-Own"] == "1"
    assert upstream.seen[-1].headers["x-stainless-read-timeout"] == "33"
    assert upstream.seen[-1].query == "api-version=2"


async def test_several_choices_are_returned(any_client: Any, upstream: Any) -> None:
    answer = await any_client.create(n=3)
    await any_client.close()

    assert upstream.last["n"] == 3
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


async def test_tool_calls_go_both_ways(any_client: Any, upstream: Any) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    upstream.will(body={**upstream.completion, "choices": [choice]})

    answer = await any_client.create(tools=TOOLS)
    said = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "done"}
    await any_client.create(messages=[*MESSAGES, said, result], tools=TOOLS)
    await any_client.close()

    assert said.tool_calls[0].function.arguments == '{"to": 1}'
    assert upstream.last["messages"][2]["tool_calls"] == [TOOL_CALL]
    assert upstream.last["messages"][3] == result


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, openai.BadRequestError),
        (400, "context_length_exceeded", openai.BadRequestError),
        (401, None, openai.AuthenticationError),
        (429, "rate_limit_exceeded", openai.RateLimitError),
        (500, None, openai.InternalServerError),
    ],
)
async def test_the_clients_own_exceptions_reach_the_caller(
    any_client: Any, upstream: Any, stream: bool, status: int, code: str | None, kind: Any
) -> None:
    upstream.will(status=status, body=upstream.error("no", code), headers={"Retry-After": "7"})

    with pytest.raises(kind) as caught:
        await any_client.create(stream=stream)
    await any_client.close()

    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.response.headers["retry-after"] == "7"


async def test_a_timeout_of_one_call_is_kept(any_client: Any, upstream: Any) -> None:
    upstream.will(hang="before")

    with pytest.raises(openai.APITimeoutError):
        await any_client.create(timeout=0.05)
    await any_client.close()

    assert len(upstream.seen) == 1


async def test_a_request_that_is_none_is_told_where(any_client: Any, upstream: Any) -> None:
    with pytest.raises(BadRequest, match=r"messages\.0\.role"):
        await any_client.create(messages=[{"content": "x"}])
    await any_client.close()

    assert upstream.seen == []


async def test_parse_returns_the_parsed_object(any_client: Any, upstream: Any) -> None:
    class Move(BaseModel):
        to: int

    choice = {**upstream.completion["choices"][0]}
    choice["message"] = {"role": "assistant", "content": '{"to": 1}'}
    upstream.will(body={**upstream.completion, "choices": [choice]})

    parse = any_client.client.chat.completions.parse
    answer = await any_client.call(parse, response_format=Move)
    await any_client.close()

    assert answer.choices[0].message.parsed == Move(to=1)
    assert answer.model_extra["tutelage"]["served"] == "teacher"
    assert upstream.last["response_format"]["type"] == "json_schema"


async def test_a_raw_response_holds_the_answer(any_client: Any, upstream: Any) -> None:
    raw = any_client.client.chat.completions.with_raw_response.create
    response = await any_client.call(raw)
    streamed = await any_client.call(raw, stream=True)
    chunks = await any_client.read(streamed.parse())
    await any_client.close()

    assert response.parse().choices[0].message.content == "go to desk 1"
    assert response.headers["x-tutelage-served"] == "teacher"
    assert response.status_code == 200
    assert len(chunks) == 3


async def test_only_chat_completions_go_through_the_runtime(any_client: Any, upstream: Any) -> None:
    upstream.will(body={"object": "list", "data": [], "model": "e", "usage": {}})
    embed = any_client.client.embeddings.create
    arguments = {"model": "e", "input": "x", "encoding_format": "float"}
    if any_client.is_async:
        await embed(**arguments)
    else:
        await asyncio.to_thread(embed, **arguments)
    served = any_client.client.tutelage
    runtime = served if any_client.is_async else served.runtime
    await any_client.close()

    assert upstream.seen[-1].path == "/v1/embeddings"
    assert runtime.kept.traces_in_order == []


async def test_a_refused_connection_is_the_clients_own_error(runtime_of: Any) -> None:
    plain = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="sk-a-key", max_retries=0)
    async with wrap_client(plain, runtime_of(ClientModel(plain))) as client:
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model="m", messages=MESSAGES)


async def test_other_failures_come_as_they_are(plain_async: Any, runtime_of: Any) -> None:
    teacher = OpenAIModel("http://127.0.0.1:9/v1", "m", retries=Retries(attempts=1))
    async with teacher, wrap_client(plain_async, runtime_of(teacher)) as client:
        with pytest.raises(ModelError, match="cannot connect"):
            await client.chat.completions.create(model="m", messages=MESSAGES)


def test_a_student_may_serve(plain: Any, upstream: Any, runtime_of: Any) -> None:
    student = ScriptedModel("look", usage=Usage(input_tokens=5, output_tokens=1))
    with wrap_client(plain, runtime_of(ClientModel(plain), student=student)) as client:
        answer: Any = client.chat.completions.create(model="gpt-x", messages=MESSAGES)
        stream = client.chat.completions.create(model="gpt-x", messages=MESSAGES, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert answer.tutelage["served"] == "student"
    assert answer.tutelage["reason"] == "agreed"
    assert answer.choices[0].message.content == text == "look"
    assert upstream.seen == []


def test_a_wrapped_client_is_one_of_its_kind(client: Any, plain: Any) -> None:
    assert isinstance(client, openai.OpenAI)
    assert type(client).__name__ == "OpenAI"
    assert client.base_url == plain.base_url
    assert client.api_key == "sk-a-key"
    assert isinstance(client.tutelage, SyncRuntime)


def test_the_original_stays_as_it_was(client: Any, plain: Any, upstream: Any) -> None:
    plain.chat.completions.create(model="m", messages=MESSAGES)
    client.chat.completions.create(model="m", messages=MESSAGES)

    assert len(upstream.seen) == 2
    assert len(client.tutelage.runtime.kept.traces_in_order) == 1


def test_resources_looked_up_before_the_wrapping_do_not_bypass_it(
    plain: Any, runtime_of: Any
) -> None:
    plain.chat.completions.create(model="m", messages=MESSAGES)

    with wrap_client(plain, runtime_of(ClientModel(plain))) as client:
        answer: Any = client.chat.completions.create(model="m", messages=MESSAGES)

    assert answer.tutelage["served"] == "teacher"


def test_a_key_set_on_the_wrapped_client_is_used(client: Any, upstream: Any) -> None:
    client.api_key = "k2"

    client.chat.completions.create(model="m", messages=MESSAGES)

    assert upstream.seen[-1].headers["Authorization"] == "Bearer k2"


@pytest.mark.parametrize("way", ["copy", "with_options"])
def test_a_client_with_other_options_is_wrapped_again(client: Any, upstream: Any, way: str) -> None:
    other = getattr(client, way)(api_key="k3", default_headers={"X-Own": "1"})

    answer = other.chat.completions.create(model="m", messages=MESSAGES)

    assert answer.tutelage["served"] == "teacher"
    assert other.tutelage is client.tutelage
    assert upstream.seen[-1].headers["Authorization"] == "Bearer k3"
    assert upstream.seen[-1].headers["X-Own"] == "1"


def test_options_of_a_call_do_not_reach_another_endpoint(
    plain: Any, upstream: Any, runtime_of: Any
) -> None:
    with openai.OpenAI(base_url=upstream.base_url, api_key="theirs", max_retries=0) as other:
        teacher = ClientModel(other, "their-model")
        with wrap_client(plain, runtime_of(teacher)) as client:
            client.chat.completions.create(
                model="m", messages=MESSAGES, extra_headers={"X-Own": "1"}
            )

    assert upstream.seen[-1].headers["Authorization"] == "Bearer theirs"
    assert "X-Own" not in upstream.seen[-1].headers
    assert upstream.last["model"] == "their-model"


def test_calls_within_an_episode_belong_to_it(client: Any) -> None:
    with client.episode(goal="tidy", tenant="t") as episode:
        client.chat.completions.create(model="m", messages=MESSAGES)
        list(client.with_options(timeout=9).chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        ))  # fmt: skip
        episode.feedback(success=True)
    client.chat.completions.create(model="m", messages=MESSAGES)

    kept = client.tutelage.runtime.kept
    assert [(one.episode_id == episode.id, one.tenant) for one in kept.traces_in_order] == [
        (True, "t"),
        (True, "t"),
        (False, "default"),
    ]
    outcome = kept.episodes_in_order[-1]
    assert (outcome.id, outcome.tenant, outcome.goal) == (episode.id, "t", "tidy")
    assert outcome.success is True


async def test_calls_within_an_async_episode_belong_to_it_task_by_task(async_client: Any) -> None:
    async def play(goal: str) -> str:
        async with async_client.episode(goal=goal) as episode:
            for _ in range(3):
                await async_client.chat.completions.create(model="m", messages=MESSAGES)
            await episode.feedback(success=True)
        return str(episode.id)

    ids = await asyncio.gather(*(play(str(index)) for index in range(5)))

    traces = async_client.tutelage.kept.traces_in_order
    assert sorted(trace.episode_id for trace in traces) == sorted(ids * 3)


def test_an_episode_of_one_runtime_is_not_anothers(
    client: Any, plain: Any, runtime_of: Any
) -> None:
    with wrap_client(plain, runtime_of(ClientModel(plain))) as other:
        with client.episode() as outer, other.episode() as inner:
            client.chat.completions.create(model="m", messages=MESSAGES)
            other.chat.completions.create(model="m", messages=MESSAGES)

        assert client.tutelage.runtime.kept.traces_in_order[0].episode_id == outer.id
        assert other.tutelage.runtime.kept.traces_in_order[0].episode_id == inner.id


def test_closing_closes_the_runtime_and_the_client(plain: Any, runtime_of: Any) -> None:
    runtime = runtime_of(ClientModel(plain))
    with wrap_client(plain, runtime) as client:
        client.chat.completions.create(model="m", messages=MESSAGES)

    assert runtime.closed == 1
    assert client.is_closed()
    assert plain.is_closed()


async def test_closing_asynchronously_closes_both(plain_async: Any, runtime_of: Any) -> None:
    runtime = runtime_of(ClientModel(plain_async))
    async with wrap_client(plain_async, runtime):
        pass

    assert runtime.closed == 1
    assert plain_async.is_closed()


def test_many_threads_use_one_wrapped_client(client: Any, upstream: Any) -> None:
    answers: list[Any] = []

    def ask(index: int) -> None:
        create = client.chat.completions.create
        answers.append(create(model=f"m{index}", messages=MESSAGES).model)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == sorted(f"m{index}" for index in range(12))


def test_what_is_no_client_is_told(client: Any, runtime_of: Any) -> None:
    runtime = runtime_of(ScriptedModel("x"))
    with pytest.raises(ConfigError, match=r"openai\.OpenAI"):
        wrap_client(object(), runtime)
    with pytest.raises(ConfigError, match=r"openai\.OpenAI"):
        ClientModel("sk-key")
    with pytest.raises(ConfigError, match="wrapped already"):
        wrap_client(client, runtime)
