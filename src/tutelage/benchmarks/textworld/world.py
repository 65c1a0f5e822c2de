"""Generated TextWorld games as an environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.textworld.games import SeededGames
from tutelage.runtime.errors import BenchmarkError, MissingExtra

INSTRUCTIONS = """\
You play a text game. Read the task and the last observation, then reply with one command only.
Commands: look | inventory | examine THING | go north | go south | go east | go west \
| open THING | close THING | unlock THING with KEY | lock THING with KEY | take THING \
| take THING from PLACE | drop THING | put THING on PLACE | insert THING into PLACE | eat THING \
| cook THING with PLACE | slice THING with KNIFE | chop THING with KNIFE | dice THING with KNIFE \
| prepare meal"""

NOTHING = "Nothing happens"
REFUSALS = (
    "That's not a verb I recognise",
    "That's not something you need to refer to",
    "You can't see any such thing",
    "You can't go that way",
    "I didn't understand",
    "I only understood you as far as",
    "You seem to have said too little",
    "I beg your pardon",
)
"""How the games' parser begins when it does not accept a command."""
LOOKS = ("look", "inventory", "examine *")
"""Commands that leave everything as it was."""
ACTION_TOKENS = 24
_STATUS = re.compile(r"\n>\s*-= .*\Z|\n>\s*\Z")
_END = re.compile(r"\s*\*\*\* The End \*\*\*.*\Z", re.S)
_GAP = re.compile(r"\n\s*\n")


def textworld_manner() -> Manner:
    """Actions are one line of text without a grammar of their own."""
    return Manner("text", max_tokens=ACTION_TOKENS, effects=dict.fromkeys(LOOKS, "read"))


class TextWorld:
    """Games made with ``tw-make`` (Côté et al., 2018); one game at a time.

    Args:
        folder: Where games are kept.

    Raises:
        MissingExtra: TextWorld is not installed.
    """

    name: str = "textworld"
    instructions: str = INSTRUCTIONS

    def __init__(self, folder: Path) -> None:
        self._games = SeededGames(folder)
        self._env: Any = None
        self._state: Any = None
        self._over = False

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev`` or ``test``; ``test:3`` is the first 3, one of each kind.

        Raises:
            WorldMissing: There is no such split.
        """
        return self._games.tasks(split)

    def prefetch(self, task: Task) -> None:
        """Makes the game of a task, so that its reset is quick.

        Raises:
            WorldMissing: The task is not one of this world's.
            BenchmarkError: The game cannot be made.
        """
        self._games.file(task)

    def reset(self, task: Task) -> Opening:
        """Starts a task; its game is made if it is not there.

        Raises:
            WorldMissing: The task is not one of this world's.
            BenchmarkError: The game cannot be made.
        """
        file = self._games.file(task)
        self.close()
        self._env = _start(file)
        self._state = self._env.reset()
        objective = " ".join(str(self._state.objective).split())
        return Opening(objective, _after_intro(_plain(self._state.feedback)))

    def step(self, action: str) -> Outcome:
        """Takes a command; one that the game does not accept changes nothing.

        Raises:
            BenchmarkError: No task was reset.
        """
        state = self._started()
        if self._over:
            return Outcome(f"{NOTHING}: the game is over.", True, bool(state.won))
        # The game's own commands (undo, restart, save) would lead out of it.
        command = " ".join(action.split())
        if command.lower().split(" ")[0] in {"undo", "restart", "restore", "save", "quit", "q"}:
            return Outcome(f"{NOTHING}: that is no command of the game.", False, False)
        self._state, _, self._over = self._env.step(command)
        text = _plain(self._state.feedback)
        if text.startswith(REFUSALS):
            text = f"{NOTHING}: {text}"
        return Outcome(text, done=bool(self._over), success=bool(self._over and self._state.won))

    def oracle(self) -> OracleAction:
        """The first command of a policy that wins from here; it knows the hidden state.

        Raises:
            BenchmarkError: No task was reset.
        """
        policy = self._started().policy_commands
        # Someone may have eaten what the quest is about: then no command wins.
        return OracleAction(str(policy[0]) if policy else "look", "planner")

    def close(self) -> None:
        """Ends the game."""
        if self._env is not None:
            self._env.close()
        self._env, self._state, self._over = None, None, False

    def _started(self) -> Any:
        if self._state is None:
            raise BenchmarkError("textworld: no task is being played, call reset first")
        return self._state


def _start(file: Path) -> Any:
    try:
        import textworld
    except ModuleNotFoundError as error:
        raise MissingExtra("textworld", "textworld") from error
    wanted = textworld.EnvInfos(
        feedback=True, objective=True, policy_commands=True, won=True, lost=True
    )
    return textworld.start(str(file), wanted)


def _plain(feedback: str) -> str:
    """What the game says, without its prompt and status line."""
    text = _END.sub("", _STATUS.sub("", feedback.rstrip("\n")))
    return _GAP.sub("\n", text).strip()


def _after_intro(opening: str) -> str:
    """The first room, without title picture and objective."""
    start = opening.find("-= ")
    return opening[start:].strip() if start >= 0 else opening
