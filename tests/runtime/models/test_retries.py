from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.models.retries import Retries, retry_after_s


@given(st.integers(1, 10_000), st.integers(), st.floats(0, 60), st.floats(0, 60))
def test_a_wait_is_jittered_and_bounded(
    failures: int, seed: int, base_s: float, cap_s: float
) -> None:
    delay = Retries(base_s=base_s, cap_s=cap_s).delay_s(failures, Random(seed))

    assert 0 <= delay <= cap_s


def test_the_wait_that_was_asked_for_is_a_lower_bound() -> None:
    assert Retries(cap_s=1).delay_s(1, Random(0), 30) == 30
    assert Retries(base_s=8, cap_s=8).delay_s(1, Random(0), 0.1) >= 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 GMT"}, 20),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 -0000"}, 20),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        (
            {
                "Retry-After": "Thu, 01 Jan 2026 00:00:09 GMT",
                "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
            },
            9,
        ),
    ],
)
def test_what_an_endpoint_asks_for_is_read(headers: Any, seconds: float | None) -> None:
    assert retry_after_s(CIMultiDict(headers), now_s=1000.0) == seconds


@pytest.mark.parametrize(
    ("options", "name"),
    [({"attempts": 0}, "attempts"), ({"base_s": -1}, "base_s"), ({"cap_s": float("nan")}, "cap_s")],
)
def test_a_wrong_setting_is_told_at_once(options: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"retries.{name}"):
        Retries(**options)
