"""How much of its goal an episode has seen and touched: what sentence vectors blur."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.types import Step, Trajectory

Mentions = NDArray[np.float32]
"""Rows of two shares in [0, 1], shape (n, 2): goal words in the observation, in past actions."""

_WORD = re.compile(r"[^\W\d_]+")
_FILLERS = "a an and for from in into it of on or put some the them then to two with"
# Words of a goal that name nothing. Those of other languages stay, which only blurs the shares.
_EMPTY = frozenset(_FILLERS.split())
_LIMIT_CHARACTERS = 20_000


def ordered_goal_words(goal: str) -> tuple[str, ...]:
    """The words of a goal that can name a thing, in lower case, each once, as they come."""
    return tuple(word for word in dict.fromkeys(_words(goal)) if word not in _EMPTY)


def goal_words(goal: str) -> frozenset[str]:
    """The words of a goal that can name a thing, in lower case."""
    return frozenset(ordered_goal_words(goal))


def step_mentions(step: Step) -> Mentions:
    """The shares at a decision that is to be taken, shape (2,)."""
    wanted = goal_words(step.goal)
    touched = {word for turn in step.history for word in _words(turn.action)}
    return _shares(wanted, step.observation, touched)


def trajectory_mentions(trajectory: Trajectory) -> Mentions:
    """The shares at every turn, shape (turns, 2)."""
    wanted = goal_words(trajectory.goal)
    touched: set[str] = set()
    rows = []
    for turn in trajectory.turns:
        rows.append(_shares(wanted, turn.observation, touched))
        touched.update(_words(turn.action))
    return np.stack(rows)


def _shares(wanted: frozenset[str], observation: str, touched: Iterable[str]) -> Mentions:
    if not wanted:
        return np.zeros(2, dtype=np.float32)
    seen = len(wanted.intersection(_words(observation)))
    done = len(wanted.intersection(touched))
    return np.array([seen / len(wanted), done / len(wanted)], dtype=np.float32)


def _words(text: str) -> list[str]:
    return _WORD.findall(text[:_LIMIT_CHARACTERS].lower())
