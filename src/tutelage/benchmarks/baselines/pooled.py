"""Samples of several students in one vote."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Completion, Usage


@dataclass(frozen=True, slots=True)
class PooledModel:
    """Draws its samples from several different models in turn.

    Two models do not make the same mistake as easily as one model twice. Source: agreement-based
    cascades over ensembles (arXiv 2407.02348).

    Args:
        models: Who takes part; the first one speaks where only one sample is wanted.
    """

    models: Sequence[Model]

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` choices, those of the first model first; the usage is that of all.

        Raises:
            ModelError: One of the models failed.
        """
        sizes = [
            n // len(self.models) + (place < n % len(self.models))
            for place in range(len(self.models))
        ]
        parts = await asyncio.gather(
            *(
                model.complete(request, size)
                for model, size in zip(self.models, sizes, strict=True)
                if size
            )
        )
        choices = [choice for part in parts for choice in part.choices]
        return parts[0].model_copy(
            update={
                "choices": [
                    choice.model_copy(update={"index": index})
                    for index, choice in enumerate(choices)
                ],
                "usage": sum((part.usage for part in parts), Usage()),
            }
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The first model's stream."""
        async for chunk in self.models[0].stream(request):
            yield chunk
