"""The models that clients may ask for, and who stands behind them."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tutelage.runtime.errors import BadRequest, Forbidden
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.models.transport import Transport
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.pricing import Price
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import Mode
from tutelage.runtime.wires.protocol import WireName

ANY = "*"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One endpoint of a teacher."""

    name: str
    model: Model
    """Asks it for chat requests of any client."""
    transport: Transport | None = None
    """Asks it in its own wires; ``None``: there are only chat requests."""
    wires: Collection[WireName] = ()
    """Wires in which a client's own bytes may be relayed to it."""
    model_name: str | None = None
    """Its own name of the model; ``None``: the one that the client asked for."""
    price: Price | None = None
    """``None``: priced by the model that the client asked for."""


@dataclass(frozen=True, slots=True)
class CertifiedRisk:
    """What a calibration certifies of a policy."""

    alpha: float
    """Risk that is not exceeded, at the confidence of the calibration."""
    estimate: float
    """Risk seen in the calibration episodes."""
    bound: float
    """Upper bound of the risk at the chosen threshold alone."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A model name, and how it is served."""

    name: str
    """``*``: any name that is not configured."""
    mode: Mode
    runtime: Runtime
    upstreams: tuple[Upstream, ...]
    """Tried in this order."""
    policy: str
    student: str | None = None
    """What answers call the student."""
    risk: CertifiedRisk | None = None
    """What is certified of its policy."""
    student_prompt_tokens: int = 0
    """What demonstrations may add to the student's prompt."""

    def speaks(self, wire: WireName) -> bool:
        """Whether an upstream can be given a client's own bytes."""
        return any(wire in upstream.wires for upstream in self.upstreams)

    def relays(self, wire: WireName) -> bool:
        """Whether every upstream can be given them, so that nobody has to read them here."""
        for upstream in self.upstreams:  # noqa: SIM110 - a generator costs more, in every call
            if wire not in upstream.wires:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Aliases:
    """All models by name."""

    by_name: Mapping[str, Alias]

    def find(self, model: object, caller: Caller) -> Alias:
        """The alias for a model that a caller asks for.

        Raises:
            BadRequest: There is no such model; ``code`` is ``model_not_found``.
            Forbidden: The caller's key does not open it.
        """
        if not isinstance(model, str) or not model.strip():
            raise BadRequest("model is missing: name one of GET /v1/models", param="model")
        if caller.aliases is not None and not any(
            fnmatch.fnmatchcase(model, allowed) for allowed in caller.aliases
        ):
            raise Forbidden(f"this key does not open the model {model[:80]!r}")
        alias = self.named(model)
        if alias is None or model == ANY:
            raise BadRequest(
                f"the model {model[:80]!r} does not exist here: GET /v1/models lists them",
                param="model",
                code="model_not_found",
            )
        return alias

    def named(self, model: str) -> Alias | None:
        """The alias of a name, or the one of any name; ``None`` if there is neither."""
        return self.by_name.get(model) or self.by_name.get(ANY)

    def names(self, caller: Caller) -> list[str]:
        """Configured names that a caller may ask for."""
        return [
            name
            for name in self.by_name
            if name != ANY
            and (
                caller.aliases is None
                or any(fnmatch.fnmatchcase(name, allowed) for allowed in caller.aliases)
            )
        ]
