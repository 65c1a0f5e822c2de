"""What the teacher would cost in a step."""

from __future__ import annotations

from tutelage.runtime.errors import PriceUnknown
from tutelage.runtime.ledger import Ledger
from tutelage.runtime.types import Step, Usage

CHARACTERS_PER_TOKEN = 4
_FIRST_ANSWER_TOKENS = 40
LEAST_CACHED_TOKENS = 1024
"""Shortest prompt that the large providers cache (their prompt-caching guides)."""


class TeacherCost:
    """Estimates the price of a teacher's call before it is made, without a tokenizer.

    The transcript counts characters / 4. What stood in the teacher's last prompt of this episode is
    priced as read from its cache, and the rest as written to it, where these prompts are long
    enough for one; an episode that the teacher has not seen yet is all new to it. The answer is
    taken to be as long as the episode's answers so far.

    Args:
        ledger: The prices.
        model: The teacher's model; where the ledger prices by request, an unknown one costs 0.
        least_cached_tokens: Shortest prompt that the provider caches, as ``PrefixCacheMeter``.
    """

    def __init__(
        self, ledger: Ledger, model: str, least_cached_tokens: int = LEAST_CACHED_TOKENS
    ) -> None:
        self._ledger = ledger
        self._model = model
        self._least_cached_tokens = least_cached_tokens

    def __call__(self, step: Step) -> float:
        """USD of one call of the teacher in this step."""
        try:
            price = self._ledger.price("teacher", self._model)
        except PriceUnknown:
            return 0.0
        total = cached = len(step.goal)
        answers = 0
        seen = False
        for turn in step.history:
            total += len(turn.observation) + len(turn.action)
            answers += len(turn.action)
            if turn.served == "teacher":
                cached, seen = total - len(turn.action), True
        total += len(step.observation)
        prompt_tokens = total // CHARACTERS_PER_TOKEN
        cached_tokens = cached // CHARACTERS_PER_TOKEN if seen else 0
        if cached_tokens < self._least_cached_tokens:
            cached_tokens = 0
        new_tokens = prompt_tokens - cached_tokens
        is_written = prompt_tokens >= self._least_cached_tokens
        turns = len(step.history)
        output_tokens = (
            answers // turns // CHARACTERS_PER_TOKEN + 1 if turns else _FIRST_ANSWER_TOKENS
        )
        return price.cost_usd(
            Usage(
                input_tokens=0 if is_written else new_tokens,
                cache_read_tokens=cached_tokens,
                cache_write_tokens=new_tokens if is_written else 0,
                output_tokens=output_tokens,
            )
        )
