"""A world of errands with an exact oracle, traffic that is skewed as real traffic is, and a student
that is a small network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.training.data.episodes import Row, played, record

from tutelage.training.data.example import TrainingExample
from tutelage.training.data.recorded import RecordedEpisode

OBJECTS = tuple(f"o{i}" for i in range(8))
PLACES = tuple(f"p{i}" for i in range(10))
CLOSED = frozenset(PLACES[::2])
APPLIANCES = {"heat": "stove", "cool": "fridge", "clean": "sink"}
TREATMENTS = ("move", *APPLIANCES)
USUAL = (0.79, 0.07, 0.07, 0.07)
"""How often traffic asks for each treatment."""
MOST_STEPS = 12


@dataclass(frozen=True)
class Errand:
    """Bring an object from one place to another, treated on the way or not."""

    treatment: str
    object: str
    source: str
    target: str

    @property
    def goal(self) -> str:
        return f"{self.treatment} {self.object} from {self.source} to {self.target}"


@dataclass
class Play:
    """An errand under way."""

    errand: Errand
    at: str = "start"
    opened: frozenset[str] = frozenset()
    holds: bool = False
    treated: bool = False
    done: bool = False

    @property
    def seen(self) -> str:
        shut = self.at in CLOSED - self.opened
        held = "holding" if self.holds else "empty"
        return f"{self.at} {'shut' if shut else 'open'} {held} {'ready' if self.treated else 'raw'}"

    def oracle(self) -> str:
        errand = self.errand
        goes = errand.target if self.treated or errand.treatment == "move" else ""
        goes = (goes or APPLIANCES[errand.treatment]) if self.holds else errand.source
        if self.at != goes:
            return f"go {goes}"
        if self.at in CLOSED - self.opened:
            return f"open {goes}"
        if not self.holds:
            return f"take {errand.object}"
        return f"put {errand.object}" if goes == errand.target else f"use {goes}"

    def act(self, action: str) -> None:
        """An action other than the oracle's does nothing but walk or open."""
        expected = self.oracle()
        verb, what = action.split()
        if verb == "go":
            self.at = what
        elif verb == "open" and what == self.at:
            self.opened |= {what}
        elif action == expected:
            self.holds = verb != "put"
            self.treated = self.treated or verb == "use"
            self.done = verb == "put"


ACTIONS = (
    *(f"go {place}" for place in (*PLACES, *APPLIANCES.values())),
    *(f"open {place}" for place in PLACES),
    *(f"use {place}" for place in APPLIANCES.values()),
    *(f"take {one}" for one in OBJECTS),
    *(f"put {one}" for one in OBJECTS),
)
WORDS = {
    word: column
    for column, word in enumerate(
        [
            f"{slot}:{word}"
            for slot, words in enumerate(
                [
                    TREATMENTS,
                    OBJECTS,
                    PLACES,
                    PLACES,
                    ("start", *PLACES, *APPLIANCES.values()),
                    ("shut", "open"),
                    ("holding", "empty"),
                    ("ready", "raw"),
                ]
            )
            for word in words
        ]
    )
}


def features(goal: str, seen: str) -> list[int]:
    """Columns of the words that are on, one for each slot."""
    treatment, thing, _, source, _, target = goal.split()
    slots = [treatment, thing, source, target, *seen.split()]
    return [WORDS[f"{slot}:{word}"] for slot, word in enumerate(slots)]


def errand(random: Random, *, usual: bool) -> Errand:
    """One of traffic, where a few things are asked for again and again, or any at all."""
    if usual:
        (treatment,) = random.choices(TREATMENTS, USUAL)
        objects = [1 / (i + 1) for i in range(len(OBJECTS))]
        places = [1 / (i + 1) for i in range(len(PLACES))]
        (thing,) = random.choices(OBJECTS, objects)
        source, target = random.choices(PLACES, places, k=2)
    else:
        treatment, thing = random.choice(TREATMENTS), random.choice(OBJECTS)
        source, target = random.choices(PLACES, k=2)
    if source == target:
        return errand(random, usual=usual)
    return Errand(treatment, thing, source, target)


def taught(number: int, one: Errand) -> RecordedEpisode:
    """An episode of the oracle."""
    play, rows = Play(one), list[Row]()
    while not play.done:
        action = play.oracle()
        rows.append((play.seen, action, "teacher"))
        play.act(action)
    id = f"e{number:04}"
    return played(rows, record(id, goal=one.goal, task_id=id), family=one.treatment)


def success(examples: Sequence[TrainingExample], errands: Sequence[Errand], seed: int) -> float:
    """Share of errands that a student trained on the examples does alone; the same number of
    optimizer steps and of drawn steps, whatever the examples."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for example in examples:
        for index in example.supervised:
            seen = str(example.messages[index - 1]["content"]).splitlines()[-1]
            rows.append(features(example.goal, seen))
            labels.append(ACTIONS.index(str(example.messages[index]["content"])))
    inputs, targets = torch.tensor(rows), torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.EmbeddingBag(len(WORDS), 64, mode="sum"),
            torch.nn.ReLU(),
            torch.nn.Linear(64, len(ACTIONS)),
        )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(400):
        drawn = torch.randint(len(labels), (128,), generator=generator)
        loss = torch.nn.functional.cross_entropy(model(inputs[drawn]), targets[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    plays = [Play(one) for one in errands]
    for _ in range(MOST_STEPS):
        waiting = [play for play in plays if not play.done]
        if not waiting:
            break
        states = torch.tensor([features(play.errand.goal, play.seen) for play in waiting])
        for play, choice in zip(waiting, model(states).argmax(-1).tolist(), strict=True):
            play.act(ACTIONS[choice])
    return sum(play.done for play in plays) / len(plays)
