"""The arms of a replay: who acts, with which demonstrations and which guards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tutelage.runtime.errors import ConfigError

StudentKind = Literal["student", "recall"]

GUARDS = ("loop", "rejection", "stall")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to play every task, named so that its results can be compared with others."""

    name: str
    title: str
    """A few words for tables and plots."""
    policy: str
    """Name of a deferral policy."""
    demonstrations: bool = False
    """Whether the student's prompt holds retrieved teacher steps."""
    guards: tuple[str, ...] = ()
    """Names of the guards that wrap the policy, outermost first."""
    student: StudentKind = "student"
    """``recall``: no model, the vote of the retrieved actions."""
    p_teacher: float | None = None
    """Chance in [0, 1] that the policy ``random`` hands a step to the teacher."""
    mix_of: str | None = None
    """Arm whose measured share of deferrals becomes ``p_teacher``."""

    def definition(self) -> dict[str, Any]:
        """What the arm does, as JSON; the title is left out because it changes no result."""
        fields = asdict(self)
        del fields["title"]
        return {**fields, "guards": list(self.guards)}


def _table(*arms: Arm) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms}


ARMS: Mapping[str, Arm] = _table(
    Arm("teacher", "teacher alone", "always-teacher"),
    Arm("student", "student, zero-shot", "always-student"),
    Arm("demos", "student + demonstrations", "always-student", demonstrations=True),
    Arm("cascade", "cascade", "paper", guards=GUARDS),
    Arm("demos-cascade", "demonstrations + cascade", "paper", demonstrations=True, guards=GUARDS),
    Arm("cascade-unguarded", "cascade, no guards", "paper"),
    Arm(
        "demos-cascade-unguarded",
        "demonstrations + cascade, no guards",
        "paper",
        demonstrations=True,
    ),
    Arm(
        "random-mix",
        "random mix, same teacher share",
        "random",
        demonstrations=True,
        guards=GUARDS,
        mix_of="demos-cascade",
    ),
    Arm(
        "recall",
        "vote of retrieved actions, no model",
        "always-student",
        demonstrations=True,
        student="recall",
    ),
    Arm(
        "recall-guarded",
        "vote of retrieved actions + guards",
        "always-student",
        demonstrations=True,
        guards=GUARDS,
        student="recall",
    ),
)


def find_arms(names: Iterable[str]) -> tuple[Arm, ...]:
    """The arms of these names, in their order and without repeats.

    Raises:
        ConfigError: A name is unknown, or none was given.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name not in ARMS:
            near = difflib.get_close_matches(name, ARMS, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(ARMS)}"
            raise ConfigError(f"arm {name!r} is unknown; {hint}")
        chosen.append(ARMS[name])
    if not chosen:
        raise ConfigError(f"no arm to play; known: {', '.join(ARMS)}")
    return tuple(chosen)
