"""ScienceWorld as an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.scienceworld.kinds import KINDS, LONG, SHORT
from tutelage.benchmarks.scienceworld.simulator import JavaSimulator, Simulator
from tutelage.benchmarks.splits import read_split
from tutelage.runtime.errors import BenchmarkError, WorldMissing

INSTRUCTIONS = """\
You do a science task in a text world. Read the task and the last observation, then reply with one \
command only.
Commands: look around | go to PLACE | teleport to PLACE | open THING | close THING \
| pick up THING | put down THING | move THING to THING | pour THING in THING | mix THING \
| activate THING | deactivate THING | use THING on THING | focus on THING | examine THING \
| look at THING | look in THING | read THING | connect THING to THING | dunk THING in THING \
| eat THING | inventory | wait1 | wait
Names are as observations spell them; THING in inventory is what you carry. "focus on" marks what \
the task is about: a wrong focus fails it."""

SPLITS = ("train", "dev", "test")
UNKNOWN = "No known action matches that input."
REFUSAL = "Nothing happens: no known action matches that input."
LOOKS = ("look around", "look at *", "look in *", "examine *", "inventory")
"""Commands that leave everything as it was, but for the time that passes."""
ACTION_TOKENS = 32
"""Tokens of a long command, e.g. of wiring."""


def scienceworld_manner() -> Manner:
    """Actions are one line of text without a grammar of their own."""
    return Manner("text", max_tokens=ACTION_TOKENS, effects=dict.fromkeys(LOOKS, "read"))


class ScienceWorld:
    """ScienceWorld (Wang et al., EMNLP 2022) with simplification ``easy``; one game at a time.

    Args:
        simulator: Makes the Java process; called when it is first needed.
    """

    name: str = "scienceworld"
    instructions: str = INSTRUCTIONS

    def __init__(self, simulator: Callable[[], Simulator] = JavaSimulator) -> None:
        self._make = simulator
        self._simulator: Simulator | None = None
        self._listed: dict[tuple[str, str], Sequence[int]] = {}
        self._gold: Sequence[str] | None = None
        self._done: Outcome | None = None
        self._next = 0
        self._room: str | None = None
        self._start: str | None = None
        self._instead: str | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev`` or ``test``; ``dev:12`` is the first 12.

        Kinds take turns: first the fourteen short ones until they are used up, then the long ones.

        Raises:
            WorldMissing: There is no such split, or no Java.
            MissingExtra: The package is not installed.
        """
        wanted = read_split(split, SPLITS, self.name)
        found: list[Task] = []
        groups: tuple[tuple[str, ...], ...] = (SHORT, LONG)
        for kinds in groups:
            left = None if wanted.count is None else wanted.count - len(found)
            if left is not None:
                # Loading a kind takes time: the first few tasks need only as many kinds.
                kinds = kinds[:left]
            found += islice(self._in_turn(kinds, wanted.name), left)
        return found

    def reset(self, task: Task) -> Opening:
        """Starts a task.

        Raises:
            WorldMissing: The task is not one of this world's.
            BenchmarkError: The simulator found no gold actions.
        """
        kind, _, variation = task.id.partition("/")
        if kind not in KINDS or not variation.isdecimal():
            raise WorldMissing(f"task {task.id!r} is none of scienceworld's")
        goal, observation, self._gold = self._java().start(kind, int(variation))
        self._done, self._next, self._instead = None, 0, None
        self._room = self._start = self._java().room()
        return Opening(goal.removeprefix("Your task is to ").strip(), observation.strip())

    def step(self, action: str) -> Outcome:
        """Takes a command; one that matches nothing changes nothing.

        Raises:
            BenchmarkError: No task was reset.
        """
        gold = self._started()
        if self._done is not None:
            return self._done
        command = " ".join(action.split())
        # The same words elsewhere are another action.
        is_next = command.lower() == gold[self._next].lower()
        is_next = is_next and self._java().room() == self._room
        reply = self._java().act(command)
        refused = reply.observation.startswith(UNKNOWN)
        instead, self._instead = self._instead, None
        if is_next and refused:
            self._instead = nearest(command, self._java().valid_actions())
            taken = self._instead is None
        else:
            taken = is_next or command == instead
        if taken:
            self._next += 1
            # Later gold actions are meant for the place that this one led to.
            self._room = self._java().room()
            if self._next == len(gold):
                self._next, self._room = 0, self._start
        observation = reply.observation.strip()
        if refused:
            observation = REFUSAL
        over = reply.completed or reply.score < 0
        if over:
            self._done = Outcome("Nothing happens: the task is over.", True, reply.score >= 1)
        return Outcome(observation, done=over, success=over and reply.score >= 1)

    def oracle(self) -> OracleAction:
        """The next gold action, or the way back to where it is meant to be taken.

        A gold action that the simulator does not accept, because things have changed since, is
        followed by the nearest one that it does accept; after the last one the first comes again.

        Raises:
            BenchmarkError: No task was reset.
        """
        gold = self._started()
        room = self._java().room()
        if self._room is not None and room != self._room:
            return OracleAction(f"teleport to {self._room}", "planner")
        return OracleAction(self._instead or gold[self._next], "planner")

    def close(self) -> None:
        """Ends the Java process."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None

    def _in_turn(self, kinds: Sequence[str], split: str) -> Sequence[Task]:
        rows = [
            [Task(f"{kind}/{number}", split, kind) for number in self._variations(kind, split)]
            for kind in kinds
        ]
        return [task for round_ in zip_longest(*rows) for task in round_ if task is not None]

    def _variations(self, kind: str, split: str) -> Sequence[int]:
        if (kind, split) not in self._listed:
            self._gold = None  # Listing loads another game.
            self._listed[kind, split] = self._java().variations(kind, split)
        return self._listed[kind, split]

    def _started(self) -> Sequence[str]:
        if self._gold is None:
            raise BenchmarkError("scienceworld: no task is being played, call reset first")
        return self._gold

    def _java(self) -> Simulator:
        if self._simulator is None:
            self._simulator = self._make()
        return self._simulator


def nearest(action: str, valid: Sequence[str]) -> str | None:
    """The possible action with the same first word that shares most words with ``action``."""
    words = set(action.split())
    same = [one for one in valid if one.split()[:1] == action.split()[:1]]
    # Of equally near ones the shortest says least that was not asked for.
    return max(same, key=lambda one: (len(words & set(one.split())), -len(one), one), default=None)
