"""The arms of a replay: who acts, with which demonstrations and which guards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tutelage.runtime.errors import ConfigError

StudentKind = Literal[
    "student",
    "recall",
    "copying",
    "pooled",
    "copying-pooled",
    "routed",
    "copying-routed",
    "verifying",
    "judged",
]

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
    """``recall``: no model, the vote of the retrieved actions. ``copying``: no model, a sampler
    that copies from its prompt, for experiments over many episodes. ``pooled``, ``copying-pooled``:
    samples of the student, or the copier, and of ``recall`` in one vote. ``routed``,
    ``copying-routed``: asked only where a classifier of the prompt (``options``) says so.
    ``verifying``: the student verifies its own answer. ``judged``: the teacher's model does."""
    p_teacher: float | None = None
    """Chance in [0, 1] that the policy ``random`` hands a step to the teacher."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the policy as JSON values; what is missing is as configured."""
    static: bool = False
    """Whether the demonstrations are the same at every step, instead of retrieved."""
    routed: bool = False
    """Whether the configured routing and sticky escalation take part."""
    labels: bool = False
    """Whether the teacher is asked about every step of the student, too; not part of its cost."""
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
    Arm(
        "calibrated",
        "policy of the policy file",
        "calibrated",
        demonstrations=True,
        guards=GUARDS,
        routed=True,
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
