"""A gateway that asks for keys, before the real SDKs: whose errors they raise."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from tests.suites.gateways import RunningGateway, run_command

pytestmark = pytest.mark.suites

HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def keyed(gateways: dict[str, RunningGateway]) -> RunningGateway:
    return gateways["keyed"]


def make_key(gateway: RunningGateway, name: str, *options: str) -> str:
    return str(run_command(gateway.config, "keys", "create", name, *options)["key"])


def openai_client(gateway: RunningGateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.openai_url, api_key=key, max_retries=0)


def anthropic_client(gateway: RunningGateway, **credentials: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, max_retries=0, **credentials)


def test_an_unknown_key_is_an_authentication_error(keyed: RunningGateway) -> None:
    with openai_client(keyed, "sk-unknown") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model="teacher", messages=HELLO)
        assert refused.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.responses.create(model="teacher", input="hello")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    with anthropic_client(keyed, api_key="sk-unknown") as anthropic_one:
        with pytest.raises(anthropic.AuthenticationError) as also:
            anthropic_one.messages.create(model="teacher", max_tokens=8, messages=HELLO)
        assert also.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]


def test_a_key_opens_the_gateway_in_either_header(keyed: RunningGateway) -> None:
    key = make_key(keyed, "both", "--alias", "teacher")
    with openai_client(keyed, key) as client:
        completion = client.chat.completions.create(model="teacher", messages=HELLO)
        assert completion.choices[0].message.content == "I heard: hello"
        assert [model.id for model in client.models.list()] == ["teacher"]
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="student", messages=HELLO)
    for credentials in ({"api_key": key}, {"auth_token": key}):
        with anthropic_client(keyed, **credentials) as client_:
            message = client_.messages.create(model="teacher", max_tokens=8, messages=HELLO)
            assert message.stop_reason == "end_turn"
            with pytest.raises(anthropic.PermissionDeniedError):
                client_.messages.create(model="student", max_tokens=8, messages=HELLO)


def test_a_rate_limit_says_when_to_come_back(keyed: RunningGateway) -> None:
    key = make_key(keyed, "slow", "--requests-per-minute", "1")
    with openai_client(keyed, key) as client, anthropic_client(keyed, api_key=key) as other:
        client.chat.completions.create(model="teacher", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as limited:
            client.responses.create(model="teacher", input="hello")
        assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
        with pytest.raises(anthropic.RateLimitError) as also:
            other.messages.create(model="teacher", max_tokens=8, messages=HELLO)
        assert 0 < int(also.value.response.headers["retry-after"]) <= 60


def test_a_spent_budget_is_a_rate_limit_error_with_its_own_code(keyed: RunningGateway) -> None:
    key = make_key(keyed, "poor", "--budget-usd", "0.0000001")
    with openai_client(keyed, key) as client, pytest.raises(openai.RateLimitError) as spent:
        client.chat.completions.create(model="teacher", messages=HELLO)
    assert spent.value.code == "insufficient_quota"


def test_the_sdk_comes_back_by_itself_when_it_is_told_to(keyed: RunningGateway) -> None:
    key = make_key(keyed, "patient")
    with openai.OpenAI(base_url=keyed.openai_url, api_key=key, max_retries=2) as client:
        completion = client.chat.completions.create(
            model="fault:429;retry-after=0;times=1", messages=HELLO
        )
    assert completion.choices[0].message.content == "go to desk 1"
