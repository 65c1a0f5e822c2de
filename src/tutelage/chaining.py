"""Configuration to a chain: the student, the models between it and the teacher, their prices."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.runtime.chain_config import check_chain
from tutelage.runtime.config import Config
from tutelage.runtime.errors import PriceUnknown
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.runtime.models.chain import FirstTier, Tier
    from tutelage.runtime.pricing import Price

STUDENT = "student"
TEACHER = "teacher"


class Chain:
    """The models that follow the student, each made once.

    Args:
        assembly: What is configured.
    """

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def behind(self, student: Model | None) -> Model | None:
        """The student, followed by the tiers that are configured; itself where there are none.

        Raises:
            ConfigError: A tier is unknown or its key is missing, samples are drawn in several
                calls, or the gate is not usable.
        """
        config = self._assembly.config
        check_chain(config)
        if student is None or not config.chain.tiers:
            return student
        from tutelage.runtime.models.chain import ChainModel, Tier

        tiers = [Tier(STUDENT, student), *self._tiers]
        samples = config.chain.samples or max(2, config.cascade.samples)
        return ChainModel(tiers, self._assembly.policies.agreement(), samples, self._first)

    @cached_property
    def _tiers(self) -> list[Tier]:
        from tutelage.endpoints import endpoint
        from tutelage.runtime.models.chain import Tier

        config, made = self._assembly.config, []
        for name in config.chain.tiers:
            model = endpoint(config.upstreams[name], f"upstreams.{name}")
            self._assembly.close_later(model.aclose)
            made.append(Tier(name, model))
        return made

    @cached_property
    def _first(self) -> FirstTier | None:
        chosen = self._assembly.config.chain
        if chosen.gate is None:
            return None
        from tutelage.benchmarks.baselines.prompt_router import routed_text
        from tutelage.cascade.instance_gate import InstanceGate

        embedder = self._assembly.embedder
        gate = InstanceGate.read(Path(chosen.gate), (STUDENT, *chosen.tiers, TEACHER))

        async def first(request: ChatRequest) -> int:
            said = [(message.role, message.text) for message in request.messages]
            (vector,) = await embedder.embed([routed_text(said)])
            return gate.first(vector)

        return first


def with_tiers(config: Config, student: Price) -> Price:
    """The price of the student's role: that of each tier for its tokens.

    Raises:
        ConfigError: A tier is unknown.
        PriceUnknown: Nobody knows what one costs.
    """
    check_chain(config)
    if not config.chain.tiers:
        return student
    from tutelage.assembly import price
    from tutelage.runtime.models.chain import TieredPrice

    tiers = {}
    for name in config.chain.tiers:
        try:
            tiers[name] = price(config.upstreams[name], "student")
        except PriceUnknown as error:
            unknown = str(error).removeprefix("student: ")
            raise PriceUnknown(f"upstreams.{name}: {unknown}") from None
    return TieredPrice(
        student.input,
        student.output,
        student.cache_read,
        student.cache_write,
        student.as_of,
        student.source,
        {STUDENT: student, **tiers},
    )
