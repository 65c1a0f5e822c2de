from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    ContextTooLong,
    ModelError,
    ModelTimeout,
    RateLimited,
    Refused,
    Unreachable,
)
from tutelage.runtime.models.fallback import FallbackModel, is_for_another
from tutelage.runtime.types import ChatRequest, Completion

PASSING: list[ModelError] = [
    RateLimited("slow down", retry_after_s=7),
    ModelTimeout("late"),
    ModelError("cannot connect"),
    BadResponse("boom", status=500),
    BadResponse("half of the JSON", status=200),
    Unreachable("left alone"),
    Refused("our key", status=401),
    Refused("our credit", status=402),
]
REQUEST = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}]})


def completion(text: str) -> Completion:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return Completion.model_validate({"id": "c", "model": "m", "choices": [choice]})


class Fake:
    """A model that fails after some chunks, or says its name."""

    def __init__(self, name: str, error: ModelError | None = None, after: int = 0) -> None:
        self.name = name
        self.error = error
        self.after = after
        self.calls: list[int] = []
        self.closed = 0

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        self.calls.append(n)
        if self.error is not None:
            raise self.error
        return completion(self.name)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        self.calls.append(1)
        try:
            for index in range(self.after if self.error else 3):
                yield {"name": self.name, "index": index}
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1

    def __repr__(self) -> str:
        return self.name


Call = Callable[[FallbackModel], Any]


async def complete(model: FallbackModel) -> str:
    return (await model.complete(REQUEST, 3)).text


async def stream(model: FallbackModel) -> str:
    names = {chunk["name"] async for chunk in model.stream(REQUEST)}
    return str(names.pop()) if len(names) == 1 else str(names)


calls = pytest.mark.parametrize("call", [complete, stream])


@calls
@pytest.mark.parametrize("error", PASSING, ids=lambda error: str(error))
async def test_the_next_model_answers_when_one_fails(
    call: Call, error: ModelError, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = Fake("one", error), Fake("two", error), Fake("three")

    with caplog.at_level(logging.WARNING):
        assert await call(FallbackModel([first, second, third, Fake("four")])) == "three"

    assert len(first.calls) == len(second.calls) == len(third.calls) == 1
    [line] = [record.getMessage() for record in caplog.records]
    assert line.count(str(error)) == 2
    assert line.endswith("three answered")


@calls
@pytest.mark.parametrize(
    "error",
    [Refused("bad tool", status=400), ContextTooLong("long", status=400), Refused("?", status=404)],
)
async def test_a_request_that_is_refused_goes_no_further(
    call: Call, error: ModelError, caplog: pytest.LogCaptureFixture
) -> None:
    second = Fake("two")

    with caplog.at_level(logging.WARNING), pytest.raises(type(error)) as caught:
        await call(FallbackModel([Fake("one", error), second]))

    assert caught.value is error
    assert second.calls == []
    assert caplog.records == []


@calls
async def test_a_long_prompt_goes_on_only_where_a_longer_context_follows(call: Call) -> None:
    models = [Fake("one", ContextTooLong("long", status=400)), Fake("two")]

    assert await call(FallbackModel(models, longer_context=True)) == "two"


@calls
async def test_the_last_error_is_raised(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    last = RateLimited("the last", retry_after_s=3)
    models = [Fake("one", ModelTimeout("the first")), Fake("two", last)]

    with caplog.at_level(logging.WARNING), pytest.raises(RateLimited) as caught:
        await call(FallbackModel(models, names=["primary", "spare"]))

    assert caught.value is last
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        "primary failed (ModelTimeout: the first); spare failed (RateLimited: the last); "
        "nobody else is asked"
    )


@calls
async def test_a_model_that_answers_leaves_the_others_and_the_log_alone(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    second = Fake("two")

    with caplog.at_level(logging.WARNING):
        assert await call(FallbackModel([Fake("one"), second])) == "one"

    assert second.calls == []
    assert caplog.records == []


async def test_samples_are_passed_on() -> None:
    spare = Fake("two")

    await FallbackModel([Fake("one", BadResponse("boom")), spare]).complete(REQUEST, 5)

    assert spare.calls == [5]


async def test_after_the_first_chunk_nobody_else_is_asked() -> None:
    second = Fake("two")
    chunks = FallbackModel([Fake("one", BadResponse("cut"), after=1), second]).stream(REQUEST)

    assert (await anext(chunks))["name"] == "one"
    with pytest.raises(BadResponse, match="cut"):
        await anext(chunks)

    assert second.calls == []


async def test_a_stream_without_chunks_counts_as_a_failure() -> None:
    empty = Fake("one", BadResponse("never raised"))

    async def nothing(request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        return
        yield

    empty.stream = nothing  # type: ignore[method-assign]

    assert await stream(FallbackModel([empty, Fake("two")])) == "two"
    with pytest.raises(BadResponse, match="before the first chunk"):
        await stream(FallbackModel([empty]))


async def test_streams_are_closed_when_the_caller_leaves() -> None:
    first, second = Fake("one", BadResponse("boom")), Fake("two")
    chunks = FallbackModel([first, second]).stream(REQUEST)
    await anext(chunks)

    await chunks.aclose()

    assert (first.closed, second.closed) == (1, 1)


@pytest.mark.parametrize(("models", "names"), [([], None), ([Fake("one")], ["a", "b"])])
def test_models_and_names_belong_together(models: list[Any], names: list[str] | None) -> None:
    with pytest.raises(ConfigError):
        FallbackModel(models, names=names)


def test_it_says_what_it_is() -> None:
    assert repr(FallbackModel([Fake("one"), Fake("two")])) == "FallbackModel(one, two)"


def test_only_a_clients_own_mistake_stays_where_it_is() -> None:
    assert all(is_for_another(error) for error in PASSING)
    assert not is_for_another(Refused("no", status=422))
