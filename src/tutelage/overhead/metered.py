"""A model whose prompts are counted, and split as prompt caches would have split them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from tutelage.runtime.prefix_cache import CountedPart, PrefixCacheMeter
from tutelage.runtime.prompt import TOKENS_PER_MESSAGE
from tutelage.runtime.protocols import Model
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import ChatRequest, Completion, Usage


class MeteredModel:
    """Counts what calls of a model would have been billed under several prompt caches.

    Args:
        inner: The model.
        count_tokens: Tokens of a text, by the model's own tokenizer.
        caches: Shortest prefix in tokens that each cache keeps, by its name.
    """

    def __init__(
        self, inner: Model, count_tokens: Callable[[str], int], caches: Mapping[str, int]
    ) -> None:
        self._inner = inner
        self._count_tokens = count_tokens
        self._meters = {name: PrefixCacheMeter(least) for name, least in caches.items()}
        self.usage = {name: Usage() for name in caches}
        """Tokens of all calls so far, by cache."""
        self.told = Usage()
        """The same as the answers told them."""
        self.calls = 0

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """The model's own answer.

        Raises:
            ModelError: The model failed.
        """
        answer = await self._inner.complete(request, n)
        parts = [self._part(message.role, action_text(message)) for message in request.messages]
        if request.tools:
            parts.insert(0, self._part("tools", json.dumps(request.tools)))
        texts = [action_text(choice.message) for choice in answer.choices]
        output = Usage(output_tokens=sum(self._count_tokens(text) + 1 for text in texts))
        for name, meter in self._meters.items():
            self.usage[name] += meter.split(parts) + output
        self.told += answer.usage
        self.calls += 1
        return answer

    def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The model's own stream, which is not counted."""
        return self._inner.stream(request)

    def _part(self, role: str, text: str) -> CountedPart:
        digest = hashlib.sha256(f"{role}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()
        return CountedPart(digest, self._count_tokens(text) + TOKENS_PER_MESSAGE)
