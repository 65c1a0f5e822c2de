"""What a client sees while the database of traces is gone, and where the traces are then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fault_upstream import ThreadedUpstream
from tests.served_gateway import PATHS, call, tool
from tests.suites.clever_upstream import CleverUpstream
from tests.suites.conftest import WIRES, suite_config
from tests.suites.gateways import RunningGateway, lose_database, serving

pytestmark = pytest.mark.suites

OF_THEIR_OWN = ("id", "call_id", "item_id", "created", "created_at", "completed_at", "tutelage")
"""What differs between two answers that say the same."""
QUESTION = "What is the weather in Paris?"


def plain(value: Any) -> Any:
    """An answer without what is its own."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key not in OF_THEIR_OWN}
    return [plain(one) for one in value] if isinstance(value, list) else value


def said(answer: httpx.Response) -> Any:
    """All that an answer says, unary or streamed."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return plain(answer.json())
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
    return [plain(json.loads(line)) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("mode", ["passthrough", "teacher", "student"])
def test_answers_are_the_same_without_a_database(
    gateways: dict[str, RunningGateway], wire: str, stream: bool, mode: str
) -> None:
    offered = tool(wire, "get_weather", city={"type": "string"})
    bodies = [
        call(wire, mode, QUESTION, stream=stream),
        call(wire, mode, QUESTION, stream=stream, tools=[offered]),
    ]

    def answers(name: str) -> list[Any]:
        with httpx.Client(base_url=gateways[name].url) as client:
            return [said(client.post(PATHS[wire], json=body)) for body in bodies]

    assert answers("adrift") == answers("agrees")


def test_traces_wait_in_the_spool_and_none_is_lost(gateways: dict[str, RunningGateway]) -> None:
    gateway = gateways["adrift"]
    with httpx.Client(base_url=gateway.url) as client:
        answer = client.post(PATHS["chat"], json=call("chat", "spooled", QUESTION))
        ready, metrics = client.get("/readyz"), client.get("/metrics").text
        kept = client.get("/v1/responses/resp_tut_1")

    assert answer.headers["x-tutelage-decision-id"].encode() in gateway.spool.read_bytes()
    assert ready.status_code == 200
    assert "tutelage_dropped_traces_total 0.0" in metrics
    assert (kept.status_code, kept.json()["error"]["code"]) == (503, "store_unavailable")


def test_the_traces_are_in_the_database_once_it_is_back(
    clever: tuple[CleverUpstream, str], faulty: ThreadedUpstream, tmp_path: Path
) -> None:
    config = suite_config(tmp_path / "lost", clever[1], faulty.base_url, "obliging")
    with serving({"lost": config}) as started:
        gateway = started["lost"]
        with httpx.Client(base_url=gateway.url) as client:
            lose_database(gateway, "student")
            answers = [
                client.post(PATHS[wire], json=call(wire, "student", QUESTION)) for wire in WIRES
            ]
    made = {answer.headers["x-tutelage-decision-id"] for answer in answers}
    gateway.store.rmdir()

    with serving({"back": config}) as started:
        assert made <= started["back"].decisions()
    assert {answer.headers["x-tutelage-served"] for answer in answers} == {"student@obliging"}
