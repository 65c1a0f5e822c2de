"""What a client asks of us, and not of the model, by its headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import Mode, Served

MODE = "x-tutelage-mode"
FORCE = "x-tutelage-force"
NO_TRAIN = "x-tutelage-no-train"
MAX_COST = "x-tutelage-max-cost-usd"
RISK = "x-tutelage-risk"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """The options of one call."""

    mode: Mode | None = None
    force: Served | None = None
    no_train: bool = False
    max_cost_usd: float | None = None
    max_risk: float | None = None
    """Risk that the client bears; a policy that is not certified for it leaves the step to the
    teacher."""


_NAMES = frozenset({MODE, FORCE, NO_TRAIN, MAX_COST, RISK})
_NONE = CallOptions()


def read_options(headers: Mapping[str, str], configured: Mode) -> CallOptions:
    """The options in a client's headers.

    Args:
        headers: By lower-case name.
        configured: The mode of the model; a client may ask for the teacher alone instead, never
            for less of the teacher than is configured.

    Raises:
        BadRequest: A value is not one of those allowed; ``param`` is the header.
    """
    if _NAMES.isdisjoint(headers):
        return _NONE
    mode = headers.get(MODE)
    force = headers.get(FORCE)
    if mode is not None and mode not in (configured, "passthrough"):
        raise _unknown(MODE, mode, f"this model is served as {configured} or passthrough")
    if force is not None and force not in ("student", "teacher"):
        raise _unknown(FORCE, force, "give student or teacher")
    return CallOptions(
        mode="passthrough" if mode == "passthrough" else None,
        force="teacher" if force == "teacher" else "student" if force == "student" else None,
        no_train=headers.get(NO_TRAIN, "").strip().lower() in ("1", "true", "yes"),
        max_cost_usd=_dollars(headers.get(MAX_COST)),
        max_risk=_share(headers.get(RISK)),
    )


def _dollars(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise _unknown(MAX_COST, text, "give dollars, for example 0.05")
    return value


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise _unknown(RISK, text, "give a share, for example 0.05")
    return value


def _unknown(header: str, value: str, advice: str) -> BadRequest:
    return BadRequest(f"{header}: {value[:40]!r}: {advice}", param=header, code="invalid_header")
