"""One multi-turn conversation as it is played."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.benchmarks.bfcl.calls import Call, NotCalls, action_of, read_action
from tutelage.benchmarks.bfcl.functions import Functions
from tutelage.benchmarks.bfcl.gold import Gold
from tutelage.benchmarks.bfcl.items import Item
from tutelage.benchmarks.bfcl.machine import Machine
from tutelage.benchmarks.environment import Opening, Outcome

END = "Done."
"""What an agent says to end its turn; any other words do, too."""
NOTHING = "Nothing happens"
STEPS_A_TURN = 20
"""The package's own limit: who takes more steps in one turn has failed."""
ADDED = "I have more functions for you now. Can you do it with these?"


class Conversation:
    """The user's requests in their order, and the systems that they are about.

    Args:
        item: What is played.
        functions: What is documented.
        run: A name that no other conversation of this process has.
    """

    def __init__(self, item: Item, functions: Functions, run: str) -> None:
        self._item = item
        self._functions = functions
        self._systems: Sequence[str] = item.entry["involved_classes"]
        self._machine = Machine(run, item.entry)
        self._gold = Gold(item.gold, _results(item, f"{run}_gold"))
        self._turn = 0
        self._made: list[list[tuple[Call, ...]]] = [[] for _ in item.requests]
        self._success: bool | None = None

    def opening(self) -> Opening:
        """The first request, and the functions that are offered."""
        listing = self._functions.listing(self._systems, self._offered())
        return Opening(self._item.requests[0], f"Functions (? may be left out):\n{listing}")

    def step(self, action: str) -> Outcome:
        """Makes the calls of an action; one without calls ends the turn."""
        if self._success is not None:
            return Outcome(f"{NOTHING}: the conversation is over.", True, self._success)
        try:
            calls = read_action(action)
            offered = self._offered()
            unknown = [call.name for call in calls if call.name not in offered]
            if unknown:
                raise NotCalls(f"there is no function {unknown[0]!r}")
            if not calls:
                return self._next_turn()
            results = self._machine.run(calls)
        except NotCalls as problem:
            return Outcome(f"{NOTHING}: {problem}.", False, False)
        self._made[self._turn].append(calls)
        for call, result in zip(calls, results, strict=True):
            self._gold.saw(call, result)
        if len(self._made[self._turn]) > STEPS_A_TURN:
            return self._ended("You have taken too many steps.", success=False)
        return Outcome("\n".join(results), False, False)

    def ask(self) -> str:
        """The next gold action."""
        calls = self._gold.ask()
        return action_of(calls) if calls else END

    def close(self) -> None:
        """Frees the systems."""
        self._machine.close()

    def _next_turn(self) -> Outcome:
        self._turn += 1
        if self._turn == len(self._item.requests):
            success = self._machine.check(self._made, self._item.truth)
            return self._ended("The user has no more requests.", success=success)
        self._gold.turn(self._turn)
        said = [self._item.requests[self._turn]]
        if added := self._item.withheld.get(self._turn):
            said += [ADDED, self._functions.listing(self._systems, added)]
        return Outcome("User: " + "\n".join(text for text in said if text), False, False)

    def _ended(self, words: str, *, success: bool) -> Outcome:
        self._success = success
        return Outcome(words, True, success)

    def _offered(self) -> frozenset[str]:
        """Functions of this turn."""
        withheld = {
            name
            for turn, names in self._item.withheld.items()
            for name in names
            if turn > self._turn
        }
        return frozenset(self._functions.names(self._systems)) - withheld


def _results(item: Item, run: str) -> list[list[str]]:
    """What the gold calls give back, turn by turn."""
    machine = Machine(run, item.entry)
    try:
        return [machine.run(turn) for turn in item.gold]
    finally:
        machine.close()
