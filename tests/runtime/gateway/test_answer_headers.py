from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outcomes import DEFERRED, make_trace

from tutelage.runtime.deliberation import Deliberation, new_deliberation
from tutelage.runtime.episode import Episode
from tutelage.runtime.gateway.answer_headers import (
    Account,
    account_of,
    answer_headers,
    facts,
    forwarded_headers,
    header_value,
    returned_headers,
)
from tutelage.runtime.types import (
    Action,
    Agreement,
    ChatRequest,
    Decision,
    EpisodeRecord,
    Message,
    Reason,
    Sample,
)

SECRET = "sk-seeded-3f9a1c77e2"
LINE = re.compile(rb"[\x20-\x7e]*")


class NoServer:
    """An episode's server that is never asked."""

    async def complete(self, request: ChatRequest, *, episode: Episode | None = None) -> None:
        raise AssertionError

    async def record_episode(self, episode: Episode, **outcome: object) -> EpisodeRecord:
        raise AssertionError


@pytest.fixture
def thought() -> Deliberation:
    request = ChatRequest(model="agent", messages=[Message(role="user", content="hi")])
    episode = Episode(NoServer(), id="episode-1", tenant="acme")  # type: ignore[arg-type]
    return new_deliberation(request, episode, "decision-1", 0.0, "cascade")


def texts(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode(): value.decode() for name, value in headers}


def test_the_headers_of_a_stream_tell_what_is_known_when_it_begins(thought: Deliberation) -> None:
    thought.decision = Decision(served="student", reason=Reason.AGREED)
    thought.agreement = Agreement(((Action("text", "go"), 2),), 3, 0, True)
    thought.samples = (Sample(text="go", action="go"),) * 3

    told = texts(answer_headers(account_of(thought, policy="paper", student="7", bank="12")))

    assert told == {
        "x-tutelage-schema": "1",
        "x-tutelage-decision-id": "decision-1",
        "x-tutelage-mode": "cascade",
        "x-tutelage-served": "student@7",
        "x-tutelage-reason": "agreed",
        "x-tutelage-agreement": "0.6667",
        "x-tutelage-samples": "3",
        "x-tutelage-demos": "0",
        "x-tutelage-policy": "paper",
        "x-tutelage-student": "7",
        "x-tutelage-episode-id": "episode-1",
    }


def test_the_headers_of_a_whole_answer_tell_costs_and_overhead_too() -> None:
    account = account_of(
        DEFERRED, policy="paper", teacher="backup", bank="12", overhead_s=0.0034567
    )

    assert texts(answer_headers(account)) == {
        "x-tutelage-schema": "1",
        "x-tutelage-decision-id": "decision-1",
        "x-tutelage-mode": "cascade",
        "x-tutelage-served": "backup",
        "x-tutelage-reason": "disagreed",
        "x-tutelage-agreement": "0.4000",
        "x-tutelage-samples": "3",
        "x-tutelage-demos": "2@12",
        "x-tutelage-cost-usd": "0.021000000",
        "x-tutelage-cost-baseline-usd": "0.030000000",
        "x-tutelage-overhead-ms": "3.457",
        "x-tutelage-policy": "paper",
        "x-tutelage-episode-id": "episode-1",
    }


def test_the_facts_in_a_body_are_the_same_as_numbers() -> None:
    account = account_of(make_trace(), overhead_s=0.002)

    assert facts(account) == {
        "schema": 1,
        "decision_id": "decision-1",
        "mode": "cascade",
        "served": "student",
        "reason": "agreed",
        "agreement": 1.0,
        "samples": 3,
        "demos": "2",
        "cost_usd": 0.000125,
        "cost_baseline_usd": 0.004,
        "overhead_ms": 2.0,
        "episode_id": "episode-1",
    }


def test_before_a_decision_only_ids_and_mode_are_told(thought: Deliberation) -> None:
    account = Account("decision-1", mode="route", policy="paper", episode_id="e1")

    assert set(texts(answer_headers(account))) == {
        f"x-tutelage-{name}" for name in ("schema", "decision-id", "mode", "policy", "episode-id")
    }
    assert account_of(thought).agreement is None


@given(st.text(), st.text())
def test_no_text_of_a_client_can_break_out_of_a_header(episode: str, student: str) -> None:
    account = Account("d", episode_id=f"{episode}\r\nset-cookie: {student}", student=student)

    for name, value in answer_headers(account):
        assert LINE.fullmatch(name)
        assert LINE.fullmatch(value)
        assert len(value) <= 256


def test_line_breaks_in_a_value_become_one_mark() -> None:
    assert header_value(" a\r\n\0b ") == "a_b"


def test_what_a_reason_is_about_is_told_on_one_plain_line(thought: Deliberation) -> None:
    thought.defer(Reason.UNKNOWN_TOOL, detail="wörld\r\nset-cookie: a=b" + "x" * 300)
    told = texts(answer_headers(account_of(thought)))["x-tutelage-detail"]
    assert told.startswith("w_rld_set-cookie: a=b")
    assert len(told) == 256
    assert facts(account_of(thought))["detail"] == thought.decision.detail


def test_a_messages_call_gets_a_version_if_its_client_names_none() -> None:
    assert forwarded_headers([], "messages") == {"anthropic-version": "2023-06-01"}
    named = [(b"anthropic-version", b"2030-01-01")]
    assert forwarded_headers(named, "messages") == {"anthropic-version": "2030-01-01"}
    assert forwarded_headers([], "chat") == forwarded_headers([], "responses") == {}


def test_of_a_clients_headers_only_the_harmless_ones_go_upstream() -> None:
    client = [
        (b"host", b"gateway.local"),
        (b"authorization", f"Bearer {SECRET}".encode()),
        (b"x-api-key", SECRET.encode()),
        (b"cookie", f"s={SECRET}".encode()),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"one"),
        (b"Anthropic-Beta", b"two"),
        (b"openai-beta", b"responses=v1"),
        (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
        (b"x-tutelage-force", b"student"),
        (b"x-tutelage-served", b"teacher"),
        (b"x-portkey-custom-host", b"http://169.254.169.254"),
        (b"x-litellm-api-base", b"http://169.254.169.254"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"openai-organization", b"org-1"),
        (b"content-length", b"7"),
    ]

    sent = forwarded_headers(client)

    assert sent == {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "one, two",
        "openai-beta": "responses=v1",
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    assert SECRET not in str(sent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"anthropic-beta", b"a\r\nx-evil: 1"),
        (b"anthropic-beta", b"a\nb"),
        (b"anthropic-beta", b"a\0b"),
        (b"anthropic-beta", "bêta".encode()),
        (b"anthropic-beta", b""),
        (b"anthropic-beta", b"a" * 5000),
        (b"traceparent", b"00-not-a-parent"),
    ],
)
def test_a_malformed_header_of_a_client_is_dropped(name: bytes, value: bytes) -> None:
    assert forwarded_headers([(name, value)]) == {}


def test_a_second_traceparent_and_endless_values_are_dropped() -> None:
    parent = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    other = b"00-" + b"c" * 32 + b"-" + b"d" * 16 + b"-01"
    long = b"x" * 3000

    twice = [(b"openai-beta", long)] * 2
    sent = forwarded_headers([(b"traceparent", parent), (b"traceparent", other), *twice])

    assert sent == {"traceparent": parent.decode(), "openai-beta": long.decode()}


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=60))))
def test_forwarding_reads_any_bytes(client: list[tuple[bytes, bytes]]) -> None:
    sent = forwarded_headers([*client, *((b"openai-beta", value) for _, value in client)])

    assert all(LINE.fullmatch(value.replace("\t", " ").encode()) for value in sent.values())


def test_of_an_upstreams_headers_only_waits_ids_and_limits_come_back() -> None:
    upstream = {
        "Retry-After": "7",
        "retry-after-ms": " 700 ",
        "request-id": "req_1",
        "X-Request-Id": "req_2",
        "anthropic-ratelimit-tokens-remaining": "10",
        "x-ratelimit-limit-requests": "5",
        "openai-processing-ms": "12",
        "openai-organization": "our-company",
        "set-cookie": "a=b",
        "server": "x",
        "x-tutelage-served": "teacher",
        "x-ratelimit-bad name": "1",
        "x-ratelimit-split": "1\r\nset-cookie: a=b",
        "anthropic-ratelimit-empty": "",
    }

    assert texts(returned_headers(upstream)) == {
        "retry-after": "7",
        "retry-after-ms": "700",
        "request-id": "req_1",
        "x-request-id": "req_2",
        "anthropic-ratelimit-tokens-remaining": "10",
        "x-ratelimit-limit-requests": "5",
        "openai-processing-ms": "12",
    }
