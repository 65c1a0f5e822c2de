"""A control without a language model: the vote of the retrieved actions."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.protocols import Retriever
from tutelage.runtime.steps import read_step
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Retrieved


@dataclass(frozen=True, slots=True)
class RecallModel:
    """Answers with the action that most of the first retrieved demonstrations show; zero tokens.

    Beside a student it tells imitation from understanding: what it scores, copying scores. Give
    it the plain request, without demonstrations. ``dataclasses.replace`` makes one for an episode.
    """

    retriever: Retriever
    tenant: str
    votes: int = 3
    """Demonstrations that vote, from the best on; of equal counts the better ranked action wins."""
    episode_id: str = "recall"
    goal: str | None = None
    """The goal, where the request does not say it."""
    task_id: str | None = None
    """Task whose own demonstrations must not be used."""

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` equal choices; their text is empty if nothing was found.

        Raises:
            RetrievalError: The bank cannot be searched.
        """
        step = read_step(
            request,
            tenant=self.tenant,
            episode_id=self.episode_id,
            goal=self.goal,
            task_id=self.task_id,
        )
        text = majority_action((await self.retriever.search(step))[: self.votes])
        message = Message(role="assistant", content=text)
        return Completion(
            id=f"recall-{step.episode_id}-{step.index}",
            model=request.model,
            choices=[Choice(index=i, message=message, finish_reason="stop") for i in range(n)],
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The answer as one chunk with its text and one that ends it."""
        completion = await self.complete(request)
        head = {
            "id": completion.id,
            "object": "chat.completion.chunk",
            "created": completion.created,
            "model": completion.model,
        }
        delta = {"role": "assistant", "content": completion.text}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def majority_action(retrieved: Sequence[Retrieved]) -> str:
    """The most frequent action, compared without case and spacing; empty if there is none."""
    actions = [found.demonstration.action for found in retrieved]
    keys = [" ".join(action.casefold().split()) for action in actions]
    if not keys:
        return ""
    # Counter keeps the order of first appearance among equals, which is the ranking.
    return actions[keys.index(Counter(keys).most_common(1)[0][0])]
