from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.gateway.sessions import MOST_CHARACTERS, SESSION_HEADERS, session_of

UUID = "0b0e6b9e-3a4f-4c57-9e0a-6f1f1c2d3e4f"


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize("name", SESSION_HEADERS)
def test_every_session_header_names_the_session(name: str) -> None:
    assert session_of([(b"host", b"x"), (name.encode(), b" s-1 ")], {}, "acme") == "s-1"


@given(st.lists(st.sampled_from(SESSION_HEADERS), unique=True, min_size=1).flatmap(st.permutations))
def test_the_header_that_stands_first_in_the_list_wins_however_they_arrive(
    names: list[str],
) -> None:
    sent = [(name.encode(), f"of:{name}".encode()) for name in names]
    body = {"prompt_cache_key": UUID, "conversation": "c"}

    assert session_of(sent, body, "acme") == f"of:{min(names, key=SESSION_HEADERS.index)}"


def test_our_own_header_stands_before_all_others() -> None:
    assert SESSION_HEADERS[0] == "x-tutelage-session"


@pytest.mark.parametrize(
    ("body", "session"),
    [
        ({"metadata": {"user_id": f"user_0a1b_account_{UUID}_session_{UUID}"}}, UUID),
        ({"metadata": {"user_id": "user_0a1b_account__session_s-9"}}, "s-9"),
        ({"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "s-2"})}}, "s-2"),
        ({"metadata": {"user_id": {"session_id": "s-3"}}}, "s-3"),
        ({"metadata": {"session_id": "s-4", "conversation_id": "s-5"}}, "s-4"),
        ({"metadata": {"user_id": "a person", "conversation_id": "s-5"}}, "s-5"),
        ({"session_id": "s-6", "conversation": "s-7"}, "s-6"),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation": {"id": "conv_2"}}, "conv_2"),
        ({"prompt_cache_key": UUID}, UUID),
    ],
)
def test_a_body_may_name_the_session(body: dict[str, Any], session: str) -> None:
    assert session_of([], body, "acme") == session


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": None},
        {"metadata": "text"},
        {"metadata": {"user_id": "user-17"}},
        {"metadata": {"user_id": "{not json"}},
        {"metadata": {"user_id": "{}"}},
        {"metadata": {"user_id": 17, "session_id": 18}},
        {"metadata": {"user_id": {"session_id": None}}},
        {"conversation": 5},
        {"conversation": {"name": "x"}},
        {"conversation": "  "},
        {"prompt_cache_key": "support-agent-v2"},
        {"prompt_cache_key": 3},
        {"user": "user-17"},
    ],
)
def test_what_names_a_user_or_a_shared_prompt_is_no_session(body: dict[str, Any]) -> None:
    assert session_of([], body, "acme") is None


def test_an_empty_header_gives_way_to_the_next_source() -> None:
    sent = headers(x_tutelage_session="  ", x_session_id="")

    assert session_of(sent, {"conversation": "conv_1"}, "acme") == "conv_1"


@given(st.binary(max_size=300), st.text(min_size=1, max_size=20))
def test_a_session_is_always_short_and_plain_or_absent(raw: bytes, tenant: str) -> None:
    session = session_of([(b"x-session-id", raw)], {}, tenant)

    if session is None:
        assert not raw.decode("utf-8", "replace").strip()
    else:
        assert re.fullmatch(r"[A-Za-z0-9._:@/+=-]{1,128}", session)
        assert session == session_of([(b"x-session-id", raw)], {}, tenant)


@pytest.mark.parametrize("odd", ["a" * (MOST_CHARACTERS + 1), "line\r\nset-cookie: x", "käse"])
def test_long_or_odd_sessions_become_hashes_that_differ_between_tenants(odd: str) -> None:
    body = {"conversation": odd}
    ours, theirs = session_of([], body, "acme"), session_of([], body, "other")

    assert ours is not None
    assert ours.startswith("session-")
    assert ours != theirs
    assert session_of([], {"conversation": odd + "b"}, "acme") != ours


def test_the_longest_plain_session_is_kept_as_it_is() -> None:
    session = "a" * MOST_CHARACTERS

    assert session_of(headers(x_session_id=session), {}, "acme") == session
