"""What tokens cost: prices by bucket, from a dated table that a user can override."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tutelage.runtime.errors import ConfigError, PriceUnknown
from tutelage.runtime.types import Usage

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a model, USD per million tokens.

    Raises:
        ConfigError: A price is negative or not finite.
    """

    input: float
    output: float
    cache_read: float | None = None
    """``None``: tokens read from a prompt cache are billed as input."""
    cache_write: float | None = None
    """``None``: tokens written to a prompt cache are billed as input."""
    as_of: date | None = None
    """Day on which the prices held."""
    source: str = "given by the user"

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"price {name} = {value}: give USD per million tokens, 0 or more")

    @classmethod
    def free(cls, source: str) -> Price:
        """No cost for any token; nothing is ever free unless this says so.

        Args:
            source: Why, for example ``in-process student``.
        """
        return cls(input=0.0, output=0.0, source=source)

    def cost_usd(self, usage: Usage) -> float:
        """USD of the tokens with cached ones at their own price."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        return (
            usage.input_tokens * self.input
            + usage.cache_read_tokens * read
            + usage.cache_write_tokens * write
            + usage.output_tokens * self.output
        ) / _MILLION

    def uncached_cost_usd(self, usage: Usage) -> float:
        """USD of the tokens with every prompt token at the full input price."""
        prompt = usage.prompt_tokens * self.input
        return (prompt + usage.output_tokens * self.output) / _MILLION


_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Row(BaseModel):
    """A model in the price file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: _Rate
    output: _Rate
    cache_read: _Rate | None = None
    cache_write: _Rate | None = None
    as_of: date
    source: str
    aliases: tuple[str, ...] = ()


class PriceTable:
    """Prices by model name; names are matched exactly.

    Args:
        prices: Prices by model name.
    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)

    @classmethod
    def shipped(cls, overrides: Mapping[str, Price] | None = None) -> PriceTable:
        """The table that comes with the package, list prices of October 2025.

        Args:
            overrides: Own prices by model name; they win.
        """
        text = files("tutelage.runtime").joinpath("prices.toml").read_text(encoding="utf-8")
        return cls({**parse_prices(text, "prices.toml"), **(overrides or {})})

    def price(self, model: str) -> Price:
        """The price of a model.

        Raises:
            PriceUnknown: The table has no such model; the text names similar ones.
        """
        found = self._prices.get(model)
        if found is None:
            raise PriceUnknown(self._hint(model))
        return found

    def cost_usd(self, usage: Usage, model: str) -> float:
        """USD of the tokens with cached ones at their own price.

        Raises:
            PriceUnknown: The table has no such model.
        """
        return self.price(model).cost_usd(usage)

    def uncached_cost_usd(self, usage: Usage, model: str) -> float:
        """USD of the tokens with every prompt token at the full input price.

        Raises:
            PriceUnknown: The table has no such model.
        """
        return self.price(model).uncached_cost_usd(usage)

    def _hint(self, model: str) -> str:
        by_lower = {name.lower(): name for name in self._prices}
        asked = model.lower()
        near = [name for name in by_lower if asked and (name in asked or asked in name)]
        near += difflib.get_close_matches(asked, by_lower, n=3)
        names = ", ".join(by_lower[name] for name in dict.fromkeys(near))
        similar = f"similar models in the table: {names}" if names else "no similar model is known"
        return (
            f"no price for model {model!r}; {similar}; name one of them as `priced_as`, or give"
            " `price = { input = …, output = … }` in USD per million tokens"
        )


def parse_prices(text: str, origin: str) -> dict[str, Price]:
    """Prices by model name and alias from the text of a TOML price file.

    Args:
        text: One table a model, as in ``prices.toml`` of this package.
        origin: What errors call the file.

    Raises:
        ConfigError: The text is not TOML, a row is malformed, or two rows claim a name.
    """
    try:
        rows = TypeAdapter(dict[str, _Row]).validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{origin}: {key} = {problem['input']!r}: {problem['msg']}") from error
    prices: dict[str, Price] = {}
    for model, row in rows.items():
        price = Price(row.input, row.output, row.cache_read, row.cache_write, row.as_of, row.source)
        for name in (model, *row.aliases):
            if name in prices:
                raise ConfigError(f"{origin}: {name!r} is priced twice; remove one row or alias")
            prices[name] = price
    return prices
