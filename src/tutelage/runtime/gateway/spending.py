"""What one call may cost, reserved before it is served, and what it has cost, settled after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.gateway.admission import Admission, Reservation
from tutelage.runtime.gateway.alias import Alias, Upstream
from tutelage.runtime.gateway.call_options import MAX_COST
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.estimate import estimate
from tutelage.runtime.gateway.token_bound import prompt_tokens, text_tokens
from tutelage.runtime.pricing import Price
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import Completion, Mode, Trace, Usage

NOTHING = Usage()


class Spending:
    """The money and tokens of one call.

    Args:
        admission: Who keeps the budgets.
        caller: Whose money it is.
        alias: What serves the call.
        raw: The body.
        body: The same, decoded.
    """

    def __init__(
        self,
        admission: Admission,
        caller: Caller,
        alias: Alias,
        raw: bytes,
        body: Mapping[str, Any],
    ) -> None:
        self.upstream: Upstream | None = None
        """The one that answered, once it is known."""
        self.is_estimated = False
        """Whether the upstream told too little, so that its tokens are estimated."""
        self._admission = admission
        self._caller = caller
        self._alias = alias
        self._raw = raw
        self._body = body
        self._reservation: Reservation | None = None

    @property
    def price(self) -> Price | None:
        """Of the upstream that answered, else of the one asked first; ``None``: it has no own."""
        return self.asked.price

    @property
    def asked(self) -> Upstream:
        """The upstream that answered, else the one that is asked first."""
        return self.upstream or self._alias.upstreams[0]

    @property
    def is_reserved(self) -> bool:
        """Whether something is held back that has to be settled."""
        return self._reservation is not None

    async def reserve(self, mode: Mode, *, samples: int, ceiling_usd: float | None) -> None:
        """Holds back what the call may cost, if its key has a limit.

        Args:
            mode: How the call is served.
            samples: Student answers that it may draw.
            ceiling_usd: What the client allows it to cost.

        Raises:
            BadRequest: It may cost more than the client allows.
            OverLimit: A rate limit of the key is reached.
            OverBudget: What is left of the key's budget does not cover it.
            PriceUnknown: It has no price that could be held to a budget.
        """
        if not self._caller.is_limited and ceiling_usd is None:
            return
        found = estimate(self._raw, self._body, self._alias, mode, samples=samples)
        if ceiling_usd is not None and found.cost_usd > ceiling_usd:
            raise BadRequest(
                f"the request may cost ${found.cost_usd:.6f}, more than {MAX_COST} = "
                f"{ceiling_usd:g}: raise it, or ask for fewer tokens",
                param=MAX_COST,
                code="max_cost_exceeded",
            )
        self._reservation = await self._admission.admit(
            self._caller, estimate_usd=found.cost_usd, estimate_tokens=found.tokens
        )

    def metered(self, told: Usage = NOTHING, said: Callable[[], str] = str) -> Usage:
        """The usage that an upstream told; what it left out is estimated as for the reservation.

        Args:
            told: What it told; an endpoint that does not count says nothing, or zero.
            said: Gives what it answered, in all choices; asked only if it is needed.
        """
        prompt = 0 if told.prompt_tokens else prompt_tokens(self._raw, self._body)
        output = 0 if told.output_tokens else text_tokens(said().encode(errors="surrogatepass"))
        if not prompt and not output:
            return told
        self.is_estimated = True
        return told + Usage(input_tokens=prompt, output_tokens=output)

    async def settle(self, trace: Trace | None, usage: Usage | None) -> None:
        """Books what the call has cost; its own price counts where there is no trace of it.

        Args:
            trace: What was written down of it.
            usage: Tokens of a call of which nothing is.
        """
        if self._reservation is None:
            return
        used = [usage] if usage is not None else []
        model = str(self._body.get("model"))
        price = self.price or self._alias.runtime.price("teacher", model)
        cost_usd = sum(price.cost_usd(one) for one in used) if price is not None else 0.0
        if trace is not None:
            used, cost_usd = list(trace.usage.values()), sum(trace.cost_usd.values())
        tokens = sum(one.prompt_tokens + one.output_tokens for one in used)
        await self._reservation.settle(cost_usd, tokens)


def all_said(completion: Completion) -> str:
    """The text of all choices, thoughts and calls with it: what an endpoint bills as output."""
    texts: list[str] = []
    for choice in completion.choices:
        texts.append(str((choice.message.model_extra or {}).get("reasoning_content") or ""))
        texts.append(action_text(choice.message))
    return "".join(texts)
