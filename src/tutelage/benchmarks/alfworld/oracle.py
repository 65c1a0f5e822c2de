"""Who knows what to do in an ALFWorld game: the searching expert first, then the planner.

The expert is ALFWorld's hand-coded one; it opens one place after the other as an agent would. It
keeps notes of its own, so a detour by someone else can confuse it. Once it is lost, Fast Downward
plans from the current state, hidden things included, for the rest of the episode: two oracles that
take turns can undo each other's steps for ever.

Import this module inside a function: it needs the ``alfworld`` extra.
"""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alfworld.agents.expert import HandCodedTWAgent

from tutelage.benchmarks.alfworld.games import REFUSAL
from tutelage.benchmarks.alfworld.simulator import Fact, Simulator
from tutelage.benchmarks.environment import OracleAction
from tutelage.runtime.errors import BenchmarkError

logger = logging.getLogger(__name__)

EXPERT_STEPS = 10_000
"""The expert gives up by itself after so many steps; a replay caps episodes long before."""
PATIENCE = 3
"""So often the expert may take one action in one state, if others have acted in between."""
SEARCH_STEPS = 36
"""After so many steps of its own in an episode the expert counts as lost: ALFWorld's limit is 50,
and the longest plan that is left needs about ten."""
RESIGNED = "look"
"""What the planner says where no way leads to the goal any more."""

SEEN = re.compile(r"(?:On the|The) (\w+ \d+)(?: is open\. In it)?, you see (.*)")
THING = re.compile(r"\ba (\w+ \d+)")
TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)")


@dataclass(frozen=True, slots=True)
class Seen:
    """A step as the expert hears of it, and what is true and possible after it."""

    action: str
    observation: str
    facts: tuple[Fact, ...]
    commands: Sequence[str]


class Lost(Exception):
    """The expert does not know its way; the text says how that showed."""


class Expert:
    """ALFWorld's hand-coded expert, told of what happened in the words that it knows.

    Args:
        game_file: The game; ``traj_data.json`` beside it names the goal for the expert.
        intro: The first text of the game.
        seed: Of the expert's choice between equal objects.
    """

    def __init__(self, game_file: Path, intro: str, seed: str) -> None:
        agent = HandCodedTWAgent(max_steps=EXPERT_STEPS)
        agent.reset(str(game_file))
        self._policy = agent.policy
        self._policy.observe(intro)
        self._likely = self._policy.get_list_of_receptacles_to_search_for_object_cls
        self._policy.get_list_of_receptacles_to_search_for_object_cls = self._places_to_search
        self._contents: dict[str, set[str]] = {}
        self._random = random.Random(seed)

    def advise(self, seen: Seen) -> str:
        """The action after what was seen.

        Raises:
            Lost: There is none, or it is not possible.
        """
        self._remember(seen.observation)
        advice = self._act(seen, self._known_wording(seen.action))
        if advice.startswith("close ") and advice not in seen.commands:
            # It means to tidy up a place that it has left already; it forgets that once asked.
            advice = self._act(seen, "look")
        if advice.startswith("go to ") and advice not in seen.commands:
            # Places that share a spot are not gone to from one another, only looked at.
            advice = f"examine {advice.removeprefix('go to ')}"
        if advice not in seen.commands:
            raise Lost(f"{advice!r} is not possible")
        return advice

    def _act(self, seen: Seen, action: str) -> str:
        state = {
            "feedback": seen.observation,
            "facts": seen.facts,
            "admissible_commands": seen.commands,
        }
        try:
            with _drawing_from(self._random):
                return str(self._policy.act(state, action))
        except (NameError, LookupError, ValueError) as error:  # its own give-ups are NameErrors
            raise Lost(f"{type(error).__name__}: {error}") from error

    def _remember(self, observation: str) -> None:
        if seen := SEEN.search(observation):
            place, things = seen.groups()
            self._contents[place] = set(THING.findall(things))
        elif taken := TAKEN.search(observation):
            thing, place = taken.groups()
            self._contents.get(place, set()).discard(thing)

    def _places_to_search(self, kind: str) -> list[str]:
        """All places, the most promising last, which is where the expert starts.

        By itself it would look again into every place when it needs a second thing of a kind.
        """
        likely = set(self._likely(kind))

        def promise(place: str) -> tuple[bool, bool, bool]:
            things = self._contents.get(place, set()) - set(self._policy.object_blacklist)
            has_one = any(thing.startswith(f"{kind} ") for thing in things)
            return has_one, place not in self._contents, place in likely

        return sorted(self._policy.receptacles, key=promise)

    def _known_wording(self, action: str) -> str:
        verb, _, rest = action.partition(" ")
        if verb == "move":  # Told of a "move", it believes its hands are still full.
            return f"put {rest}"
        if verb == "examine" and rest in self._policy.receptacles:
            return f"go to {rest}"
        return action


@contextmanager
def _drawing_from(source: random.Random) -> Iterator[None]:
    """Lets code that draws from the module ``random`` draw from a generator of its own."""
    outside = random.getstate()
    random.setstate(source.getstate())
    try:
        yield
    finally:
        source.setstate(random.getstate())
        random.setstate(outside)


class Oracle:
    """The expert while it knows its way, then the planner for the rest of the episode.

    Nothing is computed before it is asked for.

    Args:
        simulator: The game, just started.
        expert: Makes the expert for the game.
    """

    def __init__(self, simulator: Simulator, expert: Callable[[], Expert]) -> None:
        self._simulator = simulator
        self._make_expert = expert
        self._expert: Expert | None = None
        self._advice = ""
        self._lost = False
        # An expert acts only after a look around; it needs the moment, not the text.
        self._unread = [Seen("look", "", simulator.facts, simulator.commands)]
        self._answer: OracleAction | None = None
        self._answered_in: frozenset[Fact] = frozenset()
        self._taken_alone: set[tuple[frozenset[Fact], str]] = set()
        self._taken: Counter[tuple[frozenset[Fact], str]] = Counter()
        self._plan: tuple[str, ...] = ()
        self._hopeless = False

    def saw(self, action: str, observation: str) -> None:
        """Tells the oracle of a step that was taken, by whomever.

        Args:
            action: The command as the simulator took it.
            observation: Its answer.
        """
        answer, self._answer = self._answer, None
        if self._lost:
            self._keep_plan(action, observation)
            return
        if answer is not None and answer.text == action:
            self._note_followed(action)
        else:
            self._taken_alone.clear()
        if _is_news(action, observation):
            simulator = self._simulator
            self._unread.append(Seen(action, observation, simulator.facts, simulator.commands))

    def ask(self) -> OracleAction:
        """The action to take now; asked again before a step, the same one.

        Raises:
            BenchmarkError: The game is over.
        """
        if self._simulator.won:
            raise BenchmarkError("the game is over: its goal is reached")
        if self._answer is None:
            if not self._lost:
                self._ask_expert()
            if self._lost:
                self._answer = OracleAction(self._next_planned(), "planner")
        assert self._answer is not None
        return self._answer

    def _ask_expert(self) -> None:
        if self._expert is None:
            self._expert = self._make_expert()
        try:
            for seen in self._unread:
                self._advice = self._expert.advise(seen)
            self._unread.clear()
            state = frozenset(self._simulator.facts)
            self._check_progress(state)
        except Lost as error:
            logger.debug("the expert is lost: %s", error)
            self._lost = True
            self._unread.clear()
        else:
            self._answer, self._answered_in = OracleAction(self._advice, "expert"), state

    def _check_progress(self, state: frozenset[Fact]) -> None:
        pair = (state, self._advice)
        if self._taken.total() >= SEARCH_STEPS:
            raise Lost(f"it has searched for {SEARCH_STEPS} steps")
        if pair in self._taken_alone or self._taken[pair] >= PATIENCE:
            raise Lost(f"{self._advice!r} was taken here before")

    def _note_followed(self, action: str) -> None:
        pair = (self._answered_in, action)
        self._taken_alone.add(pair)
        self._taken[pair] += 1

    def _keep_plan(self, action: str, observation: str) -> None:
        if self._plan and action == self._plan[0]:
            self._plan = self._plan[1:]
        elif _is_news(action, observation):
            self._plan = ()

    def _next_planned(self) -> str:
        if not self._plan and not self._hopeless:
            self._plan = self._simulator.plan()
            # A few things fit nowhere: who has taken one can never take another.
            self._hopeless = not self._plan
        return RESIGNED if self._hopeless else self._plan[0]


def _is_news(action: str, observation: str) -> bool:
    """Whether a step changed the state, or showed what lies somewhere."""
    verb = action.partition(" ")[0]
    return observation != REFUSAL and verb not in {"look", "inventory", "help"}


def make_oracle(game_file: Path, simulator: Simulator, seed: str) -> Oracle:
    """The oracle of a game that has just started."""
    return Oracle(simulator, lambda: Expert(game_file, simulator.intro, seed))
