"""What the tokens of each role cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.runtime.pricing import Price, PriceTable
from tutelage.runtime.types import Served


@dataclass(frozen=True, slots=True)
class Ledger:
    """The price of each role, fixed when the runtime is assembled."""

    prices: Mapping[Served, Price]
    table: PriceTable | None = None
    """Prices a role that has none here by the model that the client asked for."""

    def price(self, role: Served, model: str) -> Price:
        """The price of a role.

        Args:
            role: Whose tokens.
            model: The model that the client asked for.

        Raises:
            PriceUnknown: Neither the role nor the model has a price.
        """
        price = self.prices.get(role)
        return price if price is not None else (self.table or PriceTable({})).price(model)
