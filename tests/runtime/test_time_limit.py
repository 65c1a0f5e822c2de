from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tutelage.runtime.time_limit import TimeLimit, within


async def forever() -> None:
    await asyncio.Event().wait()


def cancellations() -> int:
    """How often the running task was asked to end."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("seconds", [0.01, 0.0, -1.0])
async def test_a_block_that_takes_too_long_ends_with_a_timeout(seconds: float) -> None:
    limit = TimeLimit(seconds)
    with pytest.raises(TimeoutError), limit:
        await forever()
    assert limit.expired


async def test_the_timeout_names_the_cancellation_as_its_cause() -> None:
    with pytest.raises(TimeoutError) as caught, TimeLimit(0.0):
        await forever()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("seconds", [30.0, None])
async def test_a_block_that_is_quick_enough_is_left_alone(seconds: float | None) -> None:
    with TimeLimit(seconds) as limit:
        await asyncio.sleep(0)
    assert not limit.expired


async def test_a_limit_that_was_kept_ends_nothing_later() -> None:
    with TimeLimit(0.005):
        pass
    # Longer than the limit, which would have fired in here.
    await asyncio.sleep(0.02)
    assert cancellations() == 0


@pytest.mark.parametrize("seconds", [30.0, None, 0.005])
async def test_an_error_of_the_block_passes_as_it_is(seconds: float | None) -> None:
    with pytest.raises(LookupError), TimeLimit(seconds):
        raise LookupError("of the block")


async def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with TimeLimit(30.0):
            entered.set()
            await forever()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancellation_that_comes_with_the_timeout_wins() -> None:
    """Whoever cancelled the task must not be told of a timeout instead."""

    async def work() -> None:
        with TimeLimit(0.001):
            asyncio.get_running_loop().call_later(0.001, lambda: task.cancel())
            # Afterwards both are due in one turn of the loop.
            time.sleep(0.01)  # noqa: ASYNC251
            await forever()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancellation_during_the_clean_up_after_a_timeout_wins() -> None:
    cleaning = asyncio.Event()

    async def work() -> None:
        with TimeLimit(0.0):
            try:
                await forever()
            finally:
                cleaning.set()
                await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    await cleaning.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_a_timeout_the_task_is_not_cancelled_any_more() -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError), TimeLimit(0.0):
            await forever()
        assert cancellations() == 0
    async with asyncio.timeout(30):
        await asyncio.sleep(0)


async def test_the_inner_of_two_limits_ends_the_inner_block_only() -> None:
    with TimeLimit(30.0) as outer:
        with pytest.raises(TimeoutError), TimeLimit(0.0):
            await forever()
        await asyncio.sleep(0)
    assert not outer.expired


async def test_the_outer_of_two_limits_ends_both_blocks() -> None:
    inner = TimeLimit(30.0)
    with pytest.raises(TimeoutError), TimeLimit(0.01), inner:
        await forever()
    assert not inner.expired


async def test_a_limit_works_inside_a_timeout_of_asyncio() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.01):
            with TimeLimit(30.0):
                await forever()

    with pytest.raises(TimeoutError):
        await work()


async def test_a_block_that_swallows_its_end_is_no_timeout_but_known_to_have_expired() -> None:
    with TimeLimit(0.0) as limit, contextlib.suppress(asyncio.CancelledError):
        await forever()
    assert limit.expired
    assert cancellations() == 0


async def test_an_error_raised_at_the_end_of_time_is_the_error() -> None:
    async def work() -> None:
        try:
            await forever()
        finally:
            raise LookupError("while it was cleaning up")

    with pytest.raises(LookupError), TimeLimit(0.0):
        await work()


async def test_work_that_waits_for_nothing_is_done_without_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> None:
        raise AssertionError("a timer")

    async def three() -> int:
        return 3

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", none)
    assert await within(60.0, three()) == 3


async def test_work_that_waits_gives_its_result_or_its_error() -> None:
    async def added(number: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        if number < 0:
            raise ValueError("negative")
        return number + 1

    assert await within(60.0, added(1)) == 2
    with pytest.raises(ValueError, match="negative"):
        await within(60.0, added(-1))


async def test_work_that_takes_too_long_is_ended() -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("in order")

    with pytest.raises(TimeoutError):
        await within(0.0, endless())
    assert ended == ["in order"]


async def test_work_may_answer_its_cancellation() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    assert await within(0.0, stubborn()) == "done all the same"
    task = asyncio.ensure_future(within(60.0, stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "done all the same"
