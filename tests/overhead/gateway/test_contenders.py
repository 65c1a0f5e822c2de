from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from tutelage.overhead.gateway.calls import CHAT_PATH
from tutelage.overhead.gateway.contenders import (
    Contender,
    Running,
    answers,
    direct,
    litellm,
    portkey,
    reference,
    running,
)
from tutelage.overhead.gateway.reference import Reference
from tutelage.overhead.gateway.upstream import Upstream
from tutelage.runtime.errors import BenchmarkError


def ask(port: int, body: dict[str, Any]) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", CHAT_PATH, json.dumps(body))
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("body", [{}, {"stream": True}, {"n": 2}])
def test_the_reference_passes_on_what_the_upstream_says(
    upstream: Upstream, proxy: Running, body: dict[str, Any]
) -> None:
    assert ask(proxy.port, body) == ask(upstream.port, body)


def test_the_reference_passes_errors_on(proxy: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("POST", "/elsewhere", "{}")

    assert connection.getresponse().status == 404
    connection.close()


async def test_the_reference_hands_every_piece_on_as_it_comes(upstream: Upstream) -> None:
    app = Reference(upstream.base_url.removesuffix("/v1"))
    sent: list[MutableMapping[str, Any]] = []
    said: Iterator[MutableMapping[str, Any]] = iter(
        [
            {"type": "lifespan.startup"},
            {"type": "http.request", "body": b'{"stream":', "more_body": True},
            {"type": "http.request", "body": b"true}"},
            {"type": "lifespan.shutdown"},
        ]
    )

    async def receive() -> MutableMapping[str, Any]:
        return next(said)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "lifespan.startup.complete":
            await app({"type": "http", "method": "POST", "path": CHAT_PATH}, receive, send)

    await app({"type": "lifespan"}, receive, send)

    kinds = [message["type"] for message in sent]
    bodies = [message for message in sent if message["type"] == "http.response.body"]
    assert kinds[:2] == ["lifespan.startup.complete", "http.response.start"]
    assert kinds[-1] == "lifespan.shutdown.complete"
    assert b"".join(one["body"] for one in bodies).endswith(b"data: [DONE]\n\n")
    assert [one["more_body"] for one in bodies] == [True] * (len(bodies) - 1) + [False]


async def test_the_reference_serves_http_only() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    await Reference("http://127.0.0.1:9")({"type": "websocket"}, never, never)


def test_the_direct_way_has_no_cpu_of_its_own(upstream: Upstream) -> None:
    found = direct(upstream)

    assert (found.port, found.pid) == (upstream.port, None)
    assert found.version == ("compiled" if upstream.is_compiled else "asyncio")


def test_settings_of_ours_do_not_reach_a_contender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_GATEWAY__PORT", "1")
    script = (
        "import os, sys; beginnings = ('TUTELAGE_G', 'OWN');"
        "print(sorted(name for name in os.environ if name.startswith(beginnings))); sys.exit(3)"
    )
    contender = Contender(
        "a gateway", "1", (sys.executable, "-c", script), 9, "/", {"OWN": "x", "PATH": "/bin"}
    )

    with (
        pytest.raises(BenchmarkError, match=r"ended with 3: \['OWN'\]"),
        running(contender, tmp_path),
    ):
        pass
    assert (tmp_path / "a-gateway.log").exists()
    assert "TUTELAGE_GATEWAY__PORT" in os.environ


def test_a_contender_answers_before_it_is_measured(upstream: Upstream, tmp_path: Path) -> None:
    with running(reference(upstream), tmp_path) as one:
        assert answers(f"http://127.0.0.1:{one.port}/v1/models")
        assert not answers(f"http://127.0.0.1:{one.port}/elsewhere")
        assert one.pid is not None
    assert not answers(f"http://127.0.0.1:{one.port}/v1/models")


def test_litellm_is_told_to_do_as_little_as_it_can(upstream: Upstream, tmp_path: Path) -> None:
    made = litellm(upstream, tmp_path, tmp_path / "environment", "1.2.3")

    config = json.loads((tmp_path / "litellm.json").read_text())
    key = config["general_settings"]["master_key"]
    assert made.headers == {"Authorization": f"Bearer {key}"}
    assert config["router_settings"]["num_retries"] == 0
    assert config["model_list"][0]["litellm_params"]["api_base"] == upstream.base_url
    assert "database_url" not in config["general_settings"]
    assert made.environment["LITELLM_LOG"] == "ERROR"
    assert str(made.port) in made.command


def test_portkey_is_told_by_its_clients_where_the_upstream_is(
    upstream: Upstream, tmp_path: Path
) -> None:
    made = portkey(upstream, tmp_path, "1.2.3")

    assert made.headers["x-portkey-custom-host"] == upstream.base_url
    assert made.command[0] == "node"
    assert f"--port={made.port}" in made.command
