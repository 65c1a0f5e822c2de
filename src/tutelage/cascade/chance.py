"""Tosses that can be repeated."""

from __future__ import annotations

import hashlib
import json

from tutelage.runtime.types import Decision, Reason


def toss(seed: int, *names: str | int) -> float:
    """A number in [0, 1), uniform over names, and always the same for the same ones.

    A hash, so that a resumed episode repeats its tosses and the order of episodes does not matter.
    """
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    # 53 bits, so that the quotient is exact and below 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def tossed(drawn: float, p_teacher: float) -> Decision:
    """Who serves by a toss, with the chance of that.

    Args:
        drawn: The toss, in [0, 1).
        p_teacher: Chance of the teacher.
    """
    if drawn < p_teacher:
        return Decision(served="teacher", reason=Reason.RANDOM, score=drawn, chance=p_teacher)
    return Decision(served="student", reason=Reason.RANDOM, score=drawn, chance=1 - p_teacher)
