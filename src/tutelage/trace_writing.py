"""The process beside a gateway that writes down what the gateway only passed on."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tutelage.runtime.config import Config

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tutelage.runtime.pricing import Price

Prices = Mapping[str, "Price | None"]

_ENTRY = "from tutelage.trace_writing import write; write({descriptor})"
# Answers come first; what waits here is bounded, and then answers wait.
_NICER = 5


def start(config: Config, prices: Prices, sock: socket.socket) -> subprocess.Popen[bytes]:
    """Starts the process; blocking.

    Args:
        config: Of the gateway.
        prices: Of upstreams that have their own, by name.
        sock: Its end of the connection; the caller closes its own copy.

    Raises:
        OSError: It cannot be started.
    """
    descriptor = sock.fileno()
    process = subprocess.Popen(
        [sys.executable, "-c", _ENTRY.format(descriptor=descriptor)],
        stdin=subprocess.PIPE,
        pass_fds=[descriptor],
    )
    assert process.stdin is not None
    with process.stdin as told:
        told.write(pickle.dumps((config, dict(prices))))
    return process


def write(descriptor: int) -> None:
    """Writes traces until the gateway at the other end hangs up; the body of the process."""
    import uvloop

    from tutelage.serve_process import log_to_stderr

    # A terminal or a service manager tells all processes to end; this one ends last.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config, prices = pickle.loads(sys.stdin.buffer.read())
    log_to_stderr()
    os.nice(_NICER)
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_write(config, prices, sock))


async def _write(config: Config, prices: Prices, sock: socket.socket) -> None:
    from tutelage.assembly import ledger, open_assembly
    from tutelage.runtime.gateway.app import WIRES
    from tutelage.runtime.gateway.conversation_store import SqlConversationStore
    from tutelage.runtime.gateway.conversations import Conversations
    from tutelage.runtime.gateway.dictation import Dictation
    from tutelage.runtime.gateway.relayed_traces import RelayedTraces
    from tutelage.serve_process import spare_the_collector

    async with AsyncExitStack() as stack:
        assembly = await stack.enter_async_context(open_assembly(config, open_bank=False))
        store = None
        if is_shared(config, assembly.engine):
            store = SqlConversationStore(assembly.engine, clock=time.time)
            stack.push_async_callback(store.aclose)
        traces = RelayedTraces(
            assembly.traces,
            ledger=ledger(config),
            prices=prices,
            wires=WIRES,
            conversations=Conversations(store=store),
            count_tokens=assembly.count_tokens,
        )
        spare_the_collector()
        await Dictation(traces, sock).take()
        await traces.finish()


def is_shared(config: Config, engine: Engine) -> bool:
    """Whether several processes or machines remember conversations together."""
    return config.gateway.workers > 1 or engine.dialect.name != "sqlite"
