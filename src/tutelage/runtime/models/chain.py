"""Several models by cost: each one answers where its samples agree, or passes the prompt on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.chunks import chunks
from tutelage.runtime.errors import ModelError
from tutelage.runtime.pricing import Price
from tutelage.runtime.protocols import AgreementRule, Model, rule_for
from tutelage.runtime.types import Agreement, ChatRequest, Choice, Completion, Message, Usage

FirstTier = Callable[[ChatRequest], Awaitable[int]]
"""Which tier is asked first, 0 for the cheapest; the number of tiers: none of them."""


class TieredUsage(Usage):
    """Tokens of several models, in sum and by the name of each."""

    tiers: dict[str, Usage]

    def __add__(self, other: Usage) -> TieredUsage:
        return _added(self, other)

    def __radd__(self, other: Usage) -> TieredUsage:
        return _added(self, other)


@dataclass(frozen=True, slots=True)
class TieredPrice(Price):
    """The prices of several models, for tokens that say which of them took them."""

    tiers: Mapping[str, Price] | None = None
    """By name; tokens of no tier have the price that this is itself."""

    def cost_usd(self, usage: Usage) -> float:
        """USD of the tokens with cached ones at their own price."""
        own, tiers = self._split(usage)
        cost_usd = Price.cost_usd(self, own)
        return cost_usd + sum(price.cost_usd(tokens) for price, tokens in tiers)

    def uncached_cost_usd(self, usage: Usage) -> float:
        """USD of the tokens with every prompt token at the full input price of its model."""
        own, tiers = self._split(usage)
        cost_usd = Price.uncached_cost_usd(self, own)
        return cost_usd + sum(price.uncached_cost_usd(tokens) for price, tokens in tiers)

    def _split(self, usage: Usage) -> tuple[Usage, list[tuple[Price, Usage]]]:
        """The tokens of no tier, and those of each tier with its price."""
        if not isinstance(usage, TieredUsage) or self.tiers is None:
            return usage, []
        priced = [(self.tiers[name], used) for name, used in usage.tiers.items()]
        taken = sum((used for _, used in priced), Usage())
        own = {name: getattr(usage, name) - count for name, count in taken}
        return Usage(**own), priced


@dataclass(frozen=True, slots=True)
class Tier:
    """One model of a chain."""

    name: str
    model: Model


class ChainModel:
    """Asks models from cheap to dear, until the samples of one agree.

    What the last one says is the answer, agreed or not: whoever asked counts the votes again, and
    may go on to a teacher. A model that fails is passed over. The usage is that of all models that
    were asked, by tier.

    Source: agreement-based cascades of several models (arXiv 2407.02348); the choice of a first
    tier for each instance as in MST-Distill (arXiv 2507.07015), for models that show no logits.

    Args:
        tiers: Cheap to dear; at least one.
        agreement: When the samples of a tier agree.
        samples: Least number of samples of a tier.
        first: Says who is asked first; absent: the cheapest.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        agreement: AgreementRule,
        samples: int,
        first: FirstTier | None = None,
    ) -> None:
        self._tiers = tuple(tiers)
        self._agreement = agreement
        self._samples = samples
        self._first = first

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """``n`` choices of the first tier that agrees, those that name its action first.

        Where all tiers are passed by, it is one empty choice that nobody has paid for.

        Raises:
            ModelError: All tiers that were asked failed.
        """
        first = 0 if self._first is None else await self._first(request)
        rule = rule_for(self._agreement, request.tools or ())
        usage = TieredUsage(tiers={})
        failure: ModelError | None = None
        answer: Completion | None = None
        for tier in self._tiers[first:]:
            try:
                said = await tier.model.complete(request, max(n, self._samples))
            except ModelError as error:
                failure = error
                continue
            usage += TieredUsage(**dict(said.usage), tiers={tier.name: said.usage})
            votes = rule.measure(said.choices)
            answer = said.model_copy(update={"choices": _ordered(said.choices, votes, rule)[:n]})
            if votes.agreed:
                break
        if answer is None:
            if failure is not None:
                raise failure
            empty = Choice(index=0, message=Message(role="assistant", content=""))
            answer = Completion(id="passed-on", model=request.model, choices=[empty])
        return answer.model_copy(update={"usage": usage, "usage_details": {}})

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The answer of ``complete`` as chunks.

        Raises:
            ModelError: As in ``complete``.
        """
        for chunk in chunks(await self.complete(request), usage=True):
            yield chunk


def _ordered(choices: Sequence[Choice], votes: Agreement, rule: AgreementRule) -> list[Choice]:
    """The choices, with those in front that name the most frequent action."""
    key = None if votes.chosen is None else rule.action(choices[votes.chosen])
    ordered = sorted(choices, key=lambda choice: key is not None and rule.action(choice) != key)
    return [choice.model_copy(update={"index": place}) for place, choice in enumerate(ordered)]


def _added(left: TieredUsage, right: Usage) -> TieredUsage:
    total = Usage.__add__(left, right)
    tiers = dict(left.tiers)
    for name, used in (right.tiers if isinstance(right, TieredUsage) else {}).items():
        tiers[name] = tiers.get(name, Usage()) + used
    return TieredUsage(**dict(total), tiers=tiers)
