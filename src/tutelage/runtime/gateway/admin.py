"""The administration: keys, budgets, the audit log and reloads, behind keys of its own class."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tutelage.runtime.config import Config
from tutelage.runtime.errors import (
    BadRequest,
    Forbidden,
    KeysUnavailable,
    StoreError,
    TutelageError,
    Unauthenticated,
)
from tutelage.runtime.gateway.admission import Admission
from tutelage.runtime.gateway.key_store import IssuedKey
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Key, shown_key
from tutelage.runtime.gateway.orders import KeyOrder, Name, Order, RotationOrder

logger = logging.getLogger(__name__)

BODY_BYTES = 65_536
"""Larger bodies are refused."""

_ID = re.compile(r"key_[0-9a-f]{16}", re.ASCII)
_PRIVATE_PARTS = re.compile(r"(?<=://)\S*(?=@)|(?<=[?&;])([^=&;\s]+)=[^&;\s]+")

Asked = TypeVar("Asked", bound=BaseModel)
Handler = Callable[[Request, Key], Awaitable[Response]]


class KeyFilter(Order):
    """What of the keys is listed."""

    tenant: Name | None = None


class AuditPage(Order):
    """Which entries are listed."""

    after: int = Field(0, ge=0, le=2**62)
    limit: int = Field(100, ge=1, le=1000)


class AuditHead(Order):
    """What an earlier check of the log found."""

    entries: int | None = Field(None, ge=1, le=2**62)
    head: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class Nothing(Order):
    """A request without parameters."""


class Administration:
    """An ASGI application; it sends no CORS headers, so that no web page can use it.

    Args:
        keyring: Keys and the audit log.
        admission: Budgets.
        reload: Reads the configuration again; if it raises a ``TutelageError``, the old one stays.
        config: The configuration in force, without secrets; see ``shown_config``.
    """

    def __init__(
        self,
        keyring: Keyring,
        admission: Admission,
        *,
        reload: Callable[[], Awaitable[object]],
        config: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._keyring = keyring
        self._admission = admission
        self._reload_config = reload
        self._config = config
        handlers: dict[Any, Any] = {
            HTTPException: _unrouted,
            TutelageError: _refused,
            ClientDisconnect: _gone,
            Exception: _broken,
        }
        self._app = Starlette(routes=self._routes(), exception_handlers=handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        await self._app(scope, receive, send)

    def _routes(self) -> list[Route]:
        return [
            self._route("/admin/keys", "POST", self._create),
            self._route("/admin/keys", "GET", self._list),
            self._route("/admin/keys/{id}", "GET", self._show),
            self._route("/admin/keys/{id}", "DELETE", self._revoke),
            self._route("/admin/keys/{id}/rotate", "POST", self._rotate),
            self._route("/admin/keys/{id}/budget", "GET", self._budget),
            self._route("/admin/audit", "GET", self._entries),
            self._route("/admin/audit/verify", "GET", self._verify),
            self._route("/admin/reload", "POST", self._reload),
            self._route("/admin/config", "GET", self._show_config),
        ]

    def _route(self, path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            # Before anything of the request is looked at.
            by = await self._keyring.identify_admin(_token(request))
            return await handler(request, by)

        return Route(path, endpoint, methods=[method])

    async def _create(self, request: Request, by: Key) -> Response:
        order = _read(KeyOrder, await _body(request))
        return _json(_issued(await self._keyring.create(order, by)), status=201)

    async def _list(self, request: Request, by: Key) -> Response:
        wanted = _query(KeyFilter, request)
        found = await self._keyring.keys(by, wanted.tenant)
        return _json({"keys": [shown_key(key) for key in found]})

    async def _show(self, request: Request, by: Key) -> Response:
        return _json(shown_key(await self._wanted(request, by)))

    async def _revoke(self, request: Request, by: Key) -> Response:
        revoked = await self._keyring.revoke(_id(request), by)
        return _json(shown_key(_found(revoked)))

    async def _rotate(self, request: Request, by: Key) -> Response:
        order = _read(RotationOrder, await _body(request) or b"{}")
        issued = await self._keyring.rotate(_id(request), order.overlap_s, by)
        return _json(_issued(_found(issued)))

    async def _budget(self, request: Request, by: Key) -> Response:
        key = await self._wanted(request, by)
        if key.kind != "client":
            raise BadRequest(f"{key.id} opens the administration: it spends nothing", param="id")
        standing = await self._admission.explain(key.caller())
        return _json({"id": key.id, **dataclasses.asdict(standing)})

    async def _entries(self, request: Request, by: Key) -> Response:
        _check_everywhere(by)
        page = _query(AuditPage, request)
        entries = await self._keyring.audit.entries(after=page.after, limit=page.limit)
        return _json({"entries": [dataclasses.asdict(entry) for entry in entries]})

    async def _verify(self, request: Request, by: Key) -> Response:
        _check_everywhere(by)
        known = _query(AuditHead, request)
        if (known.entries is None) != (known.head is None):
            raise BadRequest("give entries and head of an earlier check, or neither")
        earlier = (known.entries, known.head) if known.entries and known.head else None
        verdict = await self._keyring.audit.verify(earlier)
        return _json({"ok": verdict.problem is None, **dataclasses.asdict(verdict)})

    async def _reload(self, request: Request, by: Key) -> Response:
        _check_everywhere(by)
        _read(Nothing, await _body(request) or b"{}")
        # Nothing is reloaded that cannot be noted.
        await self._note(by, "config.reload", {})
        try:
            await self._reload_config()
        except TutelageError as error:
            await self._note(by, "config.reload_refused", {"problem": str(error)[:1000]})
            raise BadRequest(str(error), code="bad_config") from error
        return _json({"reloaded": True})

    async def _show_config(self, request: Request, by: Key) -> Response:
        _check_everywhere(by)
        return _json(self._config())

    async def _note(self, by: Key, action: str, detail: Mapping[str, Any]) -> None:
        await self._keyring.audit.record(
            actor=f"key:{by.id}", action=action, subject="configuration", detail=detail
        )

    async def _wanted(self, request: Request, by: Key) -> Key:
        return _found(await self._keyring.key(_id(request), by))


def shown_config(config: Config) -> dict[str, Any]:
    """The configuration, with passwords and parameters in its URLs masked.

    Keys do not stand in a configuration, only the names of the variables that hold them.
    """
    shown: dict[str, Any] = _masked(config.model_dump(mode="json"))
    return shown


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    if isinstance(value, str) and "://" in value:
        return _PRIVATE_PARTS.sub(lambda m: f"{m[1]}=***" if m[1] else "***", value)
    return value


def _issued(issued: IssuedKey) -> dict[str, Any]:
    return {**shown_key(issued.key), "key": issued.text.reveal()}


def _check_everywhere(by: Key) -> None:
    if by.tenant is not None:
        raise Forbidden(f"{by.id} administers tenant {by.tenant} only, and this concerns all")


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _id(request: Request) -> str:
    id: str = request.path_params["id"]
    # Not shown to the database, nor back.
    if _ID.fullmatch(id) is None:
        raise HTTPException(404, "there is no such key")
    return id


Item = TypeVar("Item")


def _found(item: Item | None) -> Item:
    if item is None:
        raise HTTPException(404, "there is no such key")
    return item


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES:
            raise HTTPException(413, f"the body has more than {BODY_BYTES} bytes")
    return bytes(body)


def _read(model: type[Asked], body: bytes) -> Asked:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _bad(error) from None


def _query(model: type[Asked], request: Request) -> Asked:
    try:
        return model.model_validate_strings(dict(request.query_params))
    except ValidationError as error:
        raise _bad(error) from None


def _bad(error: ValidationError) -> BadRequest:
    first = error.errors(include_input=False, include_url=False)[0]
    param = ".".join(str(part) for part in first["loc"])
    return BadRequest(f"{param or 'body'}: {first['msg']}", param=param or None)


def _json(body: Any, status: int = 200) -> Response:
    return Response(
        orjson.dumps(body),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _error(status: int, kind: str, message: str, **more: str | None) -> Response:
    body = {"message": message, "type": kind, "param": None, "code": None, **more}
    return _json({"error": body}, status)


async def _refused(request: Request, error: TutelageError) -> Response:
    message = str(error)
    if isinstance(error, Unauthenticated):
        response = _error(401, "authentication_error", message)
        response.headers["www-authenticate"] = "Bearer"
        return response
    if isinstance(error, Forbidden):
        return _error(403, "permission_error", message)
    if isinstance(error, BadRequest):
        return _error(400, "invalid_request_error", message, param=error.param, code=error.code)
    if isinstance(error, KeysUnavailable | StoreError):
        if isinstance(error, StoreError):
            logger.error("administration: %s", error)
            message = "the database cannot be reached now: try again in a moment"
        return _error(503, "unavailable_error", message)
    logger.error("administration: %s", error)
    return _error(500, "internal_error", "this failed; the log says why")


async def _unrouted(request: Request, error: HTTPException) -> Response:
    kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
    response = _error(error.status_code, kind, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)


async def _broken(request: Request, error: Exception) -> Response:
    # Starlette raises it again for the server's log.
    return _error(500, "internal_error", "this failed; the log says why")
