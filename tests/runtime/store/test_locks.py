from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from tests.made_releases import Clock

from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.locks import SqlLocks


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name = "url" if request.param == "sqlite" else "postgres_url"
    made = open_engine(request.getfixturevalue(name))
    yield made
    made.dispose()


def test_a_lease_is_held_until_it_expires_or_is_given_back(engine: Engine) -> None:
    clock = Clock()
    locks = SqlLocks(engine, clock)
    assert locks.holder("wheel") is None
    assert locks.take("wheel", "a", 10)
    assert not locks.take("wheel", "b", 10)
    assert locks.take("other", "b", 10)
    clock.now_s += 9
    assert locks.take("wheel", "a", 10)
    clock.now_s += 9
    assert not locks.take("wheel", "b", 10)
    assert locks.holder("wheel") == "a"
    clock.now_s += 1
    assert locks.holder("wheel") is None
    assert locks.take("wheel", "b", 10)
    assert not locks.take("wheel", "a", 10)
    locks.free("wheel", "a")
    assert locks.holder("wheel") == "b"
    locks.free("wheel", "b")
    assert locks.take("wheel", "a", 10)


def test_of_many_that_ask_together_one_gets_it(engine: Engine) -> None:
    locks = SqlLocks(engine, Clock())
    locks.take("another", "warm", 10)
    got: list[str] = []

    def ask(holder: str) -> None:
        if locks.take("wheel", holder, 10):
            got.append(holder)

    threads = [threading.Thread(target=ask, args=(f"h{index}",)) for index in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(got) == 1
    assert locks.holder("wheel") == got[0]
