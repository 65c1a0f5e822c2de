from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tutelage.runtime.ids import new_id


def test_an_id_is_32_hexadecimal_digits() -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", new_id()) for _ in range(100))


def test_ids_that_are_made_at_once_in_many_threads_are_all_different() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: new_id(), range(20_000)))
    assert len(set(made)) == len(made)


def test_a_later_id_sorts_after_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for moment_ns in (1, 10**18, 1_800_000_000_123_000_000, 4_000_000_000 * 10**9):
        monkeypatch.setattr(time, "time_ns", lambda moment_ns=moment_ns: moment_ns)
        made.append(new_id())
    assert made == sorted(made)
    assert {len(one) for one in made} == {32}


def test_ids_of_one_moment_are_different_though_the_clock_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {one[:12] for one in made} == {f"{1_800_000_000_000:012x}"}


def test_what_follows_the_time_is_random() -> None:
    """An id tells nothing of the next one: no digit stands still."""
    tails = [new_id()[12:] for _ in range(200)]
    assert all(len({tail[place] for tail in tails}) > 8 for place in range(20))
