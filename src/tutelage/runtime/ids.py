"""Names of things that are made by the million."""

from __future__ import annotations

import os
import time

_RANDOM_BYTES = 10


def new_id() -> str:
    """A new name: 32 hexadecimal digits, 80 bits of them random, that sorts by time of making.

    Neighbours in time are neighbours in a database's index, so that writing many of them touches
    few of its pages. Names stay unique, though not in order, when the clock jumps.
    """
    return f"{time.time_ns() // 1_000_000:012x}" + os.urandom(_RANDOM_BYTES).hex()
