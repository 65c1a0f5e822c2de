from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.training.diffusion.served_student import ServedStudent, chat, serving
from tests.training.diffusion.toys import toy_student

from tutelage.training.diffusion import batching, server
from tutelage.training.diffusion.answer_text import AnswerText
from tutelage.training.diffusion.chat import word_tokens
from tutelage.training.diffusion.commit_rule import EntropyThreshold, TopK
from tutelage.training.diffusion.decoding import Decoded, DecodingSettings, decode

SETTINGS = DecodingSettings(EntropyThreshold(1.5))


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedStudent]:
    monkeypatch.setattr(server, "LARGEST_BODY", 1800)
    async with serving(toy_student(), SETTINGS) as made:
        yield made


async def test_an_answer_has_choices_usage_and_forwards(served: ServedStudent) -> None:
    student = toy_student()
    prompt = student.prompt([{"role": "user", "content": "go to desk 1"}])
    expected = decode(student.model, [prompt], SETTINGS)[0]

    status, body = await served.ask(n=2)

    assert status == 200
    assert body["object"] == "chat.completion"
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert texts == [student.chat.decode(expected.tokens)] * 2
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert [choice["forwards"] for choice in body["choices"]] == [expected.forwards] * 2
    assert body["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 2 * len(expected.tokens),
        "total_tokens": len(prompt) + 2 * len(expected.tokens),
        "forwards": 2 * expected.forwards,
    }


async def test_samples_differ_and_a_seed_repeats_them(served: ServedStudent) -> None:
    async def texts(**fields: Any) -> list[str]:
        _, body = await served.ask(n=6, temperature=2.0, **fields)
        return [choice["message"]["content"] for choice in body["choices"]]

    first, again, other = await texts(seed=5), await texts(seed=5), await texts(seed=6)
    assert len(set(first)) > 1
    assert first == again
    assert first != other
    assert await texts() != await texts()


async def test_requests_that_wait_share_a_batch() -> None:
    student = toy_student()
    begun, go_on = threading.Event(), threading.Event()

    def held(_: Any, __: Any) -> None:
        begun.set()
        go_on.wait(20)

    hook = student.model.register_forward_pre_hook(held)
    async with serving(student, SETTINGS) as served:
        first = asyncio.create_task(served.ask())
        await asyncio.to_thread(begun.wait, 20)
        more = [asyncio.create_task(served.ask(n=3, temperature=1.0)) for _ in range(2)]
        async with asyncio.timeout(20):
            while served.server._batcher.waiting < 6:  # noqa: ASYNC110 - it is the state of a server
                await asyncio.sleep(0.005)
        _, waiting = await served.page("/metrics")
        go_on.set()
        hook.remove()
        assert {status for status, _ in await asyncio.gather(first, *more)} == {200}
        _, page = await served.page("/metrics")
    assert "tutelage_diffusion_waiting 6.0" in waiting
    assert "tutelage_diffusion_batch_rows_count 2.0" in page
    assert "tutelage_diffusion_batch_rows_sum 7.0" in page
    assert 'tutelage_diffusion_requests_total{outcome="ok"} 3.0' in page


async def test_a_stream_tells_spans_as_they_are_written(served: ServedStudent) -> None:
    _, whole = await served.ask()
    events = await served.events(stream_options={"include_usage": True})

    assert events[-1] == "[DONE]"
    usage = events[-2]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    deltas = [event["choices"][0]["delta"] for event in events[:-2]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == whole["choices"][0]["message"]["content"]
    reasons = [event["choices"][0]["finish_reason"] for event in events[:-2]]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert reasons[-1] == whole["choices"][0]["finish_reason"]
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}


async def test_a_stream_of_one_token_a_forward_comes_in_pieces() -> None:
    async with serving(toy_student(), DecodingSettings(TopK(1))) as served:
        _, whole = await served.ask()
        events = await served.events(n=2)
    pieces = [
        (event["choices"][0]["index"], event["choices"][0]["delta"]["content"])
        for event in events[:-1]
        if event["choices"][0]["delta"].get("content")
    ]
    expected = whole["choices"][0]["message"]["content"]
    for index in range(2):
        mine = [text for at, text in pieces if at == index]
        assert "".join(mine) == expected
        assert len(mine) > 1
    assert "usage" not in events[-2]


async def test_log_probabilities_are_those_at_the_writing(served: ServedStudent) -> None:
    _, body = await served.ask(logprobs=True)
    _, without = await served.ask()

    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == body["usage"]["completion_tokens"]
    assert all(entry["logprob"] <= 0 for entry in content)
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]
    assert without["choices"][0]["logprobs"] is None


async def test_a_limit_and_a_stop_text_end_an_answer(served: ServedStudent) -> None:
    _, whole = await served.ask()
    words = whole["choices"][0]["message"]["content"].split()
    _, cut = await served.ask(max_tokens=1)
    second = next(word for word in words if word != words[0])
    _, stopped = await served.ask(stop=second)
    streamed = await served.events(stop=[second])

    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 1)
    assert stopped["choices"][0]["finish_reason"] == "stop"
    before = " ".join(words).split(second)[0]
    assert stopped["choices"][0]["message"]["content"] == before
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in streamed[:-1])
    assert text == before
    assert streamed[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        (b"{", 400, None, "no JSON"),
        ([], 400, None, "object"),
        ({"model": "student"}, 400, "messages", "messages"),
        (chat(model="gpt"), 404, "model", "is not served here"),
        (chat(temperature="hot"), 400, "temperature", "temperature"),
        (chat(n=65), 400, "n", "at most 64"),
        (chat(logprobs=True, top_logprobs=3), 400, "top_logprobs", "leave it out"),
        (chat(tools=[{"type": "function", "function": {"name": "f"}}]), 400, None, "tools"),
        (
            chat(said=[{"type": "image_url", "image_url": {"url": "x"}}]),
            400,
            "messages.0.content",
            "text only",
        ),
        (chat(said="go " * 400), 400, None, "the prompt has"),
        (b"x" * 2000, 413, None, "larger than"),
    ],
)
async def test_what_a_client_does_wrong_is_told_in_the_openai_shape(
    served: ServedStudent, body: Any, status: int, param: str | None, words: str
) -> None:
    got, answer = await served.post(body)

    assert got == status
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert error["param"] == param
    _, page = await served.page("/metrics")
    assert 'outcome="refused"} 1.0' in page


async def test_a_prompt_that_is_too_long_has_its_code(served: ServedStudent) -> None:
    _, answer = await served.ask(said="go " * 400)
    assert answer["error"]["code"] == "context_length_exceeded"


async def test_models_health_and_unknown_routes(served: ServedStudent) -> None:
    status, models = await served.page("/v1/models")
    assert (status, '"id":"student"' in models, '"max_model_len":256' in models) == (
        200,
        True,
        True,
    )
    assert (await served.page("/health"))[0] == 200
    status, body = await served.page("/v1/nothing")
    assert (status, '"type":"not_found_error"' in body) == (404, True)
    status, body = await served.page("/v1/chat/completions")
    assert (status, "invalid_request_error" in body) == (405, True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_fails_is_a_server_error(
    served: ServedStudent, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def fail(*_: Any, **__: Any) -> list[Decoded]:
        raise RuntimeError("out of memory\nat a place")

    monkeypatch.setattr(batching, "decode", fail)
    status, body = await served.ask(stream=stream)

    assert status == 500
    assert body["error"]["type"] == "server_error"
    assert body["error"]["message"] == "the student failed: out of memory"


async def test_more_samples_than_may_wait_are_refused() -> None:
    async with serving(toy_student(), SETTINGS, waiting=3) as served:
        status, body = await served.ask(n=4)
        fits, _ = await served.ask(n=3)

    assert (status, body["error"]["type"], fits) == (503, "overloaded_error", 200)


async def settled(served: ServedStudent, text: str) -> None:
    """Returns when the metrics say something."""
    async with asyncio.timeout(20):
        while text not in (await served.page("/metrics"))[1]:  # noqa: ASYNC110 - of a server
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_ends_its_samples(stream: bool) -> None:
    student = toy_student()
    third, go_on = threading.Event(), threading.Event()
    forwards = 0

    def held(_: Any, __: Any) -> None:
        nonlocal forwards
        forwards += 1
        if forwards == 3:
            third.set()
            go_on.wait(20)

    student.model.register_forward_pre_hook(held)
    async with serving(student, DecodingSettings(TopK(1))) as served:
        asked = asyncio.create_task(served.ask(stream=stream))
        await asyncio.to_thread(third.wait, 20)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await settled(served, 'outcome="refused"} 1.0')
        go_on.set()
        await settled(served, "tutelage_diffusion_batch_rows_count 1.0")
    assert forwards < student.shape.slots


def test_text_is_passed_on_once_later_tokens_cannot_change_it() -> None:
    chat_tokens = word_tokens(["go to desk stop now"])
    text = AnswerText(chat_tokens, ["stop now"])
    tokens = chat_tokens.encode("go to stop desk")

    pieces = [text.grown(tokens[:end]) for end in range(1, 5)]
    assert "".join(pieces) == "go to stop desk"[: len("".join(pieces))]
    assert "".join([*pieces, text.rest(tokens)]) == "go to stop desk"
    stopping = AnswerText(chat_tokens, ["stop now"])
    assert stopping.grown(chat_tokens.encode("go stop now to")) == "go "
    assert stopping.stopped
