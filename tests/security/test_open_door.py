"""A gateway without keys serves the programs of its machine, and no web page in a browser on it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
import uvicorn
from tests.absence import absent
from tests.security.raw import send_raw, statuses
from tests.served_gateway import PATHS, WIRES, Got, Served, World, call, error_of, until

from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.gateway.server import listen, uvicorn_config
from tutelage.serve_process import _Running
from tutelage.serving import open_gateway

FOREIGN: dict[str, dict[str, str]] = {
    "a page elsewhere": {"origin": "https://evil.example"},
    "a page elsewhere over http": {"origin": "http://evil.example:8080"},
    "a sandboxed frame, or a file": {"origin": "null"},
    "a page whose name begins like ours": {"origin": "http://localhost.evil.example"},
    "a page in the local network": {"origin": "http://192.168.1.7"},
    "a page that sends no origin": {"sec-fetch-site": "cross-site"},
    "a name that was made to lead here": {"host": "evil.example"},
    "the same with our port": {"host": "evil.example:8080"},
    "a name that begins like ours": {"host": "127.0.0.1.evil.example"},
    "the address of a page in the network": {"host": "192.168.1.7:8080"},
}
KNOWN: dict[str, dict[str, str]] = {
    "an SDK": {},
    "localhost and a port": {"host": "localhost:8080"},
    "a name below localhost": {"host": "tutelage.localhost"},
    "IPv6": {"host": "[::1]:8080"},
    "a page of this gateway's own": {
        "host": "localhost:80", "origin": "http://localhost:80", "sec-fetch-site": "same-origin",
    },
    "a page of another port": {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"},
    "a page of this machine's other name": {
        "origin": "http://localhost:3000", "sec-fetch-site": "cross-site",
    },
}  # fmt: skip


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """A gateway that asks for no key."""
    async with world.serve() as made:
        yield made


async def ask(served: Served, wire: str, headers: Mapping[str, str]) -> Got:
    return await served.ask(wire, call(wire, "passthrough"), headers)


@pytest.mark.parametrize("name", FOREIGN)
async def test_no_web_page_spends_money(name: str, served: Served, world: World) -> None:
    """Of these types a browser sends a body without asking first whether it may."""
    for wire in WIRES:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            got = await ask(served, wire, {"content-type": kind, **FOREIGN[name]})
            assert got.status == 403
            error = error_of(wire, got)
            assert error["type"] == "permission_error"
            assert "gateway.hosts" in error["message"]
            assert not any(header.startswith("access-control") for header in got.headers)
    assert world.teacher.calls() == 0
    assert (await ask(served, "chat", {})).status == 200


PAGES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/decisions/1"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/healthz"),
    ("HEAD", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("DELETE", "/v1/responses/resp_tut_1"),
    ("POST", "/v1/feedback"),
    ("POST", "/v1/embeddings"),
    ("PUT", "/v1/chat/completions"),
]


@pytest.mark.parametrize("name", FOREIGN)
async def test_no_web_page_reads_or_changes_anything(name: str, served: Served) -> None:
    for method, path in PAGES:
        assert (await served.send(method, path, None, FOREIGN[name])).status == 403


async def test_no_browser_is_told_that_a_web_page_may_call(served: Served) -> None:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
        "access-control-request-private-network": "true",
    }
    for headers, status in [(one, 403) for one in FOREIGN.values()] + [({}, 405)]:
        got = await served.send("OPTIONS", PATHS["chat"], None, {**asked, **headers})
        assert got.status == status
        assert not any(header.startswith("access-control") for header in got.headers)


@pytest.mark.parametrize("name", KNOWN)
async def test_programs_and_pages_of_this_machine_are_served(name: str, served: Served) -> None:
    for wire in WIRES:
        assert (await ask(served, wire, KNOWN[name])).status == 200
    assert (await served.send("GET", "/metrics", None, KNOWN[name])).status == 200


async def test_a_configured_name_of_this_machine_is_served(world: World) -> None:
    host = {"host": "host.docker.internal:8080"}
    async with world.serve({"gateway.hosts": ["host.docker.internal"]}) as served:
        named = await ask(served, "chat", host)
        other = await ask(served, "chat", {"host": "evil.example"})
    async with world.serve() as served:
        unnamed = await ask(served, "chat", host)
    assert (named.status, other.status, unnamed.status) == (200, 403, 403)


@pytest.mark.parametrize("name", ["http://a", "a:80", "a/b", "", "a b", "[::1]:80", "::1", "*"])
def test_a_name_that_could_never_match_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, {"gateway.hosts": [name]})
    assert str(caught.value) == (
        f"setting: gateway.hosts = {[name]}: give names of machines, without a port"
    )


async def test_with_keys_a_key_decides_and_not_a_name(guarded: Served) -> None:
    """Behind a proxy the host is whatever the proxy is called."""
    guarded.key = await guarded.issue()
    for headers in ({"host": "llm.example.com"}, {"origin": "https://ui.example.com"}):
        assert (await ask(guarded, "chat", headers)).status == 200


async def test_a_second_host_does_not_hide_the_first(served: Served, world: World) -> None:
    body = json.dumps(call("chat", "passthrough")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n"
    for hosts in ([b"localhost", b"evil.example"], [b"evil.example", b"localhost"], [b""]):
        lines = b"".join(b"host: %s\r\n" % host for host in hosts)
        raw = head % len(body) + lines + b"\r\n" + body
        (status,) = statuses(await send_raw(served.base_url, raw))
        assert status in (400, 403)
    assert world.teacher.calls() == 0


async def test_over_ipv6_it_is_the_same(world: World) -> None:
    config = world.config({"gateway.host": "::1"})
    try:
        door = listen("::1", 0)
    except ConfigError:
        absent("this machine has no IPv6 loopback address")
    async with behind(door, config) as served:
        assert (await ask(served, "chat", {})).status == 200
        assert (await ask(served, "chat", {"host": "evil.example"})).status == 403
        assert (await ask(served, "chat", {"origin": "http://[::1]:3000"})).status == 200


@asynccontextmanager
async def behind(door: socket.socket, config: Config) -> AsyncIterator[Served]:
    """An open gateway behind a socket of the test's own."""
    gateway = await open_gateway(config, is_open=True)
    server = uvicorn.Server(uvicorn_config(gateway, config.gateway))
    running = asyncio.create_task(server._serve([door]))
    address = f"http://[::1]:{door.getsockname()[1]}"
    try:
        await until(lambda: server.started)
        async with aiohttp.ClientSession() as client:
            yield Served(gateway, address, client, server)
    finally:
        server.should_exit = True
        await running
        door.close()
        await gateway.aclose()


async def test_there_is_no_administration_without_keys(world: World) -> None:
    """So nothing of it has to be kept from web pages: they have no key."""
    config = world.config({"gateway.admin_port": 0})
    gateway = await open_gateway(config, is_open=True)
    try:
        with pytest.raises(ConfigError, match="leave --open out"):
            _Running(lambda: config, config, gateway, is_open=True).administration()
    finally:
        await gateway.aclose()
