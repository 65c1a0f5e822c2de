"""The deferral policies by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.cascade.always_student import AlwaysStudent
from tutelage.cascade.always_teacher import AlwaysTeacher
from tutelage.cascade.paper import Paper
from tutelage.cascade.random_mix import RandomMix
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import DeferralPolicy

POLICIES: Mapping[str, Callable[..., DeferralPolicy]] = {
    "always-teacher": AlwaysTeacher,
    "always-student": AlwaysStudent,
    "random": RandomMix,
    "paper": Paper,
}


CALIBRATED = ("calibrated", "benefit")
"""Policies that are made from what a calibration wrote."""


def policy_named(name: str, **options: Any) -> DeferralPolicy:
    """The policy of a name, built with its options.

    Raises:
        ConfigError: The name or an option is unknown, or an option is missing or out of range.
    """
    factory = POLICIES.get(name)
    if factory is None:
        known = [*POLICIES, *CALIBRATED]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"
        raise ConfigError(f"policy = {name!r} is unknown: {hint}")
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "no options"
        raise ConfigError(f"policy {name!r}: {error}; it takes {takes}") from error
    return factory(**options)
