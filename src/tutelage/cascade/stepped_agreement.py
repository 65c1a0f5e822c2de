"""An agreement rule that knows the tools of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import canonicalizer_for
from tutelage.runtime.protocols import AgreementRule
from tutelage.runtime.types import Agreement, Choice


class SteppedAgreement:
    """Any agreement rule, made anew for the tools of each step.

    Used as it is, it compares without schemas.

    Args:
        canonicalizer: Maps a sample to its action; see ``ToolCanonicalizer.for_tools``.
        make: The rule over a canonical form, as in ``Unanimous``.
    """

    def __init__(
        self, canonicalizer: Canonicalizer, make: Callable[[Canonicalizer], AgreementRule]
    ) -> None:
        self._canonicalizer = canonicalizer
        self._make = make
        self._untold = make(canonicalizer)

    def for_tools(self, tools: Sequence[Mapping[str, Any]]) -> AgreementRule:
        """The rule for a step that offers these OpenAI tools."""
        form = canonicalizer_for(self._canonicalizer, tools)
        return self._untold if form is self._canonicalizer else self._make(form)

    def measure(self, choices: Sequence[Choice], planned: int | None = None) -> Agreement:
        """Votes of the samples, compared without schemas."""
        return self._untold.measure(choices, planned)

    def action(self, choice: Choice) -> str | None:
        """The canonical key of one sample's action; ``None`` if it names none."""
        return self._untold.action(choice)
