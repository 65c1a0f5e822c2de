"""The guards by name, and a policy inside several of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.guards.loop import LoopGuard
from tutelage.cascade.guards.rejection import REFUSALS, RejectionGuard
from tutelage.cascade.guards.stall import StallGuard
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the guards need to know."""

    canonicalizer: Canonicalizer
    refusals: Sequence[str] = REFUSALS
    """Parts of an observation by which the world refuses an action."""
    stall_window: int = 6
    """Turns without a new observation that count as a stall."""


GUARDS: Mapping[str, Callable[[DeferralPolicy, GuardOptions], DeferralPolicy]] = {
    "loop": lambda policy, options: LoopGuard(policy, options.canonicalizer),
    "rejection": lambda policy, options: RejectionGuard(policy, options.refusals),
    "stall": lambda policy, options: StallGuard(policy, options.stall_window),
}
"""Innermost first: of several guards that veto a step at once, the first here gives the reason."""


def guarded(
    policy: DeferralPolicy, names: Collection[str], options: GuardOptions
) -> DeferralPolicy:
    """The policy inside the named guards, in the order of ``GUARDS`` whatever the order of names.

    A guard only ever turns a step of the student into one of the teacher.

    Raises:
        ConfigError: A name is unknown.
    """
    for name in names:
        if name not in GUARDS:
            near = difflib.get_close_matches(name, GUARDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(GUARDS)}"
            raise ConfigError(f"guards: {name!r} is unknown: {hint}")
    for name, wrap in GUARDS.items():
        if name in names:
            policy = wrap(policy, options)
    return policy
