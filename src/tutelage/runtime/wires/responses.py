"""The OpenAI Responses API, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import chat_error
from tutelage.runtime.wires.failure import Failure
from tutelage.runtime.wires.protocol import Asked, Decoder, Encoder, WireName
from tutelage.runtime.wires.responses_answer import answer_object
from tutelage.runtime.wires.responses_call import read_call
from tutelage.runtime.wires.responses_decoder import ResponsesDecoder
from tutelage.runtime.wires.responses_request import request_body
from tutelage.runtime.wires.responses_result import completion_of
from tutelage.runtime.wires.responses_stream import ResponsesEncoder


class ResponsesWire:
    """``/v1/responses``."""

    name: WireName = "responses"
    path = "/responses"
    ping = b": ping\n\n"

    def read(self, body: Mapping[str, Any]) -> Asked:
        """The call in a client's body.

        A ``previous_response_id`` of ours is taken for resolved: its items stand in ``input``.

        Raises:
            BadRequest: The body is no call; ``param`` names the field.
        """
        return read_call(body)

    def answer(
        self, completion: Completion, asked: Asked, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The response object for the client; its id follows from that of the completion."""
        return answer_object(completion, asked, facts)

    def encoder(self, asked: Asked, answer_id: str, created_s: int) -> Encoder:
        """A writer of the events of one response, whose id follows from ``answer_id``."""
        return ResponsesEncoder(asked, answer_id, created_s)

    def error(self, failure: Failure) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``, as in the chat completions API."""
        return chat_error(failure)

    def body(self, request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
        """The call for an upstream, which stores nothing.

        Raises:
            BadRequest: The API has no word for a field; ``param`` names it.
        """
        return request_body(request, model, stream=stream)

    def completion(self, body: Mapping[str, Any]) -> Completion:
        """The completion in a response object.

        Raises:
            BadResponse: It is no response, failed, has not ended, or holds nothing.
        """
        return completion_of(body)

    def decoder(self) -> Decoder:
        """A reader of the events of one streamed response."""
        return ResponsesDecoder()


RESPONSES = ResponsesWire()
