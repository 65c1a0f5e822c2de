"""Answers with a verifier's opinion of them: self-verification and judge escalation."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.chunks import chunks
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message

QUESTION = (
    "Proposed next action: {action}\nIs this the right next action for the task? Answer yes or no."
)
_YES = re.compile(r"^\W*(?:yes|correct|right|true)\b", re.IGNORECASE)
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class VerifyingModel:
    """Draws one greedy answer and asks a verifier several times whether it is right.

    The share of its "yes" becomes the answer's log-probability, so that a threshold on
    ``logprob_mean`` decides. The verifier's tokens are the answer's tokens: they are paid for.

    Source: self-verification as in AutoMix (arXiv 2310.12963) where the verifier is the student
    itself; a judge's escalation where it is another model.

    Args:
        model: Who answers.
        verifier: Who is asked.
        votes: How often.
        temperature: At which temperature it is asked.
    """

    model: Model
    verifier: Model
    votes: int = 4
    temperature: float = 0.7

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` equal choices: the greedy answer with the verifier's share of yes.

        Raises:
            ModelError: Either model failed.
        """
        answer = await self.model.complete(request.model_copy(update={"temperature": 0.0}))
        action = answer.choices[0].message.text
        asked = Message(role="user", content=QUESTION.format(action=action))
        question = request.model_copy(
            update={
                "messages": [*request.messages, asked],
                "temperature": self.temperature,
                "max_tokens": 4,
                "tools": None,
            }
        )
        opinions = await self.verifier.complete(question, self.votes)
        agreed = sum(_YES.match(one.message.text) is not None for one in opinions.choices)
        share = agreed / len(opinions.choices)
        return answer.model_copy(
            update={
                "choices": [_told(answer.choices[0], share, place) for place in range(n)],
                "usage": answer.usage + opinions.usage,
            }
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The greedy answer as chunks."""
        for chunk in chunks(await self.complete(request), usage=False):
            yield chunk


def _told(choice: Choice, share: float, place: int) -> Choice:
    logprob = math.log(max(share, _LEAST))
    told = {"content": [{"token": choice.message.text, "logprob": logprob}]}
    return choice.model_copy(update={"index": place, "logprobs": told})
