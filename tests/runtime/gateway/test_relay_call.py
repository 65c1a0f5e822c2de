"""Embeddings, old completions and token counts over the socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.served_gateway import Got, Served, World, call, error_of, is_complete, received

from tutelage.runtime.gateway.token_bound import prompt_tokens

EMBEDDINGS, COMPLETIONS = "/v1/embeddings", "/v1/completions"
COUNTS = {"messages": "/v1/messages/count_tokens", "responses": "/v1/responses/input_tokens"}


def asked(path: str, model: str = "passthrough", **fields: Any) -> dict[str, Any]:
    text = {"input": ["a", "bc"]} if path == EMBEDDINGS else {"prompt": "once upon"}
    return {"model": model, **text, **fields}


async def test_embeddings_are_passed_through_byte_by_byte(served: Served, world: World) -> None:
    body = json.dumps(asked(EMBEDDINGS, "an-embedding-model"), indent=2).encode()
    async with world.serve({"aliases": {"*": {"mode": "cascade"}}}) as open_to_all:
        got = await open_to_all.send("POST", EMBEDDINGS, body)
        async with served.client.post(world.teacher.base_url + "/embeddings", data=body) as reply:
            direct = await reply.read()

    assert (got.status, got.raw) == (200, direct)
    # An embedding model is not the teacher, whose own name would be wrong here.
    assert world.teacher.requests[0].raw == body
    assert world.student.calls() == 0


async def test_old_completions_name_the_model_that_was_asked_for(
    served: Served, world: World
) -> None:
    got = await served.send("POST", COMPLETIONS, asked(COMPLETIONS))
    stream = await served.send("POST", COMPLETIONS, asked(COMPLETIONS, stream=True))

    assert got.json["choices"][0]["text"] == "go to the teacher's desk"
    assert got.json["model"] == "passthrough"
    assert {event["model"] for event in stream.data} == {"passthrough"}
    assert is_complete("chat", stream)
    assert world.teacher.last.model == "large"


async def test_a_stream_is_passed_on_byte_by_byte_where_no_name_changes(world: World) -> None:
    body = asked(COMPLETIONS, "any", stream=True)
    teacher = {"base_url": world.teacher.base_url}
    world.teacher.fault = "dribble;size=7;delay-ms=0"
    async with world.serve({"teacher": teacher, "aliases": {"*": {}}}) as served:
        got = await served.send("POST", COMPLETIONS, body)
        path = world.teacher.base_url + "/completions"
        async with served.client.post(path, json=body) as reply:
            direct = await reply.read()

    assert got.raw == direct


@pytest.mark.parametrize("path", [EMBEDDINGS, COMPLETIONS])
@pytest.mark.parametrize("fault", ["500", "reset", "truncated", "wrong-type"])
async def test_the_next_upstream_answers_where_the_first_one_fails(
    path: str, fault: str, served: Served, world: World
) -> None:
    world.teacher.fault = fault

    got = await served.send("POST", path, asked(path, "two"))

    assert got.status == 200
    assert (world.teacher.calls(), world.second.calls()) == (1, 1)


@pytest.mark.parametrize("path", [EMBEDDINGS, COMPLETIONS])
@pytest.mark.parametrize(
    ("fault", "status"),
    [("429;retry-after=7", 429), ("500", 502), ("502", 502), ("truncated", 502), ("400", 400)],
)
async def test_a_failing_upstream_is_told_in_the_shape_of_the_api(
    path: str, fault: str, status: int, served: Served, world: World
) -> None:
    world.teacher.fault = fault

    got = await served.send("POST", path, asked(path))

    assert got.status == status
    assert error_of("chat", got)["message"]
    assert got.headers.get("retry-after") == ("7" if status == 429 else None)
    assert b"nginx" not in got.raw


@pytest.mark.parametrize("fault", ["cut", "malformed", "error-event", "no-end"])
async def test_a_stream_that_breaks_off_says_so_and_does_not_end_well(
    fault: str, served: Served, world: World
) -> None:
    world.teacher.fault, world.teacher.gate = fault, asyncio.Event()

    async with served.open("POST", COMPLETIONS, asked(COMPLETIONS, stream=True)) as response:
        begun = await response.content.readuntil(b"\n\n")
        world.teacher.gate.set()
        got: Got = await received(response)

    assert begun.startswith(b"data: {")
    assert json.loads(got.events[-1][1])["error"]["message"]
    assert not is_complete("chat", got)
    await served.counted('outcome="upstream_error"')


@pytest.mark.parametrize("fault", ["malformed;at=0", "error-event;at=0", "cut;at=0"])
async def test_the_next_upstream_takes_a_stream_that_breaks_off_before_it_said_anything(
    fault: str, served: Served, world: World
) -> None:
    world.teacher.fault = fault

    got = await served.send("POST", COMPLETIONS, asked(COMPLETIONS, "two", stream=True))
    alone = await served.send("POST", COMPLETIONS, asked(COMPLETIONS, stream=True))

    assert got.status == 200
    assert is_complete("chat", got)
    assert "second" in "".join(event["choices"][0]["text"] for event in got.data)
    assert alone.status == 502
    assert error_of("chat", alone)["message"]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("fault", ["hang", "hang-body"])
async def test_a_client_that_leaves_cancels_its_upstream(
    stream: bool, fault: str, guarded: Served, world: World
) -> None:
    key = guarded.key = await guarded.issue(budget_usd=1.0)
    world.teacher.fault = fault
    body = asked(COMPLETIONS, stream=stream)
    asking = asyncio.create_task(guarded.send("POST", COMPLETIONS, body))
    await world.teacher.arrived()
    asking.cancel()

    await world.teacher.disconnected(within_s=10)
    standing = await guarded.settled(key)

    # The prompt at 10 dollars a million, and what had come of an answer.
    prompt = prompt_tokens(json.dumps(body).encode(), body) * 1e-5
    assert prompt <= standing.spent_usd + 1e-12 <= prompt + 25 * 2e-5
    await guarded.counted('outcome="cancelled"')


async def test_what_was_passed_through_is_paid(guarded: Served) -> None:
    key = guarded.key = await guarded.issue(budget_usd=1.0)

    await guarded.send("POST", COMPLETIONS, asked(COMPLETIONS))
    once = await guarded.settled(key)
    await guarded.send("POST", COMPLETIONS, asked(COMPLETIONS, stream=True))
    await guarded.send("POST", EMBEDDINGS, asked(EMBEDDINGS))
    standing = await guarded.settled(key)

    # Twelve tokens of a prompt and five of an answer.
    assert once.spent_usd == pytest.approx((12 * 10 + 5 * 20) / 1e6)
    assert standing.spent_usd > once.spent_usd


async def test_a_ceiling_and_a_budget_hold_for_what_is_passed_through(
    guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(budget_usd=0.000001)
    over = await guarded.send("POST", COMPLETIONS, asked(COMPLETIONS))
    guarded.key = await guarded.issue()
    headers = {"x-tutelage-max-cost-usd": "0.000001"}
    dear = await guarded.send("POST", COMPLETIONS, asked(COMPLETIONS), headers)

    assert (over.status, dear.status) == (429, 400)
    assert world.teacher.calls() == 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model": 7}', b'{"input": ["a"]}', b"[" * 5000]
)
async def test_a_body_that_is_no_call_is_the_clients_mistake(body: bytes, served: Served) -> None:
    got = await served.send("POST", EMBEDDINGS, body)

    assert got.status == 400
    error_of("chat", got)


async def test_a_teacher_without_these_calls_is_named(world: World) -> None:
    async with world.serve(wires=["messages"]) as served:
        got = await served.send("POST", EMBEDDINGS, asked(EMBEDDINGS))

    assert got.status == 400
    assert error_of("chat", got)["code"] == "unsupported_model"


@pytest.mark.parametrize("wire", COUNTS)
async def test_tokens_are_counted_here_where_the_answer_may_be_the_students(
    wire: str, served: Served, world: World
) -> None:
    got = await served.send("POST", COUNTS[wire], call(wire, "cascade", "x" * 400))

    assert got.status == 200
    assert got.json["input_tokens"] >= 100
    assert world.teacher.calls() == 0


async def test_tokens_are_counted_by_the_teacher_where_it_is_passed_through(
    served: Served, world: World
) -> None:
    got = await served.send("POST", COUNTS["messages"] + "?beta=true", call("messages", "teacher"))
    relayed = await served.send(
        "POST", COUNTS["messages"] + "?beta=true", call("messages", "passthrough")
    )

    assert got.status == 200
    assert relayed.json == {"input_tokens": 12}
    assert (world.teacher.last.path, world.teacher.last.query) == (
        "/messages/count_tokens",
        "beta=true",
    )


async def test_counting_costs_nothing(guarded: Served) -> None:
    key = guarded.key = await guarded.issue(budget_usd=0.0)

    got = await guarded.send("POST", COUNTS["messages"], call("messages", "passthrough"))
    standing = await guarded.settled(key)

    assert (got.status, standing.spent_usd) == (200, 0.0)


async def test_events_are_passed_on_before_the_upstream_has_ended(
    served: Served, world: World
) -> None:
    world.teacher.gate = asyncio.Event()

    async with served.open("POST", COMPLETIONS, asked(COMPLETIONS, stream=True)) as response:
        begun = await response.content.readuntil(b"\n\n")
        world.teacher.gate.set()
        rest: Got = await received(response)

    assert begun.startswith(b"data: {")
    assert is_complete("chat", rest)
