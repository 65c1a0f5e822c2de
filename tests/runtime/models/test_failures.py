"""What a failure is called, for whoever runs the gateway and for its clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.errors import (
    BadResponse,
    ModelError,
    ModelTimeout,
    RateLimited,
    Refused,
    Unreachable,
)
from tutelage.runtime.models.failures import error_for, told_of, without_addresses

AT = "http://10.0.0.7:8000/v1"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            error_for(AT, 400, {"error": {"message": "no\nsuch field"}}),
            "answered 400: no such field",
        ),
        (error_for(AT, 500, None), "answered 500"),
        (error_for(AT, 404, {"message": "no model"}), "answered 404: no model"),
        (error_for(AT, 302, None), "answered 302"),
        (error_for(AT, 429, {"error": {"message": 7}}), "answered 429"),
        (
            error_for(AT, 401, {"error": {"message": "the key sk-12*** is wrong"}}),
            "answered 401: it refuses the key of this gateway",
        ),
        (
            ModelTimeout(f"{AT} passed the idle_s deadline of 60 s: raise timeouts.idle_s"),
            "passed the idle_s deadline of 60 s: raise timeouts.idle_s",
        ),
        (Unreachable(f"{AT}/ failed 5 times in a row"), "failed 5 times in a row"),
        (ModelError(f"cannot connect to {AT} (Connection refused)"), "cannot be reached"),
        (BadResponse(f"{AT} broke off"), "broke the connection before it answered"),
    ],
)
def test_a_client_is_told_who_failed_and_how(error: ModelError, told: str) -> None:
    assert told_of(error, r"up\1") == rf"upstream up\1 {told}"
    assert AT in str(error)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{AT} answered 500", "the endpoint answered 500"),
        (f"cannot connect to {AT}: start it", "cannot connect to the endpoint: start it"),
        (f"see {AT}.", "see the endpoint."),
        (f"({AT}) and 'https://a.example/b?c=d'", "(the endpoint) and 'the endpoint'"),
        ("nothing here: http", "nothing here: http"),
        ("", ""),
    ],
)
def test_addresses_are_left_out_of_a_line(text: str, left: str) -> None:
    assert without_addresses(text) == left


@given(st.text(), st.text())
def test_no_address_is_left_in_any_line(before: str, after: str) -> None:
    assert AT not in without_addresses(f"{before}{AT} {after}")


@given(
    st.sampled_from([302, 400, 401, 403, 404, 413, 429, 500, 503, 529]),
    st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.text())),
)
def test_every_failure_has_a_text_without_its_address(status: int, body: object) -> None:
    error = error_for(AT, status, {"error": body})
    told = told_of(error, "teacher")
    assert told.startswith(f"upstream teacher answered {status}")
    assert AT not in told
    assert isinstance(error, ModelError)
    if status == 429:
        assert isinstance(error, RateLimited)
    elif 400 <= status < 500:
        assert isinstance(error, Refused)
