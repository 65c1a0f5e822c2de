"""What calls cost whose upstream does not say it, and what is held back for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.served_gateway import PATHS, WIRES, Served, World, call, is_complete, streamed_text

from tutelage.runtime.gateway.token_bound import prompt_tokens, text_tokens

wires = pytest.mark.parametrize("wire", WIRES)
streams = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
natives = pytest.mark.parametrize("native", [True, False], ids=["same-wire", "other-wire"])
TEACHER = "go to the teacher's desk"
PROMPT_USD, ANSWER_USD = 1e-5, 2e-5


def prompt_of(body: dict[str, Any]) -> int:
    return prompt_tokens(json.dumps(body).encode(), body)


@natives
@streams
@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher"])
@pytest.mark.parametrize("trace", [True, False], ids=["traced", "untraced"])
async def test_a_call_whose_upstream_does_not_count_is_booked_by_its_estimate(
    wire: str, stream: bool, native: bool, model: str, trace: bool, world: World
) -> None:
    world.teacher.fault = "unmetered"
    upstream_wires = [wire] if native else ["messages" if wire == "chat" else "chat"]
    settings = {"gateway.trace": trace}
    async with world.serve(settings, upstream_wires, is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        body = call(wire, model, "where to? " * 40, stream=stream)
        got = await served.ask(wire, body)
        standing = await served.settled(served.key)
        traces = await served.traces(tenant="acme") if trace else []

    assert got.status == 200
    prompt, answer = prompt_of(body), text_tokens(TEACHER.encode())
    assert standing.spent_usd == pytest.approx(prompt * PROMPT_USD + answer * ANSWER_USD)
    for one in traces:
        assert one.estimated == ("teacher",)
        assert one.usage["teacher"].prompt_tokens == prompt
        assert one.usage["teacher"].output_tokens == answer


@streams
@wires
@pytest.mark.parametrize("model", ["passthrough", "teacher", "cascade"])
async def test_what_is_counted_by_its_endpoint_is_no_estimate(
    wire: str, stream: bool, model: str, served: Served
) -> None:
    await served.ask(wire, call(wire, model, stream=stream))
    (trace,) = await served.traces()
    assert trace.estimated == ()


@streams
async def test_the_tokens_of_a_student_that_does_not_count_are_estimates(
    stream: bool, served: Served, world: World
) -> None:
    world.student.fault = "unmetered"
    await served.ask("chat", call("chat", "route", stream=stream))
    (trace,) = await served.traces()
    assert trace.estimated == (("student",) if stream else ())


@pytest.mark.parametrize("trace", [True, False], ids=["traced", "untraced"])
@pytest.mark.parametrize("fault", ["hang", "hang-body"])
@streams
@wires
async def test_a_call_that_is_given_up_is_paid_at_the_price_of_who_was_asked(
    wire: str, stream: bool, fault: str, trace: bool, world: World
) -> None:
    """Only the upstreams have prices, and a call that nobody answered has none of them yet."""
    world.second.fault = fault
    aliases = {"only": {"mode": "passthrough", "upstreams": ["second"]}}
    settings = {"aliases": aliases, "gateway.trace": trace}
    async with world.serve(settings, is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        body = call(wire, "only", stream=stream)
        asking = asyncio.create_task(served.ask(wire, body))
        await world.second.arrived()
        asking.cancel()
        await world.second.disconnected(within_s=10)
        standing = await served.settled(served.key)

    prompt_usd = prompt_of(body) * PROMPT_USD
    assert prompt_usd <= standing.spent_usd + 1e-12 <= prompt_usd + 30 * ANSWER_USD


@wires
async def test_a_call_that_no_upstream_answers_costs_nothing(wire: str, world: World) -> None:
    world.teacher.fault = "500"
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        got = await served.ask(wire, call(wire, "passthrough"))
        standing = await served.settled(served.key)
    assert (got.status, standing.spent_usd) == (502, 0.0)


@streams
async def test_all_choices_of_an_answer_are_billed(stream: bool, world: World) -> None:
    world.teacher.fault = "unmetered"
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        body = call("chat", "passthrough", stream=stream, n=3)
        await served.ask("chat", body)
        standing = await served.settled(served.key)
    answers = 3 * len(TEACHER)
    spent = standing.spent_usd - prompt_of(body) * PROMPT_USD
    assert 0.4 * answers * ANSWER_USD <= spent <= answers * ANSWER_USD


# What is held back.


def dear(world: World, price: float) -> dict[str, Any]:
    """A second upstream of another price."""
    return {"upstreams.second.price": {"input": price, "output": price}}


@wires
@pytest.mark.parametrize("model", ["two", "two-cascade"])
async def test_the_dearest_upstream_of_a_model_is_held_back(
    wire: str, model: str, world: World
) -> None:
    """The first one may fail, and then the second is paid."""
    async with world.serve(dear(world, 10_000.0), is_open=False) as served:
        served.key = await served.issue(budget_usd=0.5)
        over = await served.ask(wire, call(wire, model))
        fits = await served.ask(wire, call(wire, "passthrough"))
    assert (over.status, fits.status) == (429, 200)
    assert world.second.calls() == 0


@wires
async def test_a_cheaper_upstream_behind_is_no_bargain(wire: str, world: World) -> None:
    async with world.serve(dear(world, 0.0), is_open=False) as served:
        served.key = await served.issue(budget_usd=0.0001)
        got = await served.ask(wire, call(wire, "two"))
    assert got.status == 429


async def test_an_upstream_without_a_price_cannot_be_held_to_a_budget(world: World) -> None:
    settings = {"teacher.price": None, "teacher.model": None}
    async with world.serve(settings, is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        got = await served.ask("chat", call("chat", "two"))
    assert got.status == 400
    assert (world.teacher.calls(), world.second.calls()) == (0, 0)


@pytest.mark.parametrize("text", ["7" * 4000, "😀" * 1000, "中" * 1300, "!?" * 2000])
async def test_a_budget_holds_for_prompts_that_are_cut_small(text: str, world: World) -> None:
    """Four thousand bytes may be four thousand tokens, and not one thousand."""
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=0.03)
        small = {"max_tokens": 1}
        over = await served.ask("chat", call("chat", "passthrough", text, **small))
        fits = await served.ask("chat", call("chat", "passthrough", "word " * 800, **small))
    assert (over.status, fits.status) == (429, 200)


async def test_a_picture_by_its_address_is_held_back(world: World) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(budget_usd=0.02)
        got = await served.ask("chat", call("chat", "passthrough", [part], max_tokens=1))  # type: ignore[arg-type]
    assert got.status == 429
    assert world.teacher.calls() == 0


@wires
async def test_a_student_that_may_be_asked_several_times_is_held_back(
    wire: str, world: World
) -> None:
    price = {"student.price": {"input": 1000.0, "output": 0.0}}
    async with world.serve(price, is_open=False) as served:
        # Three samples of a prompt that demonstrations may lengthen by 1600 tokens.
        served.key = await served.issue(budget_usd=4.0)
        over = await served.ask(wire, call(wire, "cascade"))
        served.key = await served.issue(budget_usd=6.0)
        fits = await served.ask(wire, call(wire, "cascade"))
    assert (over.status, fits.status) == (429, 200)


@pytest.mark.parametrize("wires_of_teacher", [["responses"], ["chat"]])
async def test_a_call_that_goes_on_is_paid_with_all_that_it_goes_on_from(
    wires_of_teacher: list[str], world: World
) -> None:
    world.teacher.fault = "unmetered"
    text = "where to? " * 100
    async with world.serve(wires=wires_of_teacher, is_open=False) as served:
        served.key = await served.issue(budget_usd=1.0)
        first = await served.ask("responses", call("responses", "teacher", text))
        before = await served.settled(served.key)
        body = {"model": "teacher", "input": "go on", "previous_response_id": first.json["id"]}
        got = await served.ask("responses", body)
        after = await served.settled(served.key)

    assert got.json["previous_response_id"] == first.json["id"]
    assert after.spent_usd - before.spent_usd > text_tokens(text.encode()) * PROMPT_USD


# Before the first event another upstream may take the call.


@pytest.mark.parametrize("fault", ["malformed;at=0", "error-event;at=0", "cut;at=0", "empty"])
@natives
@wires
@pytest.mark.parametrize("model", ["two", "two-cascade"])
async def test_a_stream_that_breaks_off_before_it_says_anything_is_taken_by_the_next_upstream(
    wire: str, native: bool, fault: str, model: str, world: World
) -> None:
    world.teacher.fault = fault
    world.student.disagree()
    upstream_wires = [wire] if native else ["messages" if wire == "chat" else "chat"]
    async with world.serve(wires=upstream_wires) as served:
        got = await served.ask(wire, call(wire, model, stream=True))
        (trace,) = await served.traces()

    assert got.status == 200
    assert is_complete(wire, got)
    assert streamed_text(wire, got) == trace.answer == "go to the second desk"
    assert (world.teacher.calls(), world.second.calls()) == (1, 1)
    assert got.told("served") == "second"


@pytest.mark.parametrize("fault", ["malformed;at=0", "error-event;at=0", "cut;at=0"])
@wires
async def test_without_another_upstream_it_is_an_error_of_http(
    wire: str, fault: str, served: Served, world: World
) -> None:
    world.teacher.fault = fault
    got = await served.ask(wire, call(wire, "passthrough", stream=True))
    assert got.status == 502
    assert got.headers["content-type"] == "application/json"


@wires
async def test_pings_keep_the_client_while_the_next_upstream_is_asked(
    wire: str, world: World
) -> None:
    world.teacher.fault, world.teacher.gate = "malformed;at=0", asyncio.Event()
    async with world.serve({"gateway.ping_s": 0.05}) as served:
        body = call(wire, "two", stream=True)
        async with served.open("POST", PATHS[wire], body) as response:
            first = await response.content.readuntil(b"\n\n")
            world.teacher.gate.set()
            rest = await response.read()
    assert b"ping" in first
    assert b"error" not in rest.replace(b'"error":null', b"").replace(b'"error": null', b"")
    assert world.second.calls() == 1


@pytest.mark.parametrize("fault", ["malformed", "error-event", "cut"])
@wires
async def test_what_was_begun_is_not_begun_again_elsewhere(
    wire: str, fault: str, served: Served, world: World
) -> None:
    world.teacher.fault, world.teacher.gate = fault, asyncio.Event()
    body = call(wire, "two", stream=True)
    async with served.open("POST", PATHS[wire], body) as response:
        await response.content.readuntil(b"\n\n")
        world.teacher.gate.set()
        rest = await response.read()
    assert b"error" in rest
    assert world.second.calls() == 0
