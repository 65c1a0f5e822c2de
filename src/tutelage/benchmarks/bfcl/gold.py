"""Who knows the calls that a conversation asks for."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.benchmarks.bfcl.calls import Call

CALLS_A_TURN = 12
"""A turn with more gold calls than that gets them in one action."""


class Gold:
    """Gold calls that are still to be made in the turn.

    A call counts as made when it gave what it gives in the gold run; one that gives something else,
    because others have changed the systems, counts as made at its second try.

    Args:
        turns: Gold calls by turn.
        results: What they give, run in their order.
    """

    def __init__(self, turns: Sequence[Sequence[Call]], results: Sequence[Sequence[str]]) -> None:
        self._turns = [
            list(zip(turn, given, strict=True)) for turn, given in zip(turns, results, strict=True)
        ]
        self._left = list(self._turns[0])
        self._tried: list[Call] = []

    def turn(self, index: int) -> None:
        """Goes on to a turn; what is left of the one before is dropped."""
        self._left = list(self._turns[index])
        self._tried = []

    def saw(self, call: Call, result: str) -> None:
        """Takes note of a call that someone made."""
        for place, (wanted, expected) in enumerate(self._left):
            if wanted == call:
                if result == expected or call in self._tried:
                    del self._left[place]
                    self._tried = []
                else:
                    self._tried.append(call)
                return

    def ask(self) -> tuple[Call, ...]:
        """The next call; none when the turn asks for no more.

        All at once where one at a time would take more steps than a turn may have.
        """
        left = tuple(call for call, _ in self._left)
        return left if len(left) > CALLS_A_TURN else left[:1]
