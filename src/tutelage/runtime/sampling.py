"""The samples of one step: in one call, one by one, or in a race."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Choice, Completion, SamplePlan, Usage

IsSettled = Callable[[Sequence[Choice]], bool]
"""Whether no further sample can change what the samples say."""


@dataclass(frozen=True, slots=True)
class _Call:
    samples: int
    temperature: float | None


class Drawing:
    """Draws the samples of a plan, and stops when the rest cannot matter.

    What was drawn before a failure or a deadline is kept, as it has been paid for.

    Source: early stopping of self-consistency (arXiv 2401.10480), where the rule that counts the
    votes says itself when it is settled.

    Args:
        student: The model.
        prompt: What it is asked.
        plan: How many samples, how hot, and in which way.
        is_settled: The stopping rule; asked after each call that is not the last.
    """

    def __init__(
        self, student: Model, prompt: ChatRequest, plan: SamplePlan, is_settled: IsSettled
    ) -> None:
        self._student = student
        self._prompt = prompt.model_copy(update={"stream": None})
        self._calls = _calls(plan)
        self._in_turn = plan.draw == "sequential"
        self._is_settled = is_settled
        self._parts: dict[int, Completion] = {}
        self._asked = 0

    @property
    def given_up(self) -> int:
        """Calls that were begun and have no answer: late, failed or no longer needed."""
        return self._asked - len(self._parts)

    @property
    def completion(self) -> Completion | None:
        """The samples so far as one completion, in the order of the plan; ``None``: none yet.

        Its usage is that of all answered calls, each of which bills the prompt; its id is that of
        the first.
        """
        parts = [self._parts[place] for place in sorted(self._parts)]
        if not parts:
            return None
        if len(parts) == 1:
            return parts[0]
        choices = [choice for part in parts for choice in part.choices]
        return parts[0].model_copy(
            update={
                "choices": [
                    choice.model_copy(update={"index": index})
                    for index, choice in enumerate(choices)
                ],
                "usage": sum((part.usage for part in parts), Usage()),
                "usage_details": {},
            }
        )

    async def run(self) -> None:
        """Draws until the plan is fulfilled or settled.

        Raises:
            ModelError: A call failed; the others are cancelled.
        """
        if self._in_turn or len(self._calls) == 1:
            for place in range(len(self._calls)):
                await self._ask(place)
                if self._stops():
                    return
            return
        waiting = {asyncio.ensure_future(self._ask(place)) for place in range(len(self._calls))}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for call in done:
                    call.result()
                if self._stops():
                    return
        finally:
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _ask(self, place: int) -> None:
        call = self._calls[place]
        prompt = self._prompt
        if call.temperature is not None:
            prompt = prompt.model_copy(update={"temperature": call.temperature})
        seed = (prompt.model_extra or {}).get("seed")
        if place and isinstance(seed, int):
            # With one seed in all calls every sample would be the same, and agree.
            prompt = prompt.model_copy(update={"seed": seed + place})
        self._asked += 1
        self._parts[place] = await self._student.complete(prompt, call.samples)

    def _stops(self) -> bool:
        if len(self._parts) == len(self._calls):
            return True
        # Without its first part, which may be the greedy one, an order of samples has no head.
        if 0 not in self._parts:
            return False
        drawn = self.completion
        return drawn is not None and self._is_settled(drawn.choices)


def _calls(plan: SamplePlan) -> list[_Call]:
    head = [_Call(1, 0.0)] if plan.greedy_first else []
    rest = plan.samples - len(head)
    if plan.draw == "together":
        return head + ([_Call(rest, plan.temperature)] if rest else [])
    return head + [_Call(1, plan.temperature)] * rest
