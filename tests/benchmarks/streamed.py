"""What a model streams, as text."""

from __future__ import annotations

from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest


async def streamed(model: Model, request: ChatRequest) -> str:
    """The pieces of a model's stream together."""
    parts = [
        chunk["choices"][0]["delta"].get("content") or ""
        async for chunk in model.stream(request)
        if chunk["choices"]
    ]
    return "".join(parts)
