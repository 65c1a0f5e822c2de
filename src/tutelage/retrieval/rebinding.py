"""Demonstrations retold with the names of the step at hand.

A small student copies what it is shown: a demonstration about a mug and a desk helps it more when
it already speaks of the pencil and the drawer that this task is about. Names are taken from three
pairs of texts that say the same thing in both episodes: the goals, the actions just taken, and
the numbers of things in sight. Where a pair does not line up, nothing is renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tutelage.retrieval.mentions import ordered_goal_words
from tutelage.runtime.types import Demonstration, Step, Turn

_NAMED = re.compile(r"\b([^\W\d_]+) (\d+)\b")


def rebind(demonstration: Demonstration, step: Step) -> Demonstration:
    """The demonstration with its names replaced by those of the step.

    Args:
        demonstration: What is shown; its window may be cut anywhere.
        step: The step that is to be taken.
    """
    goal_names = _goal_names(demonstration.goal, step.goal)
    window = [_retold(turn, goal_names) for turn in demonstration.window]
    target = demonstration.target % len(window)
    place_names: dict[str, str] = {}
    if target > 0 and step.history:
        place_names = _action_names(window[target - 1].action, step.history[-1].action)
        window[target - 1] = Turn(
            window[target - 1].observation,
            _renamed(window[target - 1].action, place_names),
            window[target - 1].served,
        )
    window[target] = _retold(window[target], place_names)
    window[target] = _retold(window[target], _number_names(window[target], step.observation))
    return demonstration.model_copy(
        update={
            "goal": _renamed(demonstration.goal, goal_names),
            "window": tuple(window),
        }
    )


def _goal_names(theirs: str, ours: str) -> dict[str, str]:
    """``{"mug": "pencil"}`` where both goals name as many things, in the same order."""
    old, new = ordered_goal_words(theirs), ordered_goal_words(ours)
    if len(old) != len(new):
        return {}
    return {before: after for before, after in zip(old, new, strict=True) if before != after}


def _action_names(theirs: str, ours: str) -> dict[str, str]:
    """``{"desk 1": "shelf 3"}`` from ``go to desk 1`` and ``go to shelf 3``."""
    old, new = theirs.split(), ours.split()
    if len(old) != len(new) or not old or old[0].casefold() != new[0].casefold():
        return {}
    names: dict[str, str] = {}
    position = 0
    while position < len(old):
        end = position + 1
        if end < len(old) and old[end].isdigit() and new[end].isdigit():
            end += 1
        before, after = " ".join(old[position:end]), " ".join(new[position:end])
        if before != after:
            names[before] = after
        position = end
    return names


def _number_names(shown: Turn, observation: str) -> dict[str, str]:
    """``{"pencil 1": "pencil 2"}`` for a thing that each episode has exactly one of in sight."""
    theirs = set(_NAMED.findall(shown.observation))
    ours: dict[str, set[str]] = {}
    for name, number in _NAMED.findall(observation):
        ours.setdefault(name, set()).add(number)
    names: dict[str, str] = {}
    for name, number in _NAMED.findall(shown.action):
        numbers = ours.get(name, set())
        if (name, number) in theirs and len(numbers) == 1 and number not in numbers:
            names[f"{name} {number}"] = f"{name} {next(iter(numbers))}"
    return names


def _retold(turn: Turn, names: Mapping[str, str]) -> Turn:
    return Turn(_renamed(turn.observation, names), _renamed(turn.action, names), turn.served)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with whole names replaced, all at once, so that two names can be swapped."""
    if not names:
        return text
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest_first)
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda found: names[found.group()], text)
