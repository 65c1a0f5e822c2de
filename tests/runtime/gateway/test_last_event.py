from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.upstream_answers import Said, answer_on

from tutelage.runtime.gateway.last_event import LastEvent
from tutelage.runtime.models.sse import Event, EventParser
from tutelage.runtime.wires.chat import CHAT
from tutelage.runtime.wires.messages import MessagesWire
from tutelage.runtime.wires.protocol import Wire
from tutelage.runtime.wires.responses import RESPONSES

WIRES: list[Wire] = [CHAT, RESPONSES, MessagesWire()]
FACTS = {"cost_usd": 0.5}
CALL = ("call_1", "walk", '{"where": "desk 1"}')


def events_of(raw: bytes) -> list[Event]:
    return EventParser().feed(raw)


def relayed(wire: Wire, events: list[Event], facts: dict[str, Any]) -> tuple[bytes, bytes]:
    """What is passed on of a stream, and what its end is."""
    last, decoder = LastEvent(wire.name), wire.decoder()
    passed = b"".join(last.feed(one, one.data, decoder.feed(one)) for one in events)
    return passed, last.end(facts)


def without_facts(events: list[Event], wire: Wire) -> list[tuple[bytes | None, Any]]:
    found = []
    for event in events:
        data: Any = event.data
        if data.startswith(b"{"):
            data = json.loads(data)
            holder = data.get("response") if wire.name == "responses" else data
            if isinstance(holder, dict):
                holder.pop("tutelage", None)
        found.append((event.name, data))
    return found


SAID = [
    Said("go to desk 1"),
    Said("", (CALL,)),
    Said("go", (CALL, CALL)),
    Said("go", (), ("stay",)),
]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
@pytest.mark.parametrize("n", [1, 2])
def test_one_event_near_the_end_carries_the_facts_and_nothing_else_changes(
    wire: Wire, said: Said, options: dict[str, Any], n: int
) -> None:
    body = {"model": "m", "n": n, **options}
    events = events_of(b"".join(answer_on(wire.path, body, said).events))
    passed, end = relayed(wire, events, FACTS)
    got = events_of(passed + end)

    assert without_facts(got, wire) == without_facts(events, wire)
    assert (passed + end).count(b'"tutelage"') == 1
    assert b'"tutelage"' in end
    assert json.dumps(FACTS, separators=(",", ":")).encode() in end
    # What was said is never held back.
    assert len(events_of(end)) <= 3


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_without_facts_the_stream_stays_as_it_is(wire: Wire) -> None:
    events = events_of(b"".join(answer_on(wire.path, {"model": "m"}, Said("go")).events))
    assert events_of(b"".join(relayed(wire, events, {}))) == events


@given(kept=st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_stream_in_any_order_loses_nothing(kept: list[bool]) -> None:
    """A malformed stream is stopped elsewhere; here no event may vanish."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
    ended = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = [Event(json.dumps(ended if end else chunk).encode()) for end in kept]
    last = LastEvent("chat")
    passed = b"".join(last.feed(one, one.data, [json.loads(one.data)]) for one in events)
    got = events_of(passed + last.end(FACTS))
    assert without_facts(got, CHAT) == without_facts(events, CHAT)
