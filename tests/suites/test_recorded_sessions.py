"""Recorded sessions of real clients, sent again through a gateway in every mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.suites.house import MODES, STUDENTS, House

from tutelage.benchmarks.household.tasks import game as game_of
from tutelage.runtime.chunks import Accumulator
from tutelage.runtime.models.sse import EventParser
from tutelage.runtime.types import ChatRequest, Completion
from tutelage.runtime.wires.chat import ChatWire
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire
from tutelage.runtime.wires.responses import ResponsesWire

pytestmark = pytest.mark.suites

FOLDER = Path(__file__).with_name("sessions")
RECORDINGS = sorted(path.stem for path in FOLDER.glob("*.json"))
WIRES: dict[str, Wire] = {wire.path: wire for wire in (ChatWire(), ResponsesWire(), MessagesWire())}


def recording(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def answer_of(wire: Wire, answer: httpx.Response, *, streamed: bool) -> Completion:
    """What an answer says, read strictly."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind == ("text/event-stream" if streamed else "application/json")
    if not streamed:
        return wire.completion(answer.json())
    decoder, accumulator, parser = wire.decoder(), Accumulator(), EventParser()
    models: set[str] = set()
    for event in parser.feed(answer.content):
        for chunk in decoder.feed(event):
            accumulator.add(chunk)
            models.add(str(chunk.get("model")))
    assert decoder.done
    assert len(models) == 1
    return accumulator.completion(ChatRequest(model=models.pop(), messages=[]), len)


def test_every_client_was_recorded() -> None:
    assert len(RECORDINGS) == 10
    for name in RECORDINGS:
        assert len(recording(name)["steps"]) == 6
        assert game_of(recording(name)["task"])


@pytest.mark.parametrize("student", list(STUDENTS))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_session_goes_as_it_went(
    house: House, name: str, mode: str, student: str
) -> None:
    gateway, complaints = house.gateways[student], len(house.upstream.complaints)
    done, episodes = [], set()
    with httpx.Client(base_url=gateway.openai_url) as client:
        for step in recording(name)["steps"]:
            streamed = step["body"].get("stream") is True
            body = {**step["body"], "model": mode}
            answer = client.post(step["path"], json=body, headers=step["headers"])
            completion = answer_of(WIRES[step["path"]], answer, streamed=streamed)
            calls = completion.choices[0].message.tool_calls or []
            done += [json.loads(call["function"]["arguments"])["command"] for call in calls]
            assert completion.model == mode
            decision = answer.headers["x-tutelage-decision-id"]
            episodes.add(client.get(f"/decisions/{decision}").json()["episode_id"])

    assert done == [step["command"] for step in recording(name)["steps"]]
    assert len(episodes) == 1
    assert house.upstream.complaints[complaints:] == []
