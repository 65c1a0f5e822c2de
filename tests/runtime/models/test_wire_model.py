from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.errors import (
    BadRequest,
    BadResponse,
    ConfigError,
    ModelTimeout,
    RateLimited,
    Refused,
)
from tutelage.runtime.models.deadlines import Timeouts
from tutelage.runtime.models.fields import PUBLIC_FIELDS
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.models.transport import Transport
from tutelage.runtime.models.wire_model import WireModel
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest, Usage
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.protocol import WireName

KEY = "sk-a-key-that-nobody-may-see"
USAGE = Usage(input_tokens=8, cache_read_tokens=4, output_tokens=5)

Make = Callable[..., WireModel]


async def no_wait(seconds: float) -> None:
    """Takes the place of the waits between attempts."""


@pytest.fixture
async def faulty() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


@pytest.fixture
async def make(faulty: FaultUpstream) -> AsyncIterator[Make]:
    made: list[WireModel] = []

    def new(model: str = "m", *, transport: dict[str, Any] | None = None, **more: Any) -> WireModel:
        reached = Transport(faulty.base_url, **{"sleep": no_wait, **(transport or {})})
        made.append(WireModel(reached, ChatWire(), model, **more))
        return made[-1]

    yield new
    for each in made:
        await each.aclose()


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "you see a desk"}]}
    return ChatRequest.model_validate({**body, **fields})


async def collected(chunks: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk async for chunk in chunks]


async def test_an_answer_is_read_with_its_usage(make: Make, faulty: FaultUpstream) -> None:
    completion = await make("large").complete(request(temperature=0.5, tomorrow=[1]))

    assert completion.text == "go to desk 1"
    assert completion.usage == USAGE
    assert faulty.last.path == "/chat/completions"
    assert faulty.last.body["model"] == "large"
    assert (faulty.last.body["temperature"], faulty.last.body["tomorrow"]) == (0.5, [1])


async def test_a_wire_with_n_draws_all_samples_in_one_call(
    make: Make, faulty: FaultUpstream
) -> None:
    completion = await make().complete(request(), n=3)

    assert len(completion.choices) == 3
    assert [one.body["n"] for one in faulty.requests] == [3]
    assert completion.usage == USAGE


async def test_the_requests_own_n_is_kept(make: Make, faulty: FaultUpstream) -> None:
    assert len((await make().complete(request(n=2))).choices) == 2
    assert faulty.last.body["n"] == 2


class NoN(ChatWire):
    """Stands for a wire without ``n``."""

    name: WireName = "messages"


async def test_a_wire_without_n_draws_them_by_several_calls(faulty: FaultUpstream) -> None:
    async with WireModel(Transport(faulty.base_url), NoN(), "m") as model:
        completion = await model.complete(request(), n=3)

    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert [one.body["n"] for one in faulty.requests] == [1, 1, 1]
    assert completion.usage == Usage(input_tokens=24, cache_read_tokens=12, output_tokens=15)


async def test_a_stream_yields_its_chunks_and_ends_with_the_usage(
    make: Make, faulty: FaultUpstream
) -> None:
    chunks = await collected(make().stream(request()))

    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == "go to desk 1"
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert faulty.last.stream


async def test_a_connection_is_used_again_after_a_stream(make: Make, faulty: FaultUpstream) -> None:
    model = make()
    for _ in range(3):
        await collected(model.stream(request()))
        await model.complete(request())

    assert faulty.connections == 1


async def test_a_stream_that_is_closed_early_hangs_up(make: Make, faulty: FaultUpstream) -> None:
    chunks = make("fault:hang-body").stream(request())
    await anext(chunks)

    await chunks.aclose()

    await faulty.disconnected()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no-end", "before the answer was complete"),
        ("empty", "before the answer was complete"),
        ("wrong-type", r"before the answer was complete \(text/html\)"),
        ("cut", "broke off in the middle"),
        ("malformed", "not JSON"),
        ("error-event", "out of memory"),
    ],
)
async def test_a_stream_that_goes_wrong_is_a_bad_response_that_names_the_endpoint(
    make: Make, faulty: FaultUpstream, fault: str, message: str
) -> None:
    with pytest.raises(BadResponse, match=message) as caught:
        await collected(make(f"fault:{fault}").stream(request()))

    assert faulty.base_url in str(caught.value)
    assert faulty.calls() == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "other than JSON, or part of it"),
        ("wrong-type", "other than JSON"),
        ("list", "JSON that is no object"),
        ("empty", "without choices"),
        ("cut", "broke off in the middle"),
    ],
)
async def test_an_answer_that_is_none_is_a_bad_response_that_names_the_endpoint(
    make: Make, faulty: FaultUpstream, fault: str, message: str
) -> None:
    with pytest.raises(BadResponse, match=message) as caught:
        await make(f"fault:{fault}").complete(request())

    assert faulty.base_url in str(caught.value)


async def test_errors_of_the_endpoint_pass_as_they_are(make: Make, faulty: FaultUpstream) -> None:
    once = {"retries": Retries(attempts=1), "timeouts": Timeouts(idle_s=0.05)}

    with pytest.raises(RateLimited) as caught:
        await make("fault:429;retry-after=7", transport=once).complete(request())
    with pytest.raises(Refused, match="the upstream says 400"):
        await collected(make("fault:400", transport=once).stream(request()))
    with pytest.raises(ModelTimeout, match="idle_s"):
        await collected(make("fault:hang-body", transport=once).stream(request()))

    assert caught.value.retry_after_s == 7


async def test_a_key_that_an_answer_echoes_is_masked(faulty: FaultUpstream) -> None:
    class Echo(ChatWire):
        def completion(self, body: Any) -> Any:
            raise BadResponse(f"the endpoint echoes {KEY}", body={"message": KEY})

    async with WireModel(Transport(faulty.base_url, secret=Secret(KEY)), Echo(), "m") as model:
        with pytest.raises(BadResponse, match=r"echoes \*\*\*") as caught:
            await model.complete(request())

    assert caught.value.body == {"message": "***"}
    assert caught.value.status == 200


async def test_fields_are_dropped_and_added_as_configured(
    make: Make, faulty: FaultUpstream
) -> None:
    model = make(allowed_fields=PUBLIC_FIELDS, extra_body={"chat_template_kwargs": {"x": 1}})

    await model.complete(request(seed=3, prompt_embeds="AAAA", chat_template_kwargs={"y": 2}))

    assert "prompt_embeds" not in faulty.last.body
    assert faulty.last.body["seed"] == 3
    assert faulty.last.body["chat_template_kwargs"] == {"x": 1}


async def test_a_request_that_json_cannot_hold_is_the_callers_fault(make: Make) -> None:
    with pytest.raises(BadRequest, match="cannot be written as JSON"):
        await make().complete(request(metadata={"a": object()}))


@pytest.mark.parametrize(("model", "more"), [(" ", {}), ("m", {"max_n": 0})])
def test_a_wrong_setting_is_told_at_once(model: str, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        WireModel(Transport("http://h/v1"), ChatWire(), model, **more)


def test_it_says_what_it_is() -> None:
    model = WireModel(Transport("http://h/v1"), ChatWire(), "m")

    assert repr(model) == "WireModel('http://h/v1', 'chat', 'm')"
