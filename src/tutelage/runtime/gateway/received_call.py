"""A call of a chat wire as it came in, before it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tutelage.runtime.config import LimitConfig
from tutelage.runtime.errors import BadRequest
from tutelage.runtime.gateway.alias import Alias
from tutelage.runtime.gateway.call_options import CallOptions, read_options
from tutelage.runtime.gateway.limits import check_depth, check_shape
from tutelage.runtime.gateway.splicing import without_previous
from tutelage.runtime.gateway.stored_responses import StoredResponses
from tutelage.runtime.models.fields import reject_routing_fields
from tutelage.runtime.types import Mode
from tutelage.runtime.wires.fields import check_switch
from tutelage.runtime.wires.protocol import Wire
from tutelage.runtime.wires.responses_ids import is_ours
from tutelage.runtime.wires.responses_items import continued


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """What is known of a call whose body is within the limits."""

    raw: bytes
    """The client's bytes; of a call that goes on from a response kept here, all of its items."""
    body: dict[str, Any]
    """The same, decoded; a ``previous_response_id`` still stands in it."""
    asked: dict[str, Any]
    """The client's own body, without what it goes on from."""
    alias: Alias
    options: CallOptions
    mode: Mode
    stream: bool
    previous_id: str | None = None
    """The response kept here that the call goes on from."""

    @property
    def relayed_body(self) -> dict[str, Any]:
        """The decoded form of ``raw``."""
        return self.body if self.previous_id is None else without_previous(self.body)


async def receive(
    raw: bytes,
    body: dict[str, Any],
    alias: Alias,
    headers: Mapping[str, str],
    *,
    wire: Wire,
    responses: StoredResponses,
    tenant: str,
) -> ReceivedCall:
    """Reads a call as far as it decides who serves it, and how it is answered.

    Args:
        raw: The body.
        body: The same, decoded.
        alias: What it asks for.
        headers: Of the client, by lower-case name.
        wire: The API it is made in.
        responses: Those kept here.
        tenant: Whose call it is.

    Raises:
        BadRequest: A header or a field has no such value, or there is no such response.
    """
    options = read_options(headers, alias.mode)
    borne = options.max_risk
    if borne is not None and (alias.risk is None or alias.risk.alpha > borne):
        options = replace(options, force="teacher")
    # Read here also where the upstream judges the rest: how we answer depends on it.
    stream = body.get("stream")
    is_stream = stream is not None and check_switch(stream, "stream")
    asked = body
    previous = body.get("previous_response_id")
    previous_id = None
    if wire.name == "responses" and isinstance(previous, str) and is_ours(previous):
        items = await responses.conversation(tenant, previous)
        previous_id = previous
        body = continued(body, items)
        raw = orjson.dumps(without_previous(body))
    mode = options.mode or alias.mode
    return ReceivedCall(raw, body, asked, alias, options, mode, is_stream, previous_id)


def read_body(raw: bytes, limits: LimitConfig) -> dict[str, Any]:
    """The object in a body.

    Raises:
        BadRequest: It is none, or names where it is to be sent.
        TooLarge: It is nested too deeply, or has too many messages, tools or tokens.
    """
    check_depth(raw, limits.depth)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    check_shape(body, limits)
    reject_routing_fields(body)
    found: dict[str, Any] = body
    return found
