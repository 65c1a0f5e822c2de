from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tutelage.runtime.errors import BadResponse, ConfigError, ModelError, Refused, Unreachable
from tutelage.runtime.models.breaker import Attempt, Breaker
from tutelage.runtime.models.failures import is_transient

BOOM = BadResponse("boom", status=500)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def state_of(breaker: Breaker) -> str:
    return breaker.state


def call(breaker: Breaker, error: BaseException | None = None) -> None:
    """A call that ends as told; an answer counts when it has been read to its end."""
    with suppress(type(error) if error else KeyError), breaker.attempt():
        if error is not None:
            raise error
    if error is None:
        breaker.succeeded()


def test_failures_in_a_row_open_it_and_calls_fail_at_once(clock: Clock) -> None:
    breaker = Breaker(after=3, pause_s=30, endpoint="http://h/v1", clock=clock)
    for _ in range(3):
        assert state_of(breaker) == "closed"
        call(breaker, BOOM)
    clock.now_s = 10

    with pytest.raises(Unreachable, match="http://h/v1 failed 3 times in a row") as caught:
        breaker.attempt().__enter__()

    assert state_of(breaker) == "open"
    assert breaker.failures == 3
    assert caught.value.retry_after_s == 20
    assert caught.value.status == 503
    assert is_transient(caught.value)


def test_a_success_between_failures_starts_the_count_anew(clock: Clock) -> None:
    breaker = Breaker(after=2, clock=clock)
    for error in (BOOM, None, BOOM):
        call(breaker, error)

    assert state_of(breaker) == "closed"
    assert breaker.failures == 1


@pytest.mark.parametrize("error", [Refused("no", status=400), Refused("who", status=401)])
def test_a_refusal_shows_that_the_endpoint_works(clock: Clock, error: ModelError) -> None:
    breaker = Breaker(after=2, clock=clock)
    for each in (BOOM, error, BOOM):
        call(breaker, each)

    assert state_of(breaker) == "closed"


def test_one_call_tries_after_the_pause_and_closes_it(clock: Clock) -> None:
    breaker = Breaker(after=1, pause_s=30, clock=clock)
    call(breaker, BOOM)
    clock.now_s = 30
    assert state_of(breaker) == "half-open"

    with breaker.attempt():
        assert state_of(breaker) == "half-open"
        with pytest.raises(Unreachable) as caught:
            breaker.attempt().__enter__()

    assert caught.value.retry_after_s == 1
    assert state_of(breaker) == "closed"
    assert breaker.failures == 0


def test_a_try_that_fails_opens_it_for_another_pause(clock: Clock) -> None:
    breaker = Breaker(after=2, pause_s=30, clock=clock)
    for _ in range(2):
        call(breaker, BOOM)
    clock.now_s = 35
    call(breaker, BOOM)

    assert state_of(breaker) == "open"
    clock.now_s = 64
    assert state_of(breaker) == "open"
    clock.now_s = 65
    assert state_of(breaker) == "half-open"


def test_a_try_that_is_refused_closes_it(clock: Clock) -> None:
    breaker = Breaker(after=1, pause_s=30, clock=clock)
    call(breaker, BOOM)
    clock.now_s = 31
    call(breaker, Refused("no", status=400))

    assert state_of(breaker) == "closed"


def test_a_try_that_is_cancelled_leaves_the_next_call_to_try(clock: Clock) -> None:
    breaker = Breaker(after=1, pause_s=30, clock=clock)
    call(breaker, BOOM)
    clock.now_s = 31
    call(breaker, asyncio.CancelledError())
    assert state_of(breaker) == "half-open"

    call(breaker)

    assert state_of(breaker) == "closed"


def test_a_cancelled_call_counts_neither_way(clock: Clock) -> None:
    breaker = Breaker(after=2, clock=clock)
    for error in (BOOM, asyncio.CancelledError()):
        call(breaker, error)

    assert breaker.failures == 1


def test_calls_that_began_earlier_neither_close_it_nor_prolong_the_pause(clock: Clock) -> None:
    breaker = Breaker(after=1, pause_s=30, clock=clock)
    call(breaker, BOOM)
    clock.now_s = 20
    breaker.succeeded()
    breaker.failed()
    assert state_of(breaker) == "open"

    clock.now_s = 30

    assert state_of(breaker) == "half-open"


@pytest.mark.parametrize(
    ("after", "pause_s", "name"),
    [(0, 1, "break_after"), (1, 0, "break_s"), (1, float("inf"), "break_s")],
)
def test_a_wrong_number_is_told(after: int, pause_s: float, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Breaker(after, pause_s)


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap, end in any order and way, while time goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(after=2, pause_s=10, clock=self.clock)
        self.running: list[tuple[bool, Attempt]] = []

    @rule()
    def wait(self) -> None:
        self.clock.now_s += 4

    @rule()
    def begin(self) -> None:
        state = self.breaker.state
        trying = [probe for probe, _ in self.running if probe]
        attempt = self.breaker.attempt()
        try:
            attempt.__enter__()
        except Unreachable:
            assert state == "open" or (state == "half-open" and trying)
        else:
            assert state == "closed" or not trying
            self.running.append((state == "half-open", attempt))

    @precondition(lambda self: self.running)
    @rule()
    def answer(self) -> None:
        probe = self._end(None)
        self.breaker.succeeded()
        assert not probe or self.breaker.state == "closed"

    @precondition(lambda self: self.running)
    @rule()
    def fail(self) -> None:
        probe = self._end(BOOM)
        assert not probe or self.breaker.state == "open"

    @precondition(lambda self: self.running)
    @rule()
    def cancel(self) -> None:
        before = self.breaker.failures
        self._end(asyncio.CancelledError())
        assert self.breaker.failures == before

    @invariant()
    def one_call_tries_at_most(self) -> None:
        assert sum(probe for probe, _ in self.running) <= 1

    def _end(self, error: BaseException | None) -> bool:
        probe, attempt = self.running.pop(0)
        attempt.__exit__(type(error) if error else None, error, None)
        return probe


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
