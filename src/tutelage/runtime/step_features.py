"""What is known of a step when it is decided, beside the votes of its samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

from tutelage.runtime.errors import TutelageError
from tutelage.runtime.models.failures import log_line
from tutelage.runtime.protocols import Describer
from tutelage.runtime.types import Agreement, Choice

if TYPE_CHECKING:
    from tutelage.runtime.deliberation import Deliberation

logger = logging.getLogger(__name__)

POLICY_FAULTS = (TutelageError, ArithmeticError, LookupError, TypeError, ValueError)
"""What a policy or a describer may raise without failing the request."""


def described(
    describer: Describer, thought: Deliberation, agreement: Agreement
) -> Mapping[str, float]:
    """What else is known of the step; nothing where that cannot be told."""
    try:
        return describer.describe(thought.step, agreement, thought.near)
    except POLICY_FAULTS as error:
        logger.warning("a step cannot be described: %s", log_line(error))
        return {}


def unaided_features(thought: Deliberation, agreement: Agreement) -> Mapping[str, float]:
    """What the samples without demonstrations said, where the student is first asked so.

    ``unaided``: 1 if they are the ones that are decided on, 0 if others were drawn with
    demonstrations. ``unaided_agreement``: the share of their modal action. ``unaided_same``:
    whether the samples with demonstrations name that action, too; missing without such.
    """
    if thought.unaided is None:
        alone = not thought.demonstrations
        return {"unaided": 1.0, "unaided_agreement": agreement.share} if alone else {}
    same = thought.unaided.modal is not None and thought.unaided.modal == agreement.modal
    return {
        "unaided": 0.0,
        "unaided_agreement": thought.unaided.share,
        "unaided_same": float(same),
    }


def logprobs_of(choice: Choice) -> tuple[float, ...]:
    """Log-probabilities of a sample's tokens, where the endpoint told them."""
    tokens = (choice.logprobs or {}).get("content") or ()
    values = [token.get("logprob") for token in tokens if isinstance(token, Mapping)]
    return tuple(
        float(value) for value in values if isinstance(value, int | float) and isfinite(value)
    )
