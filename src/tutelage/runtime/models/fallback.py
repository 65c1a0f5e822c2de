"""Several models in order: the first that answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from tutelage.runtime.errors import BadResponse, ConfigError, ContextTooLong, ModelError
from tutelage.runtime.models.failures import is_transient, log_line
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Completion

logger = logging.getLogger(__name__)

# Our key of one endpoint is wrong, blocked or out of credit: not the client's fault, and another
# endpoint has another key.
_OUR_FAULT = (401, 402, 403)


def is_for_another(error: ModelError, *, longer_context: bool = False) -> bool:
    """Whether another model may serve what this one failed to.

    Args:
        error: How the model failed.
        longer_context: Whether another model takes longer prompts.
    """
    if isinstance(error, ContextTooLong):
        return longer_context
    broken = isinstance(error, BadResponse)
    return is_transient(error) or broken or error.status in _OUR_FAULT


class FallbackModel:
    """Asks the first model, and the next one only when that fails before its first chunk.

    A request that a model refuses is the client's mistake and goes no further.

    Args:
        models: In the order in which they are asked.
        longer_context: Whether a prompt too long for one model is tried with the next.
        names: What the log calls the models; absent: their ``repr``.

    Raises:
        ConfigError: There is no model, or not one name for each.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        longer_context: bool = False,
        names: Sequence[str] | None = None,
    ) -> None:
        if not models:
            raise ConfigError("upstreams = []: name at least one")
        self._models = tuple(models)
        self._longer_context = longer_context
        self._names = tuple(map(repr, models)) if names is None else tuple(names)
        if len(self._names) != len(self._models):
            raise ConfigError(f"{len(self._names)} names for {len(self._models)} models")

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """Samples ``n`` choices of the first model that answers.

        Raises:
            ModelError: The last model that was asked failed.
        """
        tried: list[str] = []
        while True:
            model = self._models[len(tried)]
            try:
                completion = await model.complete(request, n)
            except ModelError as error:
                if not self._goes_on(tried, error):
                    raise
                continue
            self._tell(tried, answered=True)
            return completion

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """Yields the chunks of the first model that streams one.

        Raises:
            ModelError: The last model that was asked failed, or one failed after its first chunk.
        """
        tried: list[str] = []
        while True:
            chunks = self._models[len(tried)].stream(request)
            try:
                try:
                    first = await _first(chunks)
                except ModelError as error:
                    if not self._goes_on(tried, error):
                        raise
                    continue
                self._tell(tried, answered=True)
                yield first
                async for chunk in chunks:
                    yield chunk
                return
            finally:
                await chunks.aclose()

    def __repr__(self) -> str:
        return f"FallbackModel({', '.join(self._names)})"

    def _goes_on(self, tried: list[str], error: ModelError) -> bool:
        """Whether the next model is to be asked; adds the failure to what was tried."""
        logger.debug("a model failed: %s", error)
        tried.append(f"{self._names[len(tried)]} failed ({log_line(error)})")
        is_last = len(tried) == len(self._models)
        if not is_last and is_for_another(error, longer_context=self._longer_context):
            return True
        self._tell(tried, answered=False)
        return False

    def _tell(self, tried: Sequence[str], *, answered: bool) -> None:
        """One line, unless the first model answered or refused the request."""
        if answered and tried:
            logger.warning("%s; %s answered", "; ".join(tried), self._names[len(tried)])
        elif len(tried) > 1:
            logger.warning("%s; nobody else is asked", "; ".join(tried))


async def _first(chunks: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await anext(chunks)
    except StopAsyncIteration:
        raise BadResponse("a model ended its stream before the first chunk") from None
