"""The Anthropic Messages API, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.messages_answer import completion_of, message_of
from tutelage.runtime.wires.messages_body import messages_body
from tutelage.runtime.wires.messages_decoder import MessagesDecoder
from tutelage.runtime.wires.messages_encoder import MessagesEncoder
from tutelage.runtime.wires.messages_error import messages_error
from tutelage.runtime.wires.messages_request import read_messages, wants_thinking
from tutelage.runtime.wires.protocol import Asked, Decoder, Encoder, WireName

MAX_TOKENS = 8192


class MessagesWire:
    """``/v1/messages``.

    Args:
        max_tokens: The limit of an answer towards an upstream, where a request has none.
    """

    name: WireName = "messages"
    path = "/messages"
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._max_tokens = max_tokens

    def read(self, body: Mapping[str, Any]) -> Asked:
        """The call in a client's body.

        Raises:
            BadRequest: The body is no Messages call; ``param`` names the field.
        """
        return read_messages(body)

    def answer(
        self, completion: Completion, asked: Asked, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The ``message`` object for the client, from the first choice."""
        message = message_of(
            completion,
            sequences=asked.body.get("stop_sequences") or (),
            thinking=wants_thinking(asked.body),
        )
        return {**message, "tutelage": dict(facts)} if facts else message

    def encoder(self, asked: Asked, answer_id: str, created_s: int) -> Encoder:
        """A writer of the events from ``message_start`` to ``message_stop``."""
        return MessagesEncoder(asked, answer_id)

    def error(self, failure: Failure) -> dict[str, Any]:
        """The ``error`` object for the client, in the upstream's own words where it sent any."""
        return messages_error(failure)

    def body(self, request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
        """The body that asks an upstream.

        Raises:
            BadRequest: The Messages API has no word for part of the request.
        """
        return messages_body(request, model, stream=stream, max_tokens=self._max_tokens)

    def completion(self, body: Mapping[str, Any]) -> Completion:
        """The completion in a ``message`` object.

        Raises:
            BadResponse: It is something else, or empty.
        """
        return completion_of(body)

    def decoder(self) -> Decoder:
        """A reader of the events from ``message_start`` to ``message_stop``."""
        return MessagesDecoder()
