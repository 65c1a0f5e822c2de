"""One model call, made again while that is allowed and may help."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from random import Random
from typing import TypeVar

from tutelage.runtime.errors import ModelError, Unreachable
from tutelage.runtime.models.breaker import Breaker
from tutelage.runtime.models.deadlines import Deadlines
from tutelage.runtime.models.failures import is_transient
from tutelage.runtime.models.retries import Retries

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


async def attempted(
    call: Callable[[], Awaitable[Answer]],
    *,
    retries: Retries,
    deadlines: Deadlines,
    random: Random,
    sleep: Callable[[float], Awaitable[None]],
    breaker: Breaker | None = None,
) -> Answer:
    """Makes a call, and again after a failure that may pass.

    Args:
        call: Fails with a ``ModelError``, and never after part of an answer has been passed on.
        retries: How often and when.
        deadlines: No wait goes beyond their total.
        random: Source of the jitter.
        sleep: Waits between attempts.
        breaker: Is told how the attempts end, and may forbid them.

    Raises:
        ModelError: The last attempt failed, or none may be made.
    """
    failures = 0
    while True:
        try:
            with breaker.attempt() if breaker else nullcontext():
                return await call()
        except Unreachable:
            raise
        except ModelError as error:
            failures += 1
            if failures >= retries.attempts or not is_transient(error):
                raise
            if breaker and breaker.state == "open":
                raise
            asked_s = getattr(error, "retry_after_s", None)
            delay_s = retries.delay_s(failures, random, asked_s)
            if delay_s >= deadlines.remaining_s:
                raise
            logger.debug("attempt %d failed, next in %.2f s: %s", failures, delay_s, error)
        await sleep(delay_s)
