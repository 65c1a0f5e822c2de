"""The event of a relayed stream that can carry what we know when all is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tutelage.runtime.gateway.splicing import is_usage_only, written
from tutelage.runtime.models.sse import Event
from tutelage.runtime.wires.protocol import WireName


class LastEvent:
    """Holds back the event that ends an answer until it is known which one it is.

    That is the last chunk of a chat completion that ends a choice or tells the usage, the
    ``message_delta`` of a message with its stop reason, and the end of a response.

    Args:
        wire: The API of the stream.
    """

    def __init__(self, wire: WireName) -> None:
        self._wire = wire
        self._held: list[bytes] = []
        """An event and what follows it, as the client gets them."""
        self._event: tuple[Event, bytes] | None = None

    def feed(self, event: Event, data: bytes, chunks: Sequence[Mapping[str, Any]]) -> bytes:
        """What may be passed on now.

        Args:
            event: The event.
            data: Its data as the client gets it.
            chunks: The chat chunks that it amounts to.
        """
        if any(map(self._carries, chunks)):
            passed = self._release()
            self._event = event, data
            return passed
        if self._event is None:
            return written(event, data)
        if any(chunk.get("choices") for chunk in chunks):
            return self._release() + written(event, data)
        self._held.append(written(event, data))
        return b""

    def end(self, facts: Mapping[str, Any]) -> bytes:
        """What was held back, with our facts in it.

        Args:
            facts: What stands in the field ``tutelage`` of the event.
        """
        if self._event is not None and facts:
            event, data = self._event
            told = orjson.loads(data)
            holder = told.get("response") if self._wire == "responses" else told
            if isinstance(holder, dict):
                holder["tutelage"] = dict(facts)
            self._event = event, orjson.dumps(told)
        return self._release()

    def _carries(self, chunk: Mapping[str, Any]) -> bool:
        ends = any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
        return ends or (self._wire == "chat" and is_usage_only(chunk))

    def _release(self) -> bytes:
        held, self._held = self._held, []
        event, self._event = self._event, None
        return (written(*event) if event else b"") + b"".join(held)
