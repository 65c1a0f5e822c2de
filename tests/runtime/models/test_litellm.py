from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.absence import absent
from tests.fault_upstream import FaultUpstream

from tutelage.runtime.errors import (
    BadResponse,
    ConfigError,
    ContextTooLong,
    MissingExtra,
    ModelError,
    ModelTimeout,
    RateLimited,
    Refused,
    Unreachable,
)
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Timeouts
from tutelage.runtime.models.litellm import LitellmModel
from tutelage.runtime.models.retries import Retries
from tutelage.runtime.secret import Secret
from tutelage.runtime.types import ChatRequest

# litellm silences these itself when it is imported, which pytest undoes for each test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"),
    pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance"),
]


@pytest.fixture(autouse=True)
def needs_litellm() -> None:
    # Not imported here: that is for the model to do, which first sets what keeps it quiet.
    if importlib.util.find_spec("litellm") is None:
        absent("litellm is not installed: pip install 'tutelage[providers]'")


KEY = "sk-a-key-that-nobody-may-see"
ONCE = Retries(attempts=1)


async def no_wait(seconds: float) -> None:
    """Takes the place of the waits between attempts."""


def request(**fields: Any) -> ChatRequest:
    body = {"model": "alias", "messages": [{"role": "user", "content": "you see a desk"}]}
    return ChatRequest.model_validate({**body, **fields})


def mocked(response: Any, provider: str = "openai", **more: Any) -> LitellmModel:
    """A model whose answers litellm makes up itself."""
    options = {"retries": ONCE, "options": {"mock_response": response}, **more}
    return LitellmModel(provider, "gpt-4o", Secret(KEY), **options)


async def collected(chunks: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk async for chunk in chunks]


@pytest.fixture
async def faulty() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as opened:
        yield opened


Reach = Callable[..., LitellmModel]


@pytest.fixture
def reach(faulty: FaultUpstream) -> Reach:
    def make(model: str, **more: Any) -> LitellmModel:
        options = {"base_url": faulty.base_url, "retries": ONCE, "sleep": no_wait, **more}
        return LitellmModel("openai", model, Secret(KEY), **options)

    return make


async def test_an_answer_is_read_with_its_usage() -> None:
    completion = await mocked("go to desk 1").complete(request())

    assert completion.text == "go to desk 1"
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.output_tokens > 0


async def test_samples_are_drawn_in_one_call_where_the_provider_has_n() -> None:
    assert len((await mocked("go").complete(request(), n=3)).choices) == 3


async def test_samples_are_drawn_by_several_calls_where_it_has_not() -> None:
    completion = await mocked("go", "anthropic").complete(request(n=3))

    assert [choice.index for choice in completion.choices] == [0, 1, 2]


async def test_tool_calls_pass() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "go", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    model = mocked({"id": "c", "model": "gpt-4o", "choices": [choice]})

    completion = await model.complete(request())

    assert completion.choices[0].message.tool_calls == [call]
    assert completion.choices[0].finish_reason == "tool_calls"


async def test_a_stream_yields_chunks_and_ends_with_the_usage() -> None:
    chunks = await collected(mocked("go to desk 1").stream(request()))

    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == "go to desk 1"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    reasons = [choice["finish_reason"] for c in chunks for choice in c["choices"]]
    assert reasons.count("stop") == 1
    assert chunks[-1]["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("litellm.RateLimitError", RateLimited, 429),
        ("litellm.ContextWindowExceededError", ContextTooLong, 400),
        ("litellm.InternalServerError", BadResponse, 500),
        ("Exception: mock_streaming_error", BadResponse, 529),
    ],
)
async def test_errors_of_litellm_are_errors_of_the_tree(
    name: str, kind: type[ModelError], status: int
) -> None:
    with pytest.raises(ModelError) as caught:
        await mocked(name).complete(request())

    assert isinstance(caught.value, kind)
    assert caught.value.status == status
    assert str(caught.value).startswith("litellm openai/gpt-4o")
    assert caught.value.body is not None


async def test_errors_are_told_where_there_is_no_key() -> None:
    options = {"mock_response": "litellm.InternalServerError"}

    with pytest.raises(BadResponse, match="this is a mock internal server error"):
        await LitellmModel("openai", "m", retries=ONCE, options=options).complete(request())


async def test_a_timeout_of_litellm_is_a_timeout() -> None:
    model = mocked("go", options={"mock_timeout": True, "timeout": 0.01})

    with pytest.raises(ModelTimeout, match="passed the timeout of litellm"):
        await model.complete(request())


async def test_a_provider_whose_code_stumbles_is_a_bad_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stumble(**arguments: Any) -> None:
        raise KeyError(f"candidates of {arguments['api_key']}")

    model = mocked("go")
    monkeypatch.setattr("litellm.acompletion", stumble)

    with pytest.raises(BadResponse, match=r"KeyError.*candidates of \*\*\*"):
        await model.complete(request())


async def test_an_error_without_a_status_is_a_bad_response(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    async def fail(**arguments: Any) -> None:
        raise openai.OpenAIError("no credentials")

    model = mocked("go")
    monkeypatch.setattr("litellm.acompletion", fail)

    with pytest.raises(BadResponse, match="failed: no credentials"):
        await model.complete(request())


async def test_a_stream_without_an_end_is_a_bad_response(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mocked("go")
    import litellm

    async def halve(**arguments: Any) -> Any:
        opened = await original(**arguments)

        class Half:
            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                chunk = await anext(opened)
                if chunk.choices[0].finish_reason:
                    raise StopAsyncIteration
                return chunk

            async def aclose(self) -> None:
                await opened.aclose()

        return Half()

    original = litellm.acompletion
    monkeypatch.setattr(litellm, "acompletion", halve)

    with pytest.raises(BadResponse, match="before the answer was complete"):
        await collected(model.stream(request()))


async def test_the_request_reaches_the_provider_without_foreign_fields(
    reach: Reach, faulty: FaultUpstream
) -> None:
    foreign = {
        "api_base": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "api_key": "theirs",
        "mock_response": "x", "fallbacks": ["y"], "custom_llm_provider": "z", "metadata": {},
    }  # fmt: skip

    completion = await reach("large").complete(request(seed=3, **foreign))

    assert completion.text == "go to desk 1"
    assert faulty.last.body["model"] == "large"
    assert faulty.last.body["seed"] == 3
    assert faulty.last.headers["authorization"] == f"Bearer {KEY}"
    assert not set(foreign) & set(faulty.last.body)


async def test_cached_tokens_are_read_in_answers_and_streams(reach: Reach) -> None:
    completion = await reach("large").complete(request())
    chunks = await collected(reach("large").stream(request()))

    assert completion.usage.cache_read_tokens == 4
    assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


@pytest.mark.parametrize("fault", ["cut", "malformed", "error-event", "hang-body"])
async def test_a_stream_that_goes_wrong_is_an_error(
    reach: Reach, faulty: FaultUpstream, fault: str
) -> None:
    model = reach(f"fault:{fault}", timeouts=Timeouts(idle_s=0.2))

    with pytest.raises(ModelError):
        await collected(model.stream(request()))

    assert faulty.calls() == 1


async def test_statuses_of_the_provider_pass_and_the_key_is_masked(reach: Reach) -> None:
    steer = {"x-fault": f"401;say=no {KEY}"}

    with pytest.raises(RateLimited) as limited:
        await reach("fault:429;retry-after=7").complete(request())
    with pytest.raises(Refused) as refused:
        await reach("m", options={"extra_headers": steer}).complete(request())

    assert limited.value.retry_after_s == 7
    assert limited.value.body is not None
    assert limited.value.body["message"] == "the upstream says 429"
    assert refused.value.status == 401
    assert "no ***" in str(refused.value)
    assert KEY not in f"{refused.value} {refused.value.body} {reach('m')!r}"


async def test_a_failed_call_is_made_again_and_opens_the_breaker(
    reach: Reach, faulty: FaultUpstream
) -> None:
    breaker = Breaker(after=3)
    model = reach("fault:500;times=2", retries=Retries(attempts=3), breaker=breaker)

    assert (await model.complete(request())).text == "go to desk 1"
    assert faulty.calls() == 3

    failing = reach("fault:500", retries=Retries(attempts=9), breaker=breaker)
    with pytest.raises(BadResponse):
        await failing.complete(request())
    with pytest.raises(Unreachable):
        await failing.complete(request())
    assert breaker.state == "open"


async def test_silence_passes_the_deadline_that_the_error_names(
    reach: Reach, faulty: FaultUpstream
) -> None:
    with pytest.raises(ModelTimeout, match="first_byte_s"):
        await reach("fault:hang", timeouts=Timeouts(first_byte_s=0.2)).complete(request())

    await faulty.disconnected()


async def test_a_cancelled_call_hangs_up(reach: Reach, faulty: FaultUpstream) -> None:
    call = asyncio.create_task(reach("fault:hang").complete(request()))
    await faulty.arrived()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await faulty.disconnected()


OFFLINE = """
import os, socket, sys

def refuse(*_): raise SystemExit("the network was asked")

socket.getaddrinfo = refuse
assert "litellm" not in sys.modules
from tutelage.runtime.models.litellm import LitellmModel
assert "litellm" not in sys.modules
LitellmModel("openai", "m")
assert "litellm" in sys.modules
assert "FROM_DOTENV" not in os.environ
"""


def test_litellm_is_imported_late_and_kept_from_network_and_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_DOTENV=1")
    settings = {name: text for name, text in os.environ.items() if "LITELLM" not in name}

    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=tmp_path, env=settings, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_provider_that_litellm_does_not_know_is_told() -> None:
    with pytest.raises(ConfigError, match="provider = 'nonsense'"):
        LitellmModel("nonsense", "m")
    with pytest.raises(ConfigError, match="model = ''"):
        LitellmModel("openai", " ")


def test_without_litellm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)

    with pytest.raises(MissingExtra, match=r"tutelage\[providers\]"):
        LitellmModel("openai", "m")


def test_it_says_what_it_is() -> None:
    assert repr(LitellmModel("openai", "m")) == "LitellmModel('openai', 'm')"
