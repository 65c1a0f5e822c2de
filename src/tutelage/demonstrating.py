"""Configuration to retrieval: which demonstrations a step is shown, and what they may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.runtime.types import Demonstration, Step

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.retrieval.demonstration_budget import BudgetLimits, DemonstrationBudget
    from tutelage.retrieval.embedding import Vectors
    from tutelage.retrieval.worth import MeasuredWorth
    from tutelage.runtime.protocols import Retriever

_DAY_S = 86_400.0
_WORTH_S = 300.0
"""How often it is looked at what demonstrations are worth: all exposures are read for it."""


def keyed(
    assembly: Assembly, k: int, before: int, after: int, *, budgeted: bool = False
) -> Retriever:
    """Finds demonstrations in the bank of an assembly.

    Args:
        assembly: Bank, student and configuration.
        k: Demonstrations at most.
        before: Turns shown before the one to imitate.
        after: Turns shown after it.
        budgeted: Whether a configured budget holds.
    """
    from tutelage.retrieval.selection import KeyedRetriever, Selection

    chosen = assembly.config.retrieval
    return KeyedRetriever(
        assembly.bank,
        Selection(
            k=k,
            before=before,
            after=after,
            pool=chosen.pool,
            goal_weight=chosen.goal_weight,
            diversity=chosen.diversity or 0.0,
            rebind=chosen.rebind,
        ),
        budget=budget(assembly) if budgeted else None,
        project=query_projection(assembly),
    )


def query_projection(assembly: Assembly) -> Callable[[Vectors], Vectors] | None:
    """What turns the states that are searched for, as ``retrieval.query_projection`` names it.

    Raises:
        ConfigError: It cannot be read.
        EmbedderMismatch: It was trained on another embedder's vectors.
    """
    named = assembly.config.retrieval.query_projection
    if named is None:
        return None
    from tutelage.runtime.errors import ConfigError, EmbedderMismatch, TrainingError
    from tutelage.training.recipes.retriever import QueryProjection

    try:
        made = QueryProjection.load(Path(named).expanduser())
    except TrainingError as error:
        raise ConfigError(
            f"retrieval.query_projection = {named!r} cannot be used ({error}): name a folder that "
            "the recipe 'retriever' wrote"
        ) from error
    embedder = assembly.embedder
    if made.embedder != embedder.name or made.width != embedder.dimension:
        raise EmbedderMismatch(
            f"retrieval.query_projection = {named!r} was trained for the embedder "
            f"{made.embedder!r} of width {made.width}, and the bank is searched with "
            f"{embedder.name!r} of width {embedder.dimension}: train it anew with that one, or "
            "unset the key"
        )
    return made.project


def budget(assembly: Assembly) -> DemonstrationBudget | None:
    """What the demonstrations of a step may cost; ``None`` where nothing limits them.

    Raises:
        PriceUnknown: A role has no price.
    """
    from tutelage.assembly import price, teacher_cost
    from tutelage.retrieval.demonstration_budget import (
        DIVERSITY,
        BudgetLimits,
        DemonstrationBudget,
        least_value_per_token,
        token_usd,
    )
    from tutelage.runtime.prompt import demonstration_tokens

    config = assembly.config
    chosen, cascade = config.retrieval, config.cascade
    if chosen.budget_tokens is None and chosen.budget_usd is None:
        return None
    prompts = 1 if cascade.draw == "together" else cascade.samples
    one_token_usd = token_usd(price(config.student, "student"), prompts)
    teacher_usd = teacher_cost(config)

    def count(demonstration: Demonstration) -> int:
        return demonstration_tokens(demonstration, config.prompt.rendering, assembly.count_tokens)

    def limits(step: Step) -> BudgetLimits:
        call_usd = teacher_usd(step)
        # A teacher whose price nobody knows costs 0, and would make every demonstration too dear.
        least = least_value_per_token(one_token_usd, call_usd, chosen.saved_per_value)
        return BudgetLimits(
            tokens=chosen.budget_tokens,
            usd=chosen.budget_usd,
            token_usd=one_token_usd,
            least_value_per_token=least if call_usd else 0.0,
            diversity=DIVERSITY if chosen.diversity is None else chosen.diversity,
        )

    return DemonstrationBudget(count, limits, assembly.worth, most=1 + chosen.goal_weight)


def measured_worth(assembly: Assembly) -> MeasuredWorth:
    """What the demonstrations of an assembly have been worth, by the outcomes of episodes."""
    from tutelage.retrieval.exposures import Exposures
    from tutelage.retrieval.worth import MeasuredWorth

    curation = assembly.config.curation
    return MeasuredWorth(
        Exposures(assembly.engine),
        window_s=curation.window_days * _DAY_S,
        refresh_s=_WORTH_S,
        clock=time.time,
    )
