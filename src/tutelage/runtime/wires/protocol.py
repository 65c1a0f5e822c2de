"""What a wire can do: read a client's call and write its answer, and the same towards an upstream.

The chat shapes of ``runtime.types`` and the ``chat.completion.chunk`` objects of a stream stand
between any two wires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tutelage.runtime.models.sse import Event
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.failure import Failure

WireName = Literal["chat", "responses", "messages"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as a client made it, and the chat request that it amounts to."""

    body: Mapping[str, Any]
    """The decoded JSON, as it was sent."""
    request: ChatRequest
    stream: bool
    include_usage: bool = True
    """Whether the client's stream ends with the usage; only the chat wire lets it choose."""
    unsupported: str | None = None
    """The parameter that agreed samples cannot honour: the teacher takes the call."""
    native_only: str | None = None
    """What of the call only an upstream of the same wire understands, such as a hosted tool."""
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What the wire needs again when it writes the answer."""


class Encoder(Protocol):
    """Writes one streamed answer as server-sent events of its wire."""

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The events of one chat chunk; may be empty."""
        ...

    def finish(self, facts: Mapping[str, Any]) -> bytes:
        """The events that end the answer, with our own facts where the wire has room for them."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """The event by which this wire says that the answer broke off; nothing may follow it."""
        ...


class Decoder(Protocol):
    """Reads one upstream's streamed answer of its wire."""

    @property
    def done(self) -> bool:
        """Whether the stream has said that it is complete."""
        ...

    def feed(self, event: Event) -> list[dict[str, Any]]:
        """The chat chunks that an event amounts to; the usage is in the last one.

        Raises:
            BadResponse: The event is malformed, or says that the upstream failed.
        """
        ...


class Wire(Protocol):
    """One public API, in both directions. Holds no state."""

    name: WireName
    path: str
    """Below a ``base_url`` that ends with ``/v1``, for example ``/chat/completions``."""
    ping: bytes
    """A server-sent event that keeps a connection alive and means nothing."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        """The call in a client's body.

        Raises:
            BadRequest: The body is no call of this wire; ``param`` names the field.
        """
        ...

    def answer(self, completion: Completion, asked: Asked, facts: Mapping[str, Any]) -> Any:
        """The answer object for the client; ``facts`` stand in its field ``tutelage``."""
        ...

    def encoder(self, asked: Asked, answer_id: str, created_s: int) -> Encoder:
        """A writer for one streamed answer; ``created_s`` is Unix time."""
        ...

    def error(self, failure: Failure) -> dict[str, Any]:
        """The error object for the client."""
        ...

    def body(self, request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
        """The body that asks an upstream of this wire for a chat request."""
        ...

    def completion(self, body: Mapping[str, Any]) -> Completion:
        """The completion in an upstream's answer object.

        Raises:
            BadResponse: The object is no answer of this wire, or an empty one.
        """
        ...

    def decoder(self) -> Decoder:
        """A reader for one streamed answer of an upstream."""
        ...
