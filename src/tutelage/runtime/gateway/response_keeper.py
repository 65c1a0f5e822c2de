"""Keeps an answer of the Responses API, so that the client can go on from it by its id."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tutelage.runtime.errors import StoreError
from tutelage.runtime.gateway.stored_responses import StoredResponses
from tutelage.runtime.wires.responses_ids import is_ours
from tutelage.runtime.wires.responses_items import listed_items

logger = logging.getLogger(__name__)


class ResponseKeeper:
    """Keeps the answer to one call.

    Args:
        responses: Where.
        tenant: Whose.
        body: The call as the client made it.
    """

    def __init__(self, responses: StoredResponses, tenant: str, body: Mapping[str, Any]) -> None:
        self._responses = responses
        self._tenant = tenant
        self._body = body

    async def keep(self, answer: Mapping[str, Any] | None) -> None:
        """Keeps an answer object; one that cannot be kept fails nothing but what refers to it."""
        if answer is None:
            return
        try:
            previous = self._body.get("previous_response_id")
            await self._responses.put(
                self._tenant,
                answer,
                listed_items(self._body, str(answer["id"])),
                previous_id=previous if isinstance(previous, str) and is_ours(previous) else None,
            )
        except StoreError as error:
            logger.error("a response is not kept: %s", error)
