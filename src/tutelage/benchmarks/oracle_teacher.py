"""An oracle in the teacher's place: it acts by the world's knowledge and is billed as a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from tutelage.benchmarks.environment import Knowledge, OracleAction
from tutelage.runtime.chunks import chunks
from tutelage.runtime.prefix_cache import CountedPart, PrefixCacheMeter
from tutelage.runtime.steps import action_text, tool_calls
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage

KNOWLEDGE_FIELD = "knowledge"
"""Extra field of an oracle's completion: how it came to know its action."""


class AskedWorld(Protocol):
    """A world that can be asked what to do."""

    async def oracle(self) -> OracleAction:
        """The action to take now."""
        ...


class OracleTeacher:
    """Answers every request with what the world's oracle would do now; not an LLM.

    Usage is what a model in its place would have been billed: the whole transcript of the request,
    with the tools it offers, split as a provider's prompt cache would have split it, and the
    action. Tokens of a chat template are not counted. Use a new one for every episode.

    Args:
        world: The world that the episode is played in.
        count_tokens: Tokens of a text.
        meter: The prompt cache of this episode.
        name: What the answers name as their model.
    """

    def __init__(
        self,
        world: AskedWorld,
        *,
        count_tokens: Callable[[str], int],
        meter: PrefixCacheMeter,
        name: str = "oracle",
    ) -> None:
        self._world = world
        self._count_tokens = count_tokens
        self._meter = meter
        self._name = name
        self._tools: tuple[str, CountedPart] | None = None
        self.steps: dict[Knowledge, int] = {"expert": 0, "planner": 0}
        """Answers given so far, by how the oracle came to know them."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """The oracle's action as ``n`` equal choices.

        Raises:
            WorkerDied: The world ended early.
        """
        action = await self._world.oracle()
        self.steps[action.knowledge] += 1
        calls = tool_calls(action.text)
        message = Message(
            role="assistant", content=None if calls else action.text, tool_calls=calls or None
        )
        output = Usage(output_tokens=n * self._count_tokens(action.text))
        return Completion.model_validate(
            {
                "id": f"{self._name}-{sum(self.steps.values())}",
                "model": self._name,
                "choices": [
                    Choice(
                        index=index,
                        message=message,
                        finish_reason="tool_calls" if calls else "stop",
                    )
                    for index in range(n)
                ],
                "usage": self._meter.split(self._parts(request)) + output,
                KNOWLEDGE_FIELD: action.knowledge,
            }
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The oracle's action in chunks, with its usage in the last one.

        Raises:
            WorkerDied: The world ended early.
        """
        for chunk in chunks(await self.complete(request), usage=True):
            yield chunk

    def _parts(self, request: ChatRequest) -> list[CountedPart]:
        texts = [(message.role, action_text(message)) for message in request.messages]
        parts = [self._part(f"{role}\n{text}", text) for role, text in texts]
        return [self._offered(request.tools), *parts] if request.tools else parts

    def _offered(self, tools: list[dict[str, Any]]) -> CountedPart:
        """The tools, which are the same at every step and take long to count."""
        text = json.dumps(tools, separators=(",", ":"))
        if self._tools is None or self._tools[0] != text:
            self._tools = (text, self._part(text, text))
        return self._tools[1]

    def _part(self, identity: str, text: str) -> CountedPart:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return CountedPart(digest, self._count_tokens(text))
