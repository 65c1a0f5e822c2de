"""Hands a relayed call over to the process that writes its trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tutelage.runtime.deliberation import line
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.exchange import Exchange
from tutelage.runtime.gateway.pass_through import Heard
from tutelage.runtime.gateway.received_call import ReceivedCall
from tutelage.runtime.gateway.relayed import Note, Relayed, brief_trace
from tutelage.runtime.gateway.scribe import Scribe
from tutelage.runtime.gateway.sessions import session_of
from tutelage.runtime.gateway.spending import Spending
from tutelage.runtime.types import Trace, Usage
from tutelage.runtime.wires.protocol import Wire


class HandedOver:
    """A call whose trace another process makes.

    Args:
        call: What that process is told.
        model: That the client asked for.
    """

    __slots__ = ("call", "model", "tell", "trace")

    def __init__(self, call: Relayed, model: str) -> None:
        self.call = call
        self.model = model
        self.trace: Trace | None = None
        """In brief, when it is written."""
        self.tell: Callable[[], object] | None = None
        """Called when that is known."""

    def noted(self, note: Note | None) -> None:
        """Takes what the trace says; ``None``: there is none."""
        if note is not None:
            self.trace = brief_trace(self.call, note, self.model)
        if self.tell is not None:
            self.tell()


def hand_over(
    scribe: Scribe,
    id: str,
    wire: Wire,
    caller: Caller,
    call: ReceivedCall,
    exchange: Exchange,
    spent: Spending,
    heard: Heard,
    teacher_s: float,
    *,
    clock: Callable[[], float],
    timer: Callable[[], float],
) -> HandedOver | None:
    """Has a trace written of a call that has been answered; ``None``: too many wait.

    Args:
        scribe: Who has it written.
        id: Of the decision.
        wire: The API it is made in.
        caller: Who made it.
        call: As it was received.
        exchange: Its headers, and when it began.
        spent: Its money.
        heard: The answer.
        teacher_s: Seconds that were spent waiting for upstreams.
        clock: Unix time, seconds.
        timer: The clock by which the exchange began, seconds.
    """
    usage, error = heard.usage, heard.error
    told = Relayed(
        id,
        wire.name,
        caller.tenant,
        caller.key_id,
        call.options.no_train or not caller.writer,
        session_of(exchange.raw_headers, call.body, caller.tenant),
        call.raw,
        heard.message,
        None if usage is None else _told_usage(usage),
        spent.is_estimated,
        spent.asked.name,
        None if error is None else _told_error(error),
        clock(),
        teacher_s,
        timer() - exchange.started_s,
    )
    handed = HandedOver(told, str(call.body["model"]))
    return handed if scribe.post(told, handed.noted) else None


def _told_usage(usage: Usage) -> tuple[int, int, int, int]:
    """A usage as a call tells it."""
    return (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
    )


def _told_error(error: BaseException) -> str:
    """Why an answer broke off, as a trace says it."""
    if isinstance(error, TutelageError):
        return line(error)
    if isinstance(error, asyncio.CancelledError):
        return "cancelled: the caller left before the answer was complete"
    # Its text may quote the request, and is not for clients.
    return type(error).__name__
