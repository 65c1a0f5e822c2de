"""Who comes in by which door, and what is turned away at it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.security.raw import request, send_raw, statuses
from tests.served_gateway import PATHS, WIRES, Got, Served, World, call, error_of

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.gateway.admin import Administration
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.server import listen, uvicorn_config
from tutelage.serving import open_gateway

wires = pytest.mark.parametrize("wire", WIRES)
UNKNOWN = "tut-" + "x" * 43
GUARDED = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/cascade"),
    ("GET", "/v1/decisions/1"),
    ("GET", "/v1/responses/resp_tut_1"),
    ("GET", "/v1/responses/resp_tut_1/input_items"),
    ("DELETE", "/v1/responses/resp_tut_1"),
]


# Starting.


@pytest.mark.parametrize("pepper", [True, False])
@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::", "10.1.2.3"])
async def test_a_gateway_starts_with_keys_or_open_on_the_loopback_interface(
    host: str, is_open: bool, pepper: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pepper:
        monkeypatch.delenv("TUTELAGE_PEPPER")
    config = world.config({"gateway.host": host})
    is_local = host in ("127.0.0.1", "::1")
    if is_open and not is_local:
        with pytest.raises(ConfigError, match="every machine spend your money"):
            await open_gateway(config, is_open=True)
    elif not is_open and not pepper:
        with pytest.raises(ConfigError, match="TUTELAGE_PEPPER is not set"):
            await open_gateway(config, is_open=False)
    else:
        gateway = await open_gateway(config, is_open=is_open)
        assert isinstance(gateway.parts.doorkeeper, Keyring) is not is_open
        await gateway.aclose()


# Keys.


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_no_call_is_served_without_a_key(
    method: str, path: str, guarded: Served, world: World
) -> None:
    for headers in ({}, {"authorization": f"Bearer {UNKNOWN}"}, {"x-api-key": UNKNOWN}):
        got = await guarded.send(method, path, {"model": "cascade"}, headers)
        assert got.status == 401
    assert world.teacher.calls() + world.student.calls() == 0


async def test_only_health_is_told_without_a_key(guarded: Served) -> None:
    assert (await guarded.send("GET", "/healthz")).json == {"status": "ok"}
    assert (await guarded.send("GET", "/readyz")).status == 200
    assert (await guarded.send("GET", "/metrics")).status == 401
    described = await guarded.send("GET", "/openapi.json")
    # The same for everybody: nothing of how this gateway is set up.
    assert described.status == 200
    assert not any(name in described.raw for name in (b"two-cascade", b"127.0.0.1"))


async def test_metrics_are_for_administrators(guarded: Served) -> None:
    client = await guarded.issue()
    admin = await guarded.issue(kind="admin", tenant=None)
    for token, status in ((client, 403), (admin, 200), (UNKNOWN, 401)):
        got = await guarded.send("GET", "/metrics", None, {"authorization": f"Bearer {token}"})
        assert got.status == status


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_key_of_the_administration_opens_no_call(
    method: str, path: str, guarded: Served, world: World
) -> None:
    admin = await guarded.issue(kind="admin", tenant=None)
    got = await guarded.send(method, path, {"model": "x"}, {"authorization": f"Bearer {admin}"})
    assert got.status == 403
    assert world.teacher.calls() + world.student.calls() == 0


@wires
async def test_a_key_opens_the_models_that_are_named_in_it(
    wire: str, guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(aliases=["casc*", "two"])
    opened = await guarded.ask(wire, call(wire, "cascade"))
    closed = await guarded.ask(wire, call(wire, "passthrough"))
    missing = await guarded.ask(wire, call(wire, "nothing"))
    listed = await guarded.send("GET", "/v1/models")
    shown = [await guarded.send("GET", f"/v1/models/{name}") for name in ("two", "teacher")]
    assert (opened.status, closed.status, missing.status) == (200, 403, 403)
    # A model that is not there looks like one that is closed.
    assert error_of(wire, closed)["type"] == error_of(wire, missing)["type"]
    assert {one["id"] for one in listed.json["data"]} == {"cascade", "two"}
    assert [one.status for one in shown] == [200, 403]
    assert world.teacher.calls() == 0


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions", "/v1/messages/count_tokens"])
async def test_a_key_opens_no_other_model_by_a_path_that_is_only_relayed(
    path: str, guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(aliases=["cascade"])
    body = {"model": "passthrough", "input": "x", "prompt": "x", "messages": []}
    assert (await guarded.send("POST", path, body)).status == 403
    assert world.teacher.calls() == 0


async def test_a_key_ends_when_its_time_is_over(guarded: Served, monkeypatch: Any) -> None:
    keyring = guarded.gateway.parts.doorkeeper
    assert isinstance(keyring, Keyring)
    guarded.key = await guarded.issue(expires_in_s=60.0)
    before = await guarded.send("GET", "/v1/models")
    monkeypatch.setattr(keyring, "_clock", lambda: time.time() + 61.0)
    after = await guarded.send("GET", "/v1/models")
    assert (before.status, after.status) == (200, 401)


async def test_a_key_ends_at_once_when_it_is_revoked_here(guarded: Served, world: World) -> None:
    keyring = guarded.gateway.parts.doorkeeper
    assert isinstance(keyring, Keyring)
    guarded.key = await guarded.issue()
    caller = await keyring.identify(guarded.key)
    before = await guarded.ask("chat", call("chat", "cascade"))
    from tutelage.runtime.gateway.key_store import Operator

    await keyring.revoke(caller.key_id, Operator("tests"))
    after = await guarded.ask("chat", call("chat", "cascade"))
    assert (before.status, after.status) == (200, 401)
    assert world.student.calls() == 1


# Two doors.


@dataclass
class TwoDoors:
    """A gateway, and its administration on a port of its own."""

    data: Served
    admin_url: str

    async def administer(self, method: str, path: str, key: str | None, body: Any = None) -> Got:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        elsewhere = Served(self.data.gateway, self.admin_url, self.data.client, self.data.server)
        return await elsewhere.send(method, path, body, headers)


@pytest.fixture
async def doors(guarded: Served) -> AsyncIterator[TwoDoors]:
    parts = guarded.gateway.parts
    assert isinstance(parts.doorkeeper, Keyring)

    async def reload() -> None:
        return None

    app = Administration(parts.doorkeeper, parts.admission, reload=reload, config=dict)
    door = listen("127.0.0.1", 0)
    settings = uvicorn_config(app, parts.settings)
    settings.load()
    server = uvicorn.Server(settings)
    server.lifespan = settings.lifespan_class(settings)
    await server.startup(sockets=[door])
    yield TwoDoors(guarded, f"http://127.0.0.1:{door.getsockname()[1]}")
    server.servers[0].close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()


ADMIN = [
    ("POST", "/admin/keys"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/keys/key_0123456789abcdef"),
    ("DELETE", "/admin/keys/key_0123456789abcdef"),
    ("POST", "/admin/keys/key_0123456789abcdef/rotate"),
    ("GET", "/admin/keys/key_0123456789abcdef/budget"),
    ("GET", "/admin/audit"),
    ("GET", "/admin/audit/verify"),
    ("POST", "/admin/reload"),
    ("GET", "/admin/config"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_the_administration_opens_to_its_own_keys_only(
    method: str, path: str, doors: TwoDoors
) -> None:
    client = await doors.data.issue()
    admin = await doors.data.issue(kind="admin", tenant=None)
    body = {"name": "n", "tenant": "t"} if (method, path) == ADMIN[0] else None
    for key, status in ((None, 401), (UNKNOWN, 401), (client, 403)):
        assert (await doors.administer(method, path, key, body)).status == status
    assert (await doors.administer(method, path, admin, body)).status in (200, 201, 404)


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_no_path_of_the_administration_is_on_the_port_for_clients(
    method: str, path: str, doors: TwoDoors
) -> None:
    admin = await doors.data.issue(kind="admin", tenant=None)
    for prefix in ("", "/v1"):
        headers = {"authorization": f"Bearer {admin}"}
        got = await doors.data.send(method, prefix + path, {"name": "n"}, headers)
        assert got.status == 404


async def test_no_model_is_on_the_port_of_the_administration(doors: TwoDoors) -> None:
    client = await doors.data.issue()
    admin = await doors.data.issue(kind="admin", tenant=None)
    for path in (*PATHS.values(), "/v1/models", "/metrics"):
        for key in (client, admin):
            got = await doors.administer("POST", path, key, {"model": "cascade"})
            assert got.status == 404


async def test_an_administrator_of_one_tenant_stays_in_it(doors: TwoDoors) -> None:
    theirs = await doors.data.issue(kind="admin", tenant="acme")
    other = await doors.data.issue(tenant="bolt")
    caller = await doors.data.gateway.parts.doorkeeper.identify(other)
    for method, path in (
        ("GET", f"/admin/keys/{caller.key_id}"),
        ("DELETE", f"/admin/keys/{caller.key_id}"),
        ("POST", f"/admin/keys/{caller.key_id}/rotate"),
        ("GET", f"/admin/keys/{caller.key_id}/budget"),
    ):
        assert (await doors.administer(method, path, theirs)).status == 404
    listed = await doors.administer("GET", "/admin/keys", theirs)
    assert {one["tenant"] for one in listed.json["keys"]} == {"acme"}
    for body in (
        {"name": "n", "tenant": "bolt"},
        {"name": "n", "kind": "admin", "tenant": "bolt"},
    ):
        assert (await doors.administer("POST", "/admin/keys", theirs, body)).status == 403
    for method, path in (("GET", "/admin/audit"), ("POST", "/admin/reload")):
        assert (await doors.administer(method, path, theirs)).status == 403
    assert (await doors.data.gateway.parts.doorkeeper.identify(other)).tenant == "bolt"


# Odd requests.

KEY = b"tut-" + b"x" * 43
CREDENTIALS = {
    "nothing after the scheme": b"authorization: Bearer",
    "blanks after the scheme": b"authorization: Bearer    ",
    "empty": b"authorization:",
    "no scheme": b"authorization: " + KEY,
    "two schemes": b"authorization: Bearer Bearer " + KEY,
    "basic": b"authorization: Basic dHV0OnR1dA==",
    "digest": b'authorization: Digest username="admin"',
    "two keys": b"authorization: Bearer " + KEY + b", Bearer " + KEY,
    "ten thousand bytes": b"authorization: Bearer " + b"A" * 10_000,
    "ten thousand bytes of a key": b"x-api-key: tut-" + b"A" * 10_000,
    "not ascii": "authorization: Bearer schlüssel-ключ-鍵".encode(),
    "latin": b"authorization: Bearer \xff\xfe\xe9",
    "percent": b"authorization: Bearer tut-%00%0d%0a",
    "sql": b"authorization: Bearer ' OR 1=1; DROP TABLE keys; --",
    "sql in the other header": b"x-api-key: tut-' UNION SELECT digest FROM key_digests--",
    "json": b'authorization: Bearer {"key": null}',
    "path": b"authorization: Bearer ../../etc/passwd",
    "format": b"authorization: Bearer %s%n${jndi:ldap://127.0.0.1/x}{0.__class__}",
    "a digest": b"authorization: Bearer " + b"0" * 64,
    "case": b"authorization: Bearer TUT-" + b"x" * 43,
    "one character short": b"authorization: Bearer tut-" + b"x" * 42,
    "one character long": b"authorization: Bearer tut-" + b"x" * 44,
    "tabs": b"authorization: Bearer\t" + KEY,
    "a cookie": b"cookie: authorization=Bearer " + KEY,
    "a query": b"x-nothing: 1",
}


@pytest.mark.parametrize("name", CREDENTIALS)
async def test_odd_credentials_open_nothing_and_break_nothing(
    name: str, guarded: Served, world: World
) -> None:
    for method, target in ((b"POST", b"/v1/chat/completions?key=" + KEY), (b"GET", b"/metrics")):
        sent = request(method, target, [CREDENTIALS[name]], call("chat", "cascade"))
        answer = await send_raw(guarded.base_url, sent)
        assert statuses(answer) == [401]
    # Whatever it was, the next caller is served.
    guarded.key = await guarded.issue()
    assert (await guarded.send("GET", "/v1/models")).status == 200
    assert world.student.calls() == 0


async def test_several_keys_in_one_request_are_those_of_one_caller_or_nobody(
    guarded: Served,
) -> None:
    """A proxy before us and we must not read different keys out of one request."""
    key = (await guarded.issue()).encode()
    for lines in (
        [b"authorization: Bearer " + key, b"authorization: Bearer " + KEY],
        [b"authorization: Bearer " + KEY, b"x-api-key: " + key],
    ):
        answer = await send_raw(guarded.base_url, request(b"GET", b"/v1/models", lines))
        assert statuses(answer) == [401]


METHODS = ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "CONNECT", "PROPFIND", "GET", "DELETE")


@pytest.mark.parametrize("method", METHODS)
async def test_no_other_method_does_anything(method: str, guarded: Served, world: World) -> None:
    """In particular no web page gets leave to call (CORS), and no header is echoed (TRACE)."""
    key = await guarded.issue()
    lines = [
        b"authorization: Bearer " + key.encode(),
        b"origin: http://evil.example",
        b"access-control-request-method: POST",
    ]
    for path in (*PATHS.values(), "/v1/embeddings", "/v1/feedback"):
        sent = request(method.encode(), path.encode(), lines)
        answer = await send_raw(guarded.base_url, sent)
        assert statuses(answer) in ([405], [400])
        assert b"access-control" not in answer.lower()
        assert key.encode() not in answer
    assert world.teacher.calls() + world.student.calls() == 0


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/v1",
        b"/v1/",
        b"/v1/chat/completions/",
        b"//v1/chat/completions",
        b"/v1//chat/completions",
        b"/v1/../admin/keys",
        b"/v1/%2e%2e/admin/keys",
        b"/v1/..%2fadmin%2fkeys",
        b"/v1/..;/admin/keys",
        b"/v1/./chat/completions",
        b"/v1\\chat\\completions",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions%0d%0ax-evil:%201",
        b"/v1/chat/completions;x=1",
        b"/V1/chat/completions",
        b"/v1/models/../../metrics",
        b"/v1/responses/..%2f..%2fmetrics",
        b"/v1/responses/a/b",
        b"/v1/responses//input_items",
        b"/v1/decisions/",
        b"/v1/decisions/" + b"a" * 300,
        b"/admin",
        b"/docs",
        b"/.env",
        b"/v1/files",
        b"/v1/threads",
        b"/v1/../../../../etc/passwd",
        b"/v1/%ff%fe",
        b"/v1/\xff",
        b"*",
        b"http://evil.example/admin/keys",
        b"/v1/audio/speech",
    ],
)
async def test_paths_that_are_not_here_lead_nowhere(
    target: bytes, guarded: Served, world: World
) -> None:
    key = (await guarded.issue()).encode()
    for method in (b"GET", b"POST"):
        sent = request(method, target, [b"authorization: Bearer " + key], call("chat", "cascade"))
        answer = await send_raw(guarded.base_url, sent)
        assert set(statuses(answer)) <= {400, 404, 405}
        assert len(statuses(answer)) == 1
        assert b"\r\nx-evil" not in answer
    assert world.teacher.calls() + world.student.calls() == 0


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer %s\r\n"
INNER = b"GET /v1/models HTTP/1.1\r\nhost: h\r\nauthorization: Bearer %s\r\n\r\n"
SMUGGLED = {
    "two lengths": b"content-length: 5\r\ncontent-length: 60\r\n\r\nhello",
    "two lengths in one": b"content-length: 5, 60\r\n\r\nhello",
    "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"
    + INNER,
    "odd coding": b"transfer-encoding: xchunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "chunks not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "twice chunked": b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + INNER,
    "a blank before the colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + INNER,
    "a negative length": b"content-length: -1\r\n\r\n" + INNER,
    "a signed length": b"content-length: +5\r\n\r\nhello" + INNER,
    "a hexadecimal length": b"content-length: 0x5\r\n\r\nhello" + INNER,
    "an endless length": b"content-length: " + b"9" * 400 + b"\r\n\r\n" + INNER,
    "a bad chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" + INNER,
    "a huge chunk": b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\nhello" + INNER,
    "a folded header": b"x-a: 1\r\n content-length: 60\r\n\r\n" + INNER,
    "a null byte": b"x-a: \x00\r\n\r\n" + INNER,
    "a bare line feed": b"x-a: 1\ncontent-length: 60\n\n" + INNER,
    "a bare carriage return": b"x-a: 1\rcontent-length: 60\r\n\r\n" + INNER,
    "no name": b": 1\r\n\r\n" + INNER,
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_no_request_hides_in_another(name: str, guarded: Served, world: World) -> None:
    """What a proxy before us could read as one request, we must not read as two."""
    key = (await guarded.issue()).encode()
    hidden = SMUGGLED[name].replace(b"%s", key) + b"\r\n\r\n"
    answer = await send_raw(guarded.base_url, HEAD % key + hidden)
    assert statuses(answer) == [400]
    assert b"cascade" not in answer
    assert world.teacher.calls() + world.student.calls() == 0


@pytest.mark.parametrize(
    "value",
    ["a\r\nx-evil: 1", "a\nx-evil: 1", "%0d%0ax-evil:%201", "a\x0bx-evil: 1", "a\u2028x-evil: 1"],
)
async def test_no_text_of_a_client_makes_a_header(value: str, world: World) -> None:
    """Model, session and ids come back in headers and errors."""
    async with world.serve({"aliases": {"*": {"mode": "cascade"}}}) as served:
        for wire in WIRES:
            body = call(wire, value, metadata={"session_id": value})
            got = await served.ask(wire, body)
            quoted = value.encode("unicode_escape")[:40].decode()
            named = await served.ask(wire, call(wire, "x"), {"x-tutelage-session": quoted})
            wrong = await served.ask(wire, call(wire, "x"), {"x-tutelage-mode": quoted})
            assert (got.status, named.status, wrong.status) == (200, 200, 400)
            for one in (got, named, wrong):
                assert not any("evil" in name for name in one.headers)
                assert all("\n" not in text for text in one.headers.values())


async def test_a_web_page_may_not_read_what_it_asks(guarded: Served) -> None:
    guarded.key = await guarded.issue()
    got = await guarded.ask("chat", call("chat", "cascade"), {"origin": "http://evil.example"})
    assert not any(name.startswith("access-control") for name in got.headers)


async def test_no_answer_names_the_server(guarded: Served) -> None:
    got = await guarded.send("GET", "/healthz")
    assert "server" not in got.headers
    assert "date" not in got.headers


def test_the_paths_tested_here_are_all_there_are() -> None:
    """A new route must say who may call it."""
    from tutelage.runtime.gateway import routing

    fixed = {
        (method, path)
        for path, methods in routing._FIXED.items()
        for method, route in methods.items()
        if not route.is_open and path != "/metrics"
    }
    open_paths = {
        path for path, routes in routing._FIXED.items() if any(r.is_open for r in routes.values())
    }
    assert fixed <= set(GUARDED)
    assert open_paths == {"/healthz", "/readyz", "/openapi.json"}
    for before, after, methods in routing._WITH_ID:
        for method, route in methods.items():
            assert not route.is_open
            assert any(
                m == method and p.startswith(before) and p.endswith(after) for m, p in GUARDED
            )


async def test_a_key_is_looked_up_before_a_body_is_read(guarded: Served, tmp_path: Path) -> None:
    """Nobody without a key makes us read megabytes: the answer comes before the body."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 7000000\r\n"
    answer = await send_raw(guarded.base_url, head + b"connection: close\r\n\r\n")
    assert statuses(answer) == [401]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "authentication_error"
