"""Definitions of tools beside the traces that name them, each set stored once a tenant."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select

from tutelage.runtime.errors import StoreError
from tutelage.runtime.offered_tools import encoded_tools
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import Encoded
from tutelage.runtime.store.spool import Record
from tutelage.runtime.store.writer import Settle
from tutelage.runtime.types import Trace

_AT_ONCE = 500
"""Hashes in one query."""


class KeptTools:
    """Remembers which definitions a database has, so that each is written once.

    Args:
        capacity: Sets that are remembered; one that was forgotten is written again, for nothing.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[str, str], None] = OrderedDict()

    def missing(self, trace: Trace) -> Record | None:
        """What is to be written before a trace; ``None``: nothing."""
        if trace.tools_sha256 is None or not trace.tools:
            return None
        key = (trace.tenant, trace.tools_sha256)
        if key in self._kept:
            self._kept.move_to_end(key)
            return None
        row = {"tenant": trace.tenant, "sha256": trace.tools_sha256}
        return Record("tools", {**row, "tools": encoded_tools(trace.tools)})

    def add(self, trace: Trace) -> None:
        """Takes note that the tools of a trace are durable."""
        self._kept[trace.tenant, str(trace.tools_sha256)] = None
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)

    def settle(self, trace: Trace) -> Settle:
        """Hears whether the tools of a trace are durable."""

        def settled(outcome: StoreError | None) -> None:
            if outcome is None:
                self.add(trace)

        return settled


def tools_row(record: Record) -> dict[str, Any]:
    """The row of a record of kind ``tools``."""
    body = record.body
    return {
        "tenant": body["tenant"],
        "sha256": body["sha256"],
        "tools": Encoded(body["tools"]),
    }


def tools_queries(traces: Sequence[Trace]) -> Iterator[Select[Any]]:
    """Reads the definitions that traces name: tenant, sha256, tools."""
    table = schema.tool_definitions
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for trace in traces:
        if trace.tools_sha256 is not None:
            wanted[trace.tenant].add(trace.tools_sha256)
    for tenant, hashes in sorted(wanted.items()):
        ordered = sorted(hashes)
        for start in range(0, len(ordered), _AT_ONCE):
            chunk = ordered[start : start + _AT_ONCE]
            yield select(table).where(table.c.tenant == tenant, table.c.sha256.in_(chunk))


def with_tools(trace: Trace, tools: Mapping[tuple[str, str], Any]) -> Trace:
    """A trace with its definitions, where they are stored."""
    found = tools.get((trace.tenant, trace.tools_sha256 or ""))
    return trace if found is None else trace.model_copy(update={"tools": tuple(found)})
