from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outcomes import DEFERRED, make_outcome, make_trace

from tutelage.runtime.gateway.access_log import AccessLog, access_line

SECRET = "sk-seeded-3f9a1c77e2"


def test_a_line_says_who_asked_what_came_of_it_and_what_it_cost() -> None:
    outcome = make_outcome(streamed=True, first_chunk_s=0.3, trace=DEFERRED)

    assert access_line(outcome) == (
        "route=chat end=ok status=200 mode=cascade alias=agent stream=1 duration_s=0.7500"
        " upstream_s=0.7000 overhead_s=0.0500 first_chunk_s=0.3000 tenant=acme key=key-7"
        " decision=decision-1 episode=episode-1 step=2 served=teacher reason=disagreed samples=3"
        " agreement=0.4000 demos=2 cost_usd=0.021000"
    )


def test_a_request_without_a_trace_has_a_shorter_line() -> None:
    outcome = make_outcome(
        end="refused", status=401, mode=None, alias=None, tenant=None, key_id=None, duration_s=0.002
    )

    assert access_line(outcome) == (
        "route=chat end=refused status=401 mode=- alias=- stream=0 duration_s=0.0020"
        " upstream_s=0.7000 overhead_s=0.0000 tenant=- key=-"
    )


def test_each_request_is_one_line_at_info(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog()
    with caplog.at_level(logging.WARNING, "tutelage"):
        log.write(make_outcome())
    assert caplog.records == []

    with caplog.at_level(logging.INFO, "tutelage"):
        log.write(make_outcome())
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert caplog.records[0].getMessage() == access_line(make_outcome())


def test_prompts_answers_and_the_words_of_an_upstream_are_not_logged() -> None:
    trace = make_trace(
        model=SECRET,
        goal=SECRET,
        observation=SECRET,
        answer=SECRET,
        prompt=({"role": "user", "content": SECRET},),
        error=f"BadResponse: http://upstream answered 500: {SECRET}",
    )

    line = access_line(make_outcome(trace=trace))

    assert SECRET not in line
    assert line.endswith(" error=BadResponse")


@pytest.mark.parametrize("error", [f"{SECRET} is wrong", "", "a b: c", f"\n{SECRET}:"])
def test_an_error_that_has_no_name_is_only_called_one(
    error: str,
) -> None:
    line = access_line(make_outcome(trace=make_trace(error=error)))

    assert line.endswith(" error=Error")
    assert SECRET not in line


@given(st.text(), st.text())
def test_no_text_of_a_client_can_forge_a_line_or_a_field(alias: str, episode: str) -> None:
    forged = episode + '\r\nINFO route=forged tenant=evil" x=1'
    outcome = make_outcome(alias=alias, trace=make_trace(episode_id=forged))
    line = access_line(outcome)

    assert re.fullmatch(r"[\x20-\x7e]+", line)
    fields = re.findall(r'(?:^| )([a-z_]+)=(?:"[^"]*"|[^ "]+)', line)
    assert fields.count("tenant") == 1
    assert fields.count("route") == 1
    assert "x" not in fields


def test_endless_values_are_cut() -> None:
    assert len(access_line(make_outcome(alias="ü" * 10_000))) < 1000
