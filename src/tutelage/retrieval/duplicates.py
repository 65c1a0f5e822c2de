"""What makes two trajectories the same: the family of the goal, and the actions."""

from __future__ import annotations

import hashlib
import json
import re

from tutelage.retrieval.window import imitable_steps
from tutelage.runtime.steps import tool_calls
from tutelage.runtime.types import Trajectory

_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"\w+")


def goal_family(goal: str) -> str:
    """The goal without case, numbers and punctuation: equal for ``Put mug 1 away.`` and 2."""
    return " ".join(_WORD.findall(_NUMBER.sub(" ", goal.casefold())))


def action_key(action: str) -> str:
    """An action to compare by: case and spacing of a text, order of arguments do not count."""
    calls = tool_calls(action)
    if calls is None:
        return " ".join(action.casefold().split())
    named = [
        [call["function"]["name"], _arguments(call["function"]["arguments"])] for call in calls
    ]
    return json.dumps(named, sort_keys=True, ensure_ascii=False)


def action_kind(action: str) -> str:
    """The verb of a text, or the names of the tools that are called."""
    calls = tool_calls(action)
    if calls is None:
        return next(iter(action.casefold().split()), "")
    return " ".join(str(call["function"]["name"]) for call in calls)


def without_numbers(text: str) -> str:
    """The text without its numbers: ``drawer 3`` and ``drawer 5`` are the same."""
    return " ".join(_NUMBER.sub("", text).split())


def family_sha256(trajectory: Trajectory) -> str:
    """Hash of the family of a trajectory's goal."""
    return _sha256(goal_family(trajectory.goal))


def actions_sha256(trajectory: Trajectory) -> str:
    """Hash of who the teacher was and of the actions it took, in their order."""
    return _sha256(json.dumps([trajectory.source, *imitated_actions(trajectory)]))


def actions_text(trajectory: Trajectory) -> str:
    """The imitated actions as one text without numbers, whose vectors tell near copies."""
    return "; ".join(without_numbers(action) for action in imitated_actions(trajectory))


def imitated_actions(trajectory: Trajectory) -> list[str]:
    """The comparable actions of the steps to imitate, in their order."""
    return [action_key(trajectory.turns[index].action) for index in imitable_steps(trajectory)]


def _arguments(arguments: object) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (json.JSONDecodeError, RecursionError):
        return " ".join(arguments.split())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
