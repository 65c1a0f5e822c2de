"""The OpenAI chat completions API, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.chunks import NATIVE, NATIVE_PIECES, CallPositions
from tutelage.runtime.errors import BadResponse
from tutelage.runtime.models.answers import completion_from
from tutelage.runtime.models.failures import error_object
from tutelage.runtime.models.sse import Event
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat_body import chat_body
from tutelage.runtime.wires.chat_request import read_chat
from tutelage.runtime.wires.chat_shape import is_chunk, is_message
from tutelage.runtime.wires.events import mid_stream_failure, read_event, write_event
from tutelage.runtime.wires.failure import Failure, Kind
from tutelage.runtime.wires.native import native_of
from tutelage.runtime.wires.protocol import Asked, Decoder, Encoder, WireName

__all__ = ["CHAT", "ChatWire", "chat_error", "mid_stream_failure", "read_event"]

_TYPES: dict[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "quota": "insufficient_quota",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "upstream": "server_error",
    "internal": "server_error",
}
_CODES: dict[Kind, str] = {
    "authentication": "invalid_api_key",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_exceeded",
    "quota": "insufficient_quota",
}
_ENDPOINT = "the endpoint"
_DONE = b"[DONE]"


class ChatWire:
    """``/v1/chat/completions``."""

    name: WireName = "chat"
    path = "/chat/completions"
    ping = b": ping\n\n"

    def read(self, body: Mapping[str, Any]) -> Asked:
        """The call in a client's body.

        Raises:
            BadRequest: The body is no chat completion call; ``param`` names the field.
        """
        return read_chat(body)

    def answer(
        self, completion: Completion, asked: Asked, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The ``chat.completion`` object for the client."""
        body = completion.wire()
        body.setdefault("created", completion.created)
        for choice in body["choices"]:
            if choice.get("finish_reason") is None:
                choice["finish_reason"] = finish_reason(choice["message"])
        return {**body, "tutelage": dict(facts)} if facts else body

    def encoder(self, asked: Asked, answer_id: str, created_s: int) -> Encoder:
        """A writer of ``chat.completion.chunk`` objects that all carry ``answer_id``."""
        return ChatEncoder(asked, answer_id, created_s)

    def error(self, failure: Failure) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``, in the upstream's words if it sent any."""
        return chat_error(failure)

    def body(self, request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
        """The body for an OpenAI-compatible upstream; a stream is asked for its usage."""
        return chat_body(request, model, stream=stream)

    def completion(self, body: Mapping[str, Any]) -> Completion:
        """The completion in a ``chat.completion`` object.

        Raises:
            BadResponse: It is something else, or has no choices.
        """
        completion = completion_from(body, _ENDPOINT, "")
        if not all(is_message(choice["message"]) for choice in body["choices"]):
            raise BadResponse(f"{_ENDPOINT} answered 200 with a malformed message", status=200)
        return completion

    def decoder(self) -> Decoder:
        """A reader of ``chat.completion.chunk`` objects."""
        return ChatDecoder()


class ChatEncoder:
    """Writes chat chunks as server-sent events.

    A chunk that may be the last is held back, so that it can carry our facts.

    Args:
        asked: The call.
        answer_id: Stands in every chunk.
        created_s: Unix time.
    """

    def __init__(self, asked: Asked, answer_id: str, created_s: int) -> None:
        self._id = answer_id
        self._created_s = created_s
        self._head = {
            "id": answer_id,
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": asked.request.model,
        }
        self._include_usage = asked.include_usage
        self._held: dict[str, Any] | None = None

    def feed(self, chunk: Mapping[str, Any]) -> bytes:
        """The event of one chunk, or nothing; a usage that was not asked for is left out."""
        choices = chunk.get("choices") or []
        written = {**self._head, **chunk, "id": self._id, "created": self._created_s}
        may_be_last = not choices
        for choice in choices:
            if choice.get("finish_reason"):
                may_be_last = True
            if NATIVE in (choice.get("delta") or ()):
                written["choices"] = [left for one in choices if (left := _without_pieces(one))]
        if choices and not written["choices"]:
            return b""
        if not self._include_usage and "usage" in written:
            if not choices:
                return b""
            del written["usage"]
        held, self._held = self._held, None
        before = write_event(held) if held is not None else b""
        if may_be_last:
            self._held = written
            return before
        return before + write_event(written)

    def finish(self, facts: Mapping[str, Any]) -> bytes:
        """The last chunk, with ``facts`` in its field ``tutelage``, and ``[DONE]``."""
        last, self._held = self._held, None
        if last is None and facts:
            last = {**self._head, "choices": []}
        if last is None:
            return b"data: [DONE]\n\n"
        if facts:
            last["tutelage"] = dict(facts)
        return write_event(last) + b"data: [DONE]\n\n"

    def fail(self, failure: Failure) -> bytes:
        """An event with the error; a chunk that was held back is dropped."""
        self._held = None
        return write_event(chat_error(failure))


class ChatDecoder:
    """Reads the events of a streamed chat completion."""

    def __init__(self) -> None:
        self._done = False
        self._positions: dict[int, CallPositions] = {}

    @property
    def done(self) -> bool:
        """Whether ``[DONE]`` has arrived."""
        return self._done

    def feed(self, event: Event) -> list[dict[str, Any]]:
        """The chunk of an event.

        Raises:
            BadResponse: The event is no chunk, or says that the upstream failed.
        """
        if self._done:
            return []
        if event.data.startswith(_DONE):
            self._done = True
            return []
        chunk = read_event(event)
        if chunk.get("error"):
            raise mid_stream_failure(chunk)
        if not is_chunk(chunk):
            raise BadResponse(f"{_ENDPOINT} sent a stream event that is no chat completion chunk")
        for choice in chunk.get("choices") or ():
            for fragment in (choice.get("delta") or {}).get("tool_calls") or ():
                positions = self._positions.setdefault(choice.get("index") or 0, CallPositions())
                fragment["index"] = positions.of(fragment)
        return [chunk]


def chat_error(failure: Failure) -> dict[str, Any]:
    """The error object of the OpenAI APIs."""
    error: dict[str, Any] = {
        "message": failure.message,
        "type": _TYPES[failure.kind],
        "param": failure.param,
        "code": failure.code or _CODES.get(failure.kind),
    }
    theirs = error_object(failure.body)
    if theirs and isinstance(theirs.get("message"), str):
        error.update({name: value for name, value in theirs.items() if value is not None})
    return {"error": error}


def finish_reason(message: Mapping[str, Any]) -> str:
    """Why an answer ended, for an upstream that did not say it."""
    return "tool_calls" if message.get("tool_calls") else "stop"


def _without_pieces(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The choice as a chat client is told of it; empty if nothing is left."""
    delta = choice.get("delta")
    if not delta or NATIVE not in delta:
        return choice
    left = {name: value for name, value in delta.items() if name != NATIVE}
    kept = {n: value for n, value in native_of(delta).items() if n not in NATIVE_PIECES}
    if kept:
        left[NATIVE] = kept
    if not left and not choice.get("finish_reason"):
        return {}
    return {**choice, "delta": left}


CHAT = ChatWire()
