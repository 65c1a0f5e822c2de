"""Many samples from an endpoint that gives only a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tutelage.runtime.types import ChatRequest, Completion, Usage


async def in_batches(
    sample: Callable[[ChatRequest, int | None], Awaitable[Completion]],
    request: ChatRequest,
    n: int,
    largest: int,
) -> Completion:
    """Draws ``n`` samples by calls of at most ``largest`` at once, and joins the answers.

    The usage is that of all calls, each of which bills the prompt; the id is that of the first.

    Args:
        sample: One call for a number of choices.
        request: The request.
        n: Choices in all.
        largest: Choices of one call.

    Raises:
        ModelError: A call failed; the others are cancelled.
    """
    sizes = [largest] * (n // largest) + [n % largest] * (n % largest > 0)
    calls = [asyncio.ensure_future(sample(request, size)) for size in sizes]
    try:
        parts = await asyncio.gather(*calls)
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    choices = [choice for part in parts for choice in part.choices]
    return parts[0].model_copy(
        update={
            "choices": [
                choice.model_copy(update={"index": index}) for index, choice in enumerate(choices)
            ],
            "usage": sum((part.usage for part in parts), Usage()),
        }
    )
