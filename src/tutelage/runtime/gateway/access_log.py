"""One line a request."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Final

from tutelage.runtime.gateway.outcome import Outcome

logger = logging.getLogger(__name__)

_LONGEST: Final = 128
_PLAIN = re.compile(r"[A-Za-z0-9._:@/+*-]+", re.ASCII)
_ERROR_NAME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,63})(:|$)", re.ASCII)


class AccessLog:
    """Writes how each request ended, at level INFO.

    Args:
        sink: Where the lines go.
    """

    def __init__(self, sink: logging.Logger = logger) -> None:
        self._sink = sink

    def write(self, outcome: Outcome) -> None:
        """One line for a request that has ended."""
        if self._sink.isEnabledFor(logging.INFO):
            self._sink.info("%s", access_line(outcome))


def access_line(outcome: Outcome) -> str:
    """A request as ``key=value`` pairs: one line of printable ASCII.

    It says who asked for what, how it ended, who served it, what it cost and how long it took; it
    holds nothing of prompts, answers, headers or of what an upstream wrote.
    """
    return " ".join(f"{name}={_shown(value)}" for name, value in _pairs(outcome))


def _pairs(outcome: Outcome) -> Iterator[tuple[str, object]]:
    yield "route", outcome.route
    yield "end", outcome.end
    yield "status", outcome.status
    yield "mode", outcome.mode or "-"
    yield "alias", outcome.alias or "-"
    yield "stream", int(outcome.streamed)
    yield "duration_s", outcome.duration_s
    yield "upstream_s", outcome.upstream_s
    yield "overhead_s", outcome.overhead_s
    if outcome.first_chunk_s is not None:
        yield "first_chunk_s", outcome.first_chunk_s
    yield "tenant", outcome.tenant or "-"
    yield "key", outcome.key_id or "-"
    trace = outcome.trace
    if trace is None:
        return
    yield "decision", trace.id
    yield "episode", trace.episode_id
    yield "step", trace.step_index
    yield "served", trace.decision.served
    yield "reason", trace.decision.reason.value
    yield "samples", len(trace.samples)
    if trace.agreement is not None:
        yield "agreement", trace.agreement
    yield "demos", len(trace.demonstrations)
    yield "cost_usd", f"{sum(trace.cost_usd.values()):.6f}"
    if trace.error is not None:
        # The rest of the text may quote an upstream, which may quote the prompt.
        named = _ERROR_NAME.match(trace.error)
        yield "error", named.group(1) if named else "Error"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)[:_LONGEST]
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.encode("ascii", "backslashreplace").decode("ascii")
    safe = "".join(c if 32 <= ord(c) < 127 else f"\\x{ord(c):02x}" for c in escaped)
    return '"' + safe.replace('"', "'") + '"'
