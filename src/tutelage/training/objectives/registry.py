"""The objectives by name; listing them loads no torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from tutelage.runtime.errors import MissingExtra, TrainingError
from tutelage.training.objectives.objective import Objective
from tutelage.training.objectives.signal import Signal

Factory = Callable[..., Objective]


@dataclass(frozen=True, slots=True)
class Row:
    """An objective that can be asked for."""

    factory: str
    """``module:function`` in this folder; its keyword arguments are the options."""
    signal: Signal
    summary: str
    experimental: str | None = None
    """What was measured where it did not beat plain fine-tuning: its gain in success in the toy
    world at equal tokens, 6 seeds, with a 90 % interval; docs/how-to/objectives.md has the rest."""


OBJECTIVES: Final[Mapping[str, Row]] = {
    "sft": Row("supervised:sft_objective", Signal.TEXT, "cross-entropy of the actions"),
    "sft-normalised": Row(
        "supervised:normalised_sft_objective",
        Signal.TEXT,
        "cross-entropy, each answer weighs alike",
        "gain in success +0.000 (+0.000 to +0.000)",
    ),
    "step-by-step": Row(
        "step_by_step:step_by_step_objective",
        Signal.TEXT,
        "action and, apart, the reason",
        "gain in success -0.504 (-0.586 to -0.424)",
    ),
    "redi": Row(
        "redi:redi_objective",
        Signal.TEXT,
        "right answers up, wrong ones down",
        "gain in success -0.359 (-0.443 to -0.277)",
    ),
    "certainty": Row(
        "certainty:certainty_objective",
        Signal.TEXT,
        "surer where the prediction is right",
        "gain in success -0.017 (-0.064 to +0.035)",
    ),
    "context": Row(
        "context_distillation:context_objective",
        Signal.TEXT,
        "demonstrations to weights",
        "gain in success -0.677 (-0.719 to -0.635)",
    ),
    "alm": Row(
        "alm:alm_objective",
        Signal.LOG_PROBS,
        "chunk likelihoods of any tokenizer",
        "gain in success -0.132 (-0.183 to -0.076)",
    ),
    "dpo": Row(
        "preference:dpo_objective",
        Signal.LOG_PROBS,
        "pairs, the teacher as reference",
        "gain in success -0.312 (-0.423 to -0.216)",
    ),
    "kto-pair": Row(
        "preference:kto_pair_objective",
        Signal.LOG_PROBS,
        "likewise, each answer alone",
        "gain in success -0.272 (-0.378 to -0.177)",
    ),
    "top-k-kl": Row(
        "divergences:top_k_objective",
        Signal.TOP_K,
        "forward KL on the top tokens",
        "gain in success -0.115 (-0.184 to -0.042)",
    ),
    "fkl": Row(
        "divergences:fkl_objective",
        Signal.LOGITS,
        "forward KL",
        "gain in success -0.105 (-0.151 to -0.059)",
    ),
    "rkl": Row(
        "divergences:rkl_objective",
        Signal.LOGITS,
        "reverse KL",
        "gain in success -0.546 (-0.594 to -0.488)",
    ),
    "jsd": Row(
        "divergences:jsd_objective",
        Signal.LOGITS,
        "generalised JSD",
        "gain in success -0.090 (-0.157 to -0.022)",
    ),
    "skew-fkl": Row(
        "divergences:skew_fkl_objective",
        Signal.LOGITS,
        "skewed forward KL",
        "gain in success -0.089 (-0.147 to -0.037)",
    ),
    "skew-rkl": Row(
        "divergences:skew_rkl_objective",
        Signal.LOGITS,
        "skewed reverse KL",
        "gain in success -0.182 (-0.300 to -0.079)",
    ),
    "tvd": Row(
        "divergences:tvd_objective",
        Signal.LOGITS,
        "total variation",
        "gain in success -0.578 (-0.637 to -0.522)",
    ),
    "adaptive-kl": Row(
        "divergences:adaptive_kl_objective",
        Signal.LOGITS,
        "head and tail weighed",
        "gain in success -0.212 (-0.326 to -0.088)",
    ),
    "taid": Row(
        "taid:taid_objective",
        Signal.LOGITS,
        "a target that moves to the teacher",
        "gain in success -0.127 (-0.219 to -0.046)",
    ),
    "clipped-kl": Row(
        "revision:clipped_kl_objective",
        Signal.LOGITS,
        "forward KL without the teacher's tail",
        "gain in success -0.677 (-0.719 to -0.635)",
    ),
    "mi-alpha": Row(
        "mi_alpha:mi_alpha_objective",
        Signal.HIDDEN_STATES,
        "hidden states, for encoders",
        "gain in success +0.044 (-0.002 to +0.086)",
    ),
}


def objective(name: str, options: Mapping[str, object] | None = None) -> Objective:
    """Makes an objective.

    Args:
        name: A key of ``OBJECTIVES``, or ``module:function`` of another package.
        options: Keyword arguments of its factory.

    Raises:
        TrainingError: The name or an option is unknown, or an option is out of range.
        MissingExtra: torch is not installed.
    """
    given = dict(options or {})
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        known = ", ".join(inspect.signature(factory).parameters) or "none"
        raise TrainingError(
            f"objective {name!r} cannot be made of {sorted(given)}: its options are {known}"
        ) from error
    return factory(**given)


def _factory(name: str) -> Factory:
    row = OBJECTIVES.get(name)
    if row is None and ":" not in name:
        raise TrainingError(f"unknown objective {name!r}: give one of {', '.join(OBJECTIVES)}")
    path = name if row is None else f"{__package__}.{row.factory}"
    module, _, function = path.partition(":")
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise MissingExtra("torch", "train") from error
        raise TrainingError(f"objective {name!r}: there is no module {error.name}") from error
    except AttributeError as error:
        raise TrainingError(f"objective {name!r}: {module} has no {function}") from error
