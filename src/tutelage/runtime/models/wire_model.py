"""A model at an endpoint that speaks any wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from types import TracebackType
from typing import Any, Self

import orjson

from tutelage.runtime.errors import BadRequest, BadResponse, ConfigError
from tutelage.runtime.models.fields import only_public
from tutelage.runtime.models.output_limit import OutputLimit, usual_limit, with_limit
from tutelage.runtime.models.sampling import in_batches
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.models.transport import Transport
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.protocol import Wire


class WireModel:
    """A chat model at an endpoint, spoken to in one wire.

    Args:
        transport: The endpoint.
        wire: The API it speaks.
        model: The endpoint's own name of the model; takes the place of the alias in a request.
            ``None``: the alias is the name.
        max_n: Largest ``n`` of one call; more samples are drawn by several calls at once. Absent:
            1, unless the wire is ``chat``, which takes any.
        extra_body: Fields set in every call, over those of the request.
        allowed_fields: The fields of a request that are passed on; absent: all.
        output_limit: The field that limits an answer, wire ``chat`` only; absent: OpenAI's own at
            its addresses, elsewhere the one that the request has.

    Raises:
        ConfigError: ``model`` or ``max_n`` is not usable.
    """

    def __init__(
        self,
        transport: Transport,
        wire: Wire,
        model: str | None,
        *,
        max_n: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        allowed_fields: Collection[str] | None = None,
        output_limit: OutputLimit | None = None,
    ) -> None:
        self.transport = transport
        self.wire = wire
        self.model = None if model is None else model.strip()
        if self.model == "":
            raise ConfigError("model = '': give the endpoint's own name of the model")
        if max_n is not None and max_n < 1:
            raise ConfigError(f"max_n = {max_n}: give 1 or more, or leave it out")
        self._max_n = 1 if max_n is None and wire.name != "chat" else max_n
        self._extra_body = dict(extra_body or {})
        self._allowed_fields = allowed_fields
        usual = usual_limit(transport.base_url)
        self._output_limit = (output_limit or usual) if wire.name == "chat" else None

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices for one prompt, by several calls where the wire has no ``n``.

        Raises:
            BadRequest: The request cannot be written in this wire.
            ModelError: The endpoint failed.
        """
        wanted = n if n > 1 else request.n or 1
        if self._max_n is not None and wanted > self._max_n:
            return await in_batches(self._sample, request, wanted, self._max_n)
        return await self._sample(request, wanted if wanted > 1 else request.n)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of a streamed answer.

        Raises:
            BadRequest: The request cannot be written in this wire.
            ModelError: The endpoint failed, or its stream broke off before it was complete.
        """
        reply = await self.transport.open(self.wire.path, self._body(request, stream=True))
        try:
            parser, decoder = EventParser(), self.wire.decoder()
            while piece := await reply.piece():
                for event in parser.feed(piece):
                    try:
                        chunks = decoder.feed(event)
                    except BadResponse as error:
                        raise reply.named(error) from error
                    for chunk in chunks:
                        yield chunk
                    if decoder.done:
                        await reply.drain()
                        return
            raise reply.broken("ended its stream before the answer was complete")
        finally:
            reply.close()

    async def aclose(self) -> None:
        """Closes this loop's connections; the model may be used again and then opens new ones."""
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"WireModel({self.transport.base_url!r}, {self.wire.name!r}, {self.model!r})"

    async def _sample(self, request: ChatRequest, n: int | None) -> Completion:
        sampled = request.model_copy(update={"n": n}) if n != request.n else request
        reply = await self.transport.open(self.wire.path, self._body(sampled, stream=False))
        content = await reply.read()
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise reply.broken("sent something other than JSON, or part of it") from error
        if not isinstance(body, dict):
            raise reply.broken("sent JSON that is no object")
        try:
            return self.wire.completion(body)
        except BadResponse as error:
            raise reply.named(error) from error

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        if self._allowed_fields is not None:
            request = ChatRequest.model_validate(only_public(request.wire(), self._allowed_fields))
        model = self.model or request.model
        asked = self.wire.body(request, model, stream=stream)
        body = {**with_limit(asked, self._output_limit), **self._extra_body}
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise BadRequest(f"the request cannot be written as JSON: {error}") from error
