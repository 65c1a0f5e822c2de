"""Durations as people write them."""

from __future__ import annotations

import re

from tutelage.runtime.errors import ConfigError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])", re.ASCII)


def seconds(text: str, option: str) -> float:
    """``6h`` in seconds.

    Raises:
        ConfigError: It is no duration, or none above 0.
    """
    found = _FORM.fullmatch(text.strip().lower())
    value = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not value:
        raise ConfigError(f"{option} {text!r} is no duration: write 90s, 30m, 6h or 1d")
    return value
