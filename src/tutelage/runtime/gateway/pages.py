"""What is not a call of a model: models, stored responses, feedback, decisions, health, metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import orjson

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.gateway.answer_headers import Account, account_of, facts
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.exchange import Exchange
from tutelage.runtime.gateway.feedback import Feedback
from tutelage.runtime.gateway.health import AliasParts, readiness
from tutelage.runtime.gateway.openapi import openapi
from tutelage.runtime.gateway.parts import Parts
from tutelage.runtime.gateway.routing import RouteName
from tutelage.runtime.models.failures import without_addresses
from tutelage.runtime.types import Trace

if TYPE_CHECKING:
    from tutelage.runtime.gateway.app import Gateway

# A decision may be asked for before the worker that served it has written it down.
_PATIENCE: Final = (0.0, 0.05, 0.1, 0.25, 0.5)


class Pages:
    """Answers the small calls.

    Args:
        gateway: Whose health and metrics are shown.
        parts: What it serves with.
        exchange: The call.
    """

    def __init__(self, gateway: Gateway, parts: Parts, exchange: Exchange) -> None:
        self._gateway = gateway
        self._parts = parts
        self._exchange = exchange

    async def show(
        self, name: RouteName, id: str | None, caller: Caller | None, raw: bytes
    ) -> None:
        """Answers the call.

        Args:
            name: Which.
            id: The id in the path.
            caller: Who calls; ``None`` where no key is needed.
            raw: The body.

        Raises:
            BadRequest: The call is wrong, or what it names is not there.
        """
        if name == "healthz":
            await self._exchange.respond_json(200, {"status": "ok"})
        elif name == "readyz":
            await self._show_readiness()
        elif name == "openapi":
            await self._exchange.respond_json(200, openapi())
        elif name == "metrics":
            content, kind = self._gateway.metrics.render()
            await self._exchange.respond(200, content, [(b"content-type", kind.encode())])
        else:
            assert caller is not None
            await self._show(name, id or "", caller, raw)

    async def _show(self, name: RouteName, id: str, caller: Caller, raw: bytes) -> None:
        exchange = self._exchange
        if name == "models":
            await exchange.respond_json(200, self._models(caller))
        elif name == "model":
            self._parts.aliases.find(id, caller)
            await exchange.respond_json(200, self._model(id))
        elif name == "feedback":
            await exchange.respond_json(200, await self._take_feedback(caller, raw))
        elif name == "decision":
            await exchange.respond_json(200, await self._decision(caller, id))
        elif name == "input_items":
            await exchange.respond_json(200, await self._input_items(caller, id))
        elif exchange.method == "DELETE":
            await exchange.respond_json(200, await self._delete_response(caller, id))
        else:
            found = await self._parts.responses.get(caller.tenant, id)
            if found is None:
                raise _no_response(id)
            await exchange.respond_json(200, found)

    async def _show_readiness(self) -> None:
        aliases = self._parts.aliases.by_name
        ready, reasons = readiness(
            {
                name: AliasParts(
                    alias.mode, alias.policy, tuple(one.name for one in alias.upstreams)
                )
                for name, alias in aliases.items()
            },
            {
                one.name: one.transport.breaker.state
                for alias in aliases.values()
                for one in alias.upstreams
                if one.transport is not None and one.transport.breaker is not None
            },
            has_student=any(alias.student for alias in aliases.values()),
            is_stopping=self._gateway.is_stopping,
        )
        body = {"ready": ready, "reasons": reasons}
        await self._exchange.respond_json(200 if ready else 503, body)

    def _models(self, caller: Caller) -> dict[str, Any]:
        listed = [self._model(name) for name in self._parts.aliases.names(caller)]
        if not self._is_anthropic:
            return {"object": "list", "data": listed}
        first, last = (listed[0]["id"], listed[-1]["id"]) if listed else (None, None)
        return {"data": listed, "has_more": False, "first_id": first, "last_id": last}

    def _model(self, name: str) -> dict[str, Any]:
        if self._is_anthropic:
            made = "1970-01-01T00:00:00Z"
            return {"type": "model", "id": name, "display_name": name, "created_at": made}
        return {"id": name, "object": "model", "created": 0, "owned_by": "tutelage"}

    @property
    def _is_anthropic(self) -> bool:
        return "anthropic-version" in self._exchange.headers

    async def _take_feedback(self, caller: Caller, raw: bytes) -> dict[str, Any]:
        feedback = Feedback.read(raw)
        episode_id = feedback.episode_id
        if episode_id is None:
            episode_id = (await self._trace(caller, str(feedback.decision_id))).episode_id
        record = feedback.record(caller.tenant, episode_id, self._parts.clock())
        await self._parts.traces.record_episode(record)
        if self._parts.watch is not None and feedback.success is not None:
            served = await self._parts.traces.traces(
                caller.tenant, episode_id=episode_id, served="student", limit=1
            )
            if served:
                self._parts.watch.ended(episode_id, feedback.success, served[0].student)
        if self._parts.judged is not None and feedback.success is not None:
            self._parts.judged(caller.tenant, episode_id)
        return {"object": "feedback", "episode_id": episode_id, "success": feedback.success}

    async def _decision(self, caller: Caller, id: str) -> dict[str, Any]:
        trace = await self._trace(caller, id)
        shown = trace.model_dump(mode="json", exclude={"prompt", "tenant"})
        if trace.error is not None:
            shown["error"] = without_addresses(trace.error)
        if "prompt" in self._query("include"):
            shown["prompt"] = [dict(message) for message in trace.prompt]
        return {"object": "decision", **shown, "tutelage": facts(self._account(trace))}

    def _account(self, trace: Trace) -> Account:
        """What the headers of the answer said, as far as the trace and its alias still tell."""
        alias = self._parts.aliases.named(trace.model)
        if alias is None:
            return account_of(trace)
        only = alias.upstreams[0].name if len(alias.upstreams) == 1 else "teacher"
        return account_of(trace, policy=alias.policy, student=alias.student, teacher=only)

    async def _trace(self, caller: Caller, id: str) -> Trace:
        for wait_s in _PATIENCE:
            await asyncio.sleep(wait_s)
            found = await self._parts.traces.trace(caller.tenant, id)
            if found is not None:
                return found
        raise BadRequest(f"decision {id[:80]!r} does not exist", param="id", code="not_found")

    async def _delete_response(self, caller: Caller, id: str) -> dict[str, Any]:
        if not await self._parts.responses.delete(caller.tenant, id):
            raise _no_response(id)
        return {"id": id, "object": "response.deleted", "deleted": True}

    async def _input_items(self, caller: Caller, id: str) -> dict[str, Any]:
        found = await self._parts.responses.input_items(
            caller.tenant,
            id,
            after=next(iter(self._query("after")), None),
            limit=self._limit(),
            order=next(iter(self._query("order")), "desc"),
        )
        if found is None:
            raise _no_response(id)
        return found

    def _limit(self) -> int:
        text = next(iter(self._query("limit")), "20")
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100:
            raise BadRequest(f"limit = {text[:20]!r}: give 1 to 100", param="limit")
        return int(text)

    def _query(self, name: str) -> list[str]:
        found = parse_qs(self._exchange.query.decode("latin-1"), max_num_fields=50)
        return found.get(name, []) + found.get(f"{name}[]", [])


def _no_response(id: str) -> BadRequest:
    return BadRequest(f"response {id[:80]!r} does not exist", param="id", code="not_found")


def decoded(raw: bytes) -> Any:
    """A body as JSON.

    Raises:
        BadRequest: It is none.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
