"""Who is served now: budgets and limits, reserved before a request and settled after it."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from tutelage.runtime.errors import KeysUnavailable, StoreError
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.meters import (
    Admit,
    Meters,
    Operation,
    Refusal,
    Settle,
    Standing,
    nanousd,
    whole_tokens,
)
from tutelage.runtime.store.transactions import Transactions

logger = logging.getLogger(__name__)

_AT_ONCE = 200
"""Operations in one transaction."""

_OWED = 10_000
_PAUSE_S = 1.0
"""After a failure the database is left alone so long: each try may block for seconds."""

Answer = Refusal | StoreError | None


class Reservation:
    """What is held back for one request until it ends; made by ``Admission.admit``.

    The first ``settle`` or ``release`` counts, later ones do nothing. Neither fails while the
    database is gone: what is owed is written when it is back.
    """

    def __init__(self, end: Callable[[int, int], asyncio.Future[Answer]] | None) -> None:
        self._end = end

    async def settle(self, cost_usd: float, tokens: int) -> None:
        """Books what the request has cost; a caller that is cancelled leaves it to be written.

        Args:
            cost_usd: All that was spent, also on answers that nobody saw.
            tokens: Prompt and answer together.

        Raises:
            ValueError: A number is negative or none.
        """
        await self._ended(nanousd(cost_usd), whole_tokens(tokens))

    async def release(self) -> None:
        """Gives back what was held: nothing was spent."""
        await self._ended(0, 0)

    async def _ended(self, spent_nanousd: int, tokens: int) -> None:
        end, self._end = self._end, None
        if end is not None:
            await asyncio.shield(end(spent_nanousd, tokens))


class Admission:
    """Counts requests of limited callers in the database; unlimited ones never touch it.

    Requests that come together share a transaction. All database work runs in one thread.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        clock: Unix seconds.
        ticks: Seconds from any origin that never go back.
        reservation_s: After how long the reservation of a worker that died lapses; longer than
            any request.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        reservation_s: float = 900.0,
    ) -> None:
        self._meters = Meters(Transactions(engine), clock=clock, reservation_s=reservation_s)
        self._ticks = ticks
        self._waiting: deque[tuple[Operation, asyncio.Future[Answer]]] = deque()
        self._owed: deque[Settle] = deque(maxlen=_OWED)
        self._runner: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._retry_at_s = float("-inf")
        self._is_down = self._is_closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tutelage-admission")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Writes what is owed, and ends the thread."""
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
        while self._runner is not None and not self._runner.done():
            await self._runner
        if self._owed:
            await self._work()
        if self._owed:
            logger.error("%d requests are not booked: the database is gone", len(self._owed))
        await asyncio.to_thread(self._thread.shutdown)

    @property
    def owed(self) -> int:
        """Requests that have ended and wait for the database to be booked."""
        return len(self._owed)

    async def admit(
        self, caller: Caller, *, estimate_usd: float, estimate_tokens: int
    ) -> Reservation:
        """Holds back what a request may cost, and counts it.

        No budget is overshot as long as no request costs more than its estimate.

        Args:
            caller: Whose request it is.
            estimate_usd: What it may cost at most.
            estimate_tokens: Prompt and answer together, at most.

        Raises:
            OverLimit: A rate limit is reached.
            OverBudget: What is left of the budget does not cover the estimate.
            KeysUnavailable: The database cannot count it now.
            ValueError: An estimate is negative or no number.
        """
        reserved_nanousd, reserved_tokens = nanousd(estimate_usd), whole_tokens(estimate_tokens)
        if not caller.is_limited:
            return Reservation(None)
        if self._is_closed or self._ticks() < self._retry_at_s:
            raise _unavailable()
        id = uuid.uuid4().hex

        def end(spent_nanousd: int, tokens: int) -> asyncio.Future[Answer]:
            return self._submit(Settle(id, caller, spent_nanousd, tokens))

        asked = self._submit(Admit(id, caller, reserved_nanousd, reserved_tokens))
        try:
            answer = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(lambda done: None if done.result() else end(0, 0))
            raise
        if isinstance(answer, StoreError):
            raise _unavailable() from answer
        if answer is not None:
            raise answer
        return Reservation(end)

    async def explain(self, caller: Caller) -> Standing:
        """What the key has spent, reserved and left, and when its budget renews.

        Raises:
            StoreError: The database cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._meters.standing, caller)

    def _submit(self, operation: Operation) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        self._start()
        return future

    def _start(self) -> None:
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._work(), name="tutelage-admission")

    async def _work(self) -> None:
        while self._waiting or self._owed:
            if not await self._transact():
                return

    async def _transact(self) -> bool:
        """Does what waits in one transaction; whether the database took it."""
        owed = list(self._owed)[:_AT_ONCE]
        batch = [
            self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE - len(owed)))
        ]
        operations: list[Operation] = [*owed, *(operation for operation, _ in batch)]
        stopped: Answer = StoreError("the counting of limits was stopped")
        answers: Sequence[Answer] = [stopped] * len(operations)
        try:
            answers = await self._apply(operations)
        except StoreError as error:
            batch += self._waiting
            self._waiting.clear()
            self._mark_down(error)
            answers = [error] * (len(owed) + len(batch))
            self._owed.extend(one for one, _ in batch if isinstance(one, Settle))
            return False
        else:
            self._is_down = False
            for _ in owed:
                self._owed.popleft()
            return True
        finally:
            for (_, future), answer in zip(batch, answers[len(owed) :], strict=True):
                future.set_result(answer)

    async def _apply(self, operations: Sequence[Operation]) -> list[Refusal | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._meters.apply, operations)

    def _mark_down(self, error: StoreError) -> None:
        if not self._is_down:
            logger.error("limits of keys cannot be counted: %s", error)
        self._is_down = True
        self._retry_at_s = self._ticks() + _PAUSE_S
        if not self._is_closed:
            self._retry = asyncio.get_running_loop().call_later(_PAUSE_S, self._start)


def _unavailable() -> KeysUnavailable:
    return KeysUnavailable("the limits of this key cannot be counted now: try again in a moment")
