"""One agent step over the socket: every wire, every mode, every way to be served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.served_gateway import WIRES, Got, Served, World, call, error_of, text_of, tool

wires = pytest.mark.parametrize("wire", WIRES)
STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"

MODES = {
    "passthrough": ("passthrough", "teacher", "passthrough"),
    "route": ("route", "student", "always"),
    "cascade": ("cascade", "student", "agreed"),
    "shadow": ("shadow", "teacher", "shadow"),
    "teacher": ("cascade", "teacher", "always"),
    "student": ("cascade", "student", "always"),
}
"""By the model of the world: mode, who serves, and why."""


def told(got: Got) -> tuple[str | None, str, str | None]:
    """Mode, role and reason as the headers say it."""
    served = got.told("served") or ""
    role = "student" if served.startswith("student") else "teacher"
    return got.told("mode"), role, got.told("reason")


def usage_of(wire: str, got: Got) -> tuple[int, int]:
    """Tokens of prompt and answer as the client is told."""
    usage = got.json["usage"]
    if wire == "chat":
        return usage["prompt_tokens"], usage["completion_tokens"]
    cached = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
    return usage["input_tokens"] + cached, usage["output_tokens"]


@wires
@pytest.mark.parametrize("model", MODES)
async def test_each_mode_is_served_by_whom_it_should_be(
    wire: str, model: str, served: Served
) -> None:
    got = await served.ask(wire, call(wire, model))
    (trace,) = await served.traces()

    mode, role, reason = MODES[model]
    assert got.status == 200
    assert text_of(wire, got.json) == (STUDENT if role == "student" else TEACHER)
    assert told(got) == (mode, role, reason)
    assert (trace.mode, trace.decision.served, trace.decision.reason.value) == (mode, role, reason)
    assert (trace.id, trace.answer) == (got.told("decision-id"), text_of(wire, got.json))


@wires
@pytest.mark.parametrize("native", [True, False], ids=["same-wire", "other-wire"])
@pytest.mark.parametrize("model", MODES)
async def test_the_answer_names_the_model_that_was_asked_for(
    wire: str, model: str, native: bool, world: World
) -> None:
    upstream_wires = WIRES if native else ["messages" if wire == "chat" else "chat"]
    async with world.serve(wires=upstream_wires) as served:
        got = await served.ask(wire, call(wire, model))

    assert got.json["model"] == model
    assert {one.model for one in world.teacher.requests} <= {"large"}
    assert {one.model for one in world.student.requests} <= {"small"}


@wires
async def test_an_answer_can_keep_the_name_of_the_model_that_served(
    wire: str, world: World
) -> None:
    async with world.serve({"gateway.raw_model": True}) as served:
        got = await served.ask(wire, call(wire, "teacher"))

    assert got.json["model"] == "large"


@wires
async def test_a_student_that_disagrees_with_itself_is_refused(
    wire: str, served: Served, world: World
) -> None:
    world.student.disagree()

    got = await served.ask(wire, call(wire, "cascade"))
    (trace,) = await served.traces()

    assert text_of(wire, got.json) == TEACHER
    assert told(got) == ("cascade", "teacher", "disagreed")
    assert got.told("agreement") == "0.3333"
    assert len(trace.samples) == 3
    assert set(trace.cost_usd) == {"student", "teacher"}


@wires
@pytest.mark.parametrize("model", ["route", "cascade", "student"])
async def test_the_usage_of_a_student_is_that_of_the_clients_own_prompt(
    wire: str, model: str, served: Served, world: World
) -> None:
    got = await served.ask(wire, call(wire, model, "x" * 400))
    (trace,) = await served.traces()

    # Four characters are a token where the student's tokenizer is not here.
    assert usage_of(wire, got) == (100, 3)
    assert trace.usage["student"].prompt_tokens == 12


@wires
async def test_the_usage_of_a_teacher_is_its_own_cached_tokens_included(
    wire: str, served: Served
) -> None:
    got = await served.ask(wire, call(wire, "teacher"))
    (trace,) = await served.traces()

    assert usage_of(wire, got) == (12, 5)
    assert trace.usage["teacher"].cache_read_tokens == 4


@wires
async def test_a_shadowed_student_costs_but_does_not_answer(
    wire: str, served: Served, world: World
) -> None:
    got = await served.ask(wire, call(wire, "shadow"))
    (trace,) = await served.traces()

    assert text_of(wire, got.json) == TEACHER
    assert world.student.calls() == 1
    assert trace.shadow is not None
    assert trace.shadow.served == "student"
    assert set(trace.cost_usd) == {"student", "teacher"}


# Parameters that agreed samples cannot honour.

UNSUPPORTED: list[tuple[str, str, dict[str, Any]]] = [
    ("n", "chat", {"n": 2}),
    ("logprobs", "chat", {"logprobs": True, "top_logprobs": 2}),
    ("audio", "chat", {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
    ("prediction", "chat", {"prediction": {"type": "content", "content": "x"}}),
    ("seed", "chat", {"seed": 7}),
    ("custom tool", "chat", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
    ("hosted tool", "responses", {"tools": [{"type": "web_search"}]}),
    ("foreign response", "responses", {"previous_response_id": "resp_0123"}),
    ("logprobs", "responses", {"top_logprobs": 2}),
    ("background", "responses", {"background": True}),
    ("hosted tool", "messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("thinking", "messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
]


@pytest.mark.parametrize(
    ("wire", "fields"),
    [case[1:] for case in UNSUPPORTED],
    ids=[f"{w}-{n}" for n, w, _ in UNSUPPORTED],
)
@pytest.mark.parametrize("model", ["cascade", "route"])
async def test_what_a_cascade_cannot_honour_goes_to_the_teacher_unaltered(
    wire: str, fields: Mapping[str, Any], model: str, served: Served, world: World
) -> None:
    body = call(wire, model, **fields)

    got = await served.ask(wire, body)

    assert got.status == 200
    assert told(got) == (MODES[model][0], "teacher", "unsupported")
    assert world.student.calls() == 0
    assert world.teacher.last.body == {**body, "model": "large"}


@pytest.mark.parametrize(
    ("wire", "fields", "param"),
    [
        ("chat", {"logprobs": True}, "logprobs"),
        ("responses", {"previous_response_id": "resp_0123"}, "previous_response_id"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools (web_search)"),
        ("messages", {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
    ],
)
async def test_what_no_upstream_understands_is_refused_and_not_left_out(
    wire: str, fields: Mapping[str, Any], param: str, world: World
) -> None:
    async with world.serve(wires=["messages" if wire == "chat" else "chat"]) as served:
        got = await served.ask(wire, call(wire, "cascade", **fields))

    assert got.status == 400
    assert param in error_of(wire, got)["message"]
    assert world.teacher.calls() == world.student.calls() == 0


async def test_every_choice_of_n_comes_back(served: Served) -> None:
    got = await served.ask("chat", call("chat", "cascade", n=3))

    assert [choice["index"] for choice in got.json["choices"]] == [0, 1, 2]


# What clients say by headers.


@wires
@pytest.mark.parametrize("model", ["cascade", "route", "student"])
async def test_a_client_can_ask_for_the_teacher(wire: str, model: str, served: Served) -> None:
    got = await served.ask(wire, call(wire, model), {"x-tutelage-force": "teacher"})

    assert told(got) == (MODES[model][0], "teacher", "forced")


@wires
@pytest.mark.parametrize("model", ["cascade", "route", "teacher"])
async def test_a_client_can_ask_for_the_student(
    wire: str, model: str, served: Served, world: World
) -> None:
    world.student.disagree()

    got = await served.ask(wire, call(wire, model), {"x-tutelage-force": "student"})

    # A model without a student has none to ask.
    role = "teacher" if model == "teacher" else "student"
    assert told(got) == (MODES[model][0], role, "forced")


@wires
async def test_a_client_can_ask_to_be_passed_through(
    wire: str, served: Served, world: World
) -> None:
    got = await served.ask(wire, call(wire, "cascade"), {"x-tutelage-mode": "passthrough"})

    assert told(got) == ("passthrough", "teacher", "passthrough")
    assert world.student.calls() == 0


@wires
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-tutelage-mode", "route"),
        ("x-tutelage-mode", ""),
        ("x-tutelage-force", "both"),
        ("x-tutelage-max-cost-usd", "much"),
        ("x-tutelage-max-cost-usd", "-1"),
        ("x-tutelage-max-cost-usd", "nan"),
    ],
)
async def test_a_wrong_header_is_the_clients_mistake(
    wire: str, header: str, value: str, served: Served, world: World
) -> None:
    got = await served.ask(wire, call(wire, "cascade"), {header: value})

    assert got.status == 400
    assert header in error_of(wire, got)["message"]
    assert world.teacher.calls() == world.student.calls() == 0


async def test_no_train_and_session_are_written_down(served: Served) -> None:
    headers = {"x-tutelage-no-train": "1", "x-tutelage-session": "task-9"}

    got = await served.ask("chat", call("chat", "cascade"), headers)
    (trace,) = await served.traces()

    assert (trace.no_train, trace.episode_id) == (True, "task-9")
    assert got.told("episode-id") == "task-9"


async def test_a_conversation_without_a_session_stays_one_episode(served: Served) -> None:
    first = await served.ask("chat", call("chat", "cascade"))
    await served.traces(1)
    messages = [
        *call("chat", "cascade")["messages"],
        first.json["choices"][0]["message"],
        {"role": "user", "content": "and now?"},
    ]

    second = await served.ask("chat", {"model": "cascade", "messages": messages})
    one, two = await served.traces(2)

    assert second.status == 200
    assert one.episode_id == two.episode_id
    assert (one.step_index, two.step_index) == (0, 1)


@wires
async def test_a_request_that_may_cost_too_much_is_refused_before_it_costs(
    wire: str, served: Served, world: World
) -> None:
    dear = await served.ask(wire, call(wire, "cascade"), {"x-tutelage-max-cost-usd": "0.000001"})
    cheap = await served.ask(wire, call(wire, "cascade"), {"x-tutelage-max-cost-usd": "1"})

    assert (dear.status, cheap.status) == (400, 200)
    assert "x-tutelage-max-cost-usd" in error_of(wire, dear)["message"]
    assert world.student.calls() == 1


FORGED = {
    "x-tutelage-served": "student@evil",
    "x-tutelage-decision-id": "forged",
    "x-litellm-model-id": "other",
    "x-portkey-custom-host": "http://127.0.0.1:1",
    "x-forwarded-host": "evil",
    "x-envoy-original-path": "/admin",
    "x-api-key": "client-key",
    "cookie": "a=b",
    "x-request-id": "from-the-client",
    "proxy-authorization": "Basic eA==",
    "openai-organization": "org-other",
}


@wires
@pytest.mark.parametrize("model", ["passthrough", "cascade", "teacher"])
async def test_an_upstream_sees_no_header_of_a_client_but_those_of_its_api(
    wire: str, model: str, served: Served, world: World
) -> None:
    kept = {"anthropic-beta": "context-1m", "openai-beta": "responses=v1"}

    got = await served.ask(wire, call(wire, model), {**FORGED, **kept, "x-fault": "500"})

    assert got.status == 200
    assert got.told("decision-id") != "forged"
    for request in [*world.teacher.requests, *world.student.requests]:
        assert not {*FORGED, "x-fault", "authorization"} & set(request.headers)
        assert request.headers["user-agent"].startswith("tutelage/")
        assert request.headers["host"].startswith("127.0.0.1")
    for request in world.teacher.requests:
        assert kept.items() <= request.headers.items()


async def test_a_field_that_would_choose_the_upstream_is_refused(
    served: Served, world: World
) -> None:
    got = await served.ask("chat", call("chat", "passthrough", api_base="http://127.0.0.1:1"))

    assert got.status == 400
    assert error_of("chat", got)["param"] == "api_base"
    assert world.teacher.calls() == 0


# Tools.


@wires
async def test_a_call_of_a_tool_is_served_by_the_student(
    wire: str, served: Served, world: World
) -> None:
    world.student.fault = "tools"

    got = await served.ask(wire, call(wire, "cascade", tools=[tool(wire)]))

    assert told(got) == ("cascade", "student", "agreed")
    assert calls_of(wire, got) == [("walk", {"where": "desk 1", "how": "quietly"})]


@wires
@pytest.mark.parametrize("force", [None, "student"])
async def test_a_tool_of_the_teacher_is_never_called_by_the_student(
    wire: str, force: str | None, world: World
) -> None:
    world.student.fault = "tools"
    world.teacher.fault = "tools"
    aliases = {"agent": {"mode": "cascade", "teacher_only_tools": ["wa*"]}}
    async with world.serve({"aliases": aliases}) as served:
        headers = {"x-tutelage-force": force} if force else {}
        got = await served.ask(wire, call(wire, "agent", tools=[tool(wire)]), headers)

    assert told(got) == ("cascade", "teacher", "teacher_only_tool")
    assert calls_of(wire, got) == [("walk", {"where": "desk 1", "how": "quietly"})]


@wires
async def test_a_tool_that_was_not_offered_is_never_called_by_the_student(
    wire: str, served: Served, world: World
) -> None:
    world.student.fault = "tools"

    got = await served.ask(wire, call(wire, "cascade"))

    assert told(got) == ("cascade", "teacher", "unknown_tool")


@wires
@pytest.mark.parametrize("stream", [False, True])
async def test_a_routed_student_does_not_call_a_tool_of_the_teacher_either(
    wire: str, stream: bool, world: World
) -> None:
    world.student.fault = world.teacher.fault = "tools"
    aliases = {
        "agent": {"mode": "route", "policy": "always-student", "teacher_only_tools": ["walk"]}
    }
    async with world.serve({"aliases": aliases}) as served:
        got = await served.ask(wire, call(wire, "agent", stream=stream, tools=[tool(wire)]))

    assert told(got) == ("route", "teacher", "teacher_only_tool")


def calls_of(wire: str, got: Got) -> list[tuple[str, Any]]:
    """Names and arguments of the calls in an answer."""
    body = got.json
    if wire == "chat":
        functions = [one["function"] for one in body["choices"][0]["message"]["tool_calls"]]
        return [(one["name"], json.loads(one["arguments"])) for one in functions]
    if wire == "messages":
        return [(b["name"], b["input"]) for b in body["content"] if b["type"] == "tool_use"]
    found = [item for item in body["output"] if item["type"] == "function_call"]
    return [(one["name"], json.loads(one["arguments"])) for one in found]


# Money.


@wires
@pytest.mark.parametrize("model", ["passthrough", "cascade", "route", "shadow"])
async def test_what_a_request_cost_is_taken_from_the_budget_of_its_key(
    wire: str, model: str, guarded: Served
) -> None:
    key = guarded.key = await guarded.issue(budget_usd=1.0)

    got = await guarded.ask(wire, call(wire, model))
    (trace,) = await guarded.traces(tenant="acme")
    standing = await guarded.settled(key)

    assert got.status == 200
    assert trace.key_id is not None
    assert standing.spent_usd == pytest.approx(sum(trace.cost_usd.values()), abs=1e-9)
    assert standing.spent_usd > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_relayed_call_that_only_the_upstream_understands_is_booked_too(
    stream: bool, guarded: Served, world: World
) -> None:
    key = guarded.key = await guarded.issue(budget_usd=1.0)

    got = await guarded.ask("chat", call("chat", "passthrough", stream=stream, temperature=5))
    standing = await guarded.settled(key)

    assert (got.status, world.teacher.calls()) == (200, 1)
    assert standing.spent_usd > 0


async def test_a_key_of_which_no_demonstrations_may_be_made_forbids_it_for_its_requests(
    guarded: Served,
) -> None:
    guarded.key = await guarded.issue(writer=False)
    await guarded.ask("chat", call("chat", "cascade"))
    guarded.key = await guarded.issue()
    await guarded.ask("chat", call("chat", "cascade"))

    traces = await guarded.traces(2, tenant="acme")

    assert sorted(trace.no_train for trace in traces) == [False, True]


@wires
async def test_a_budget_that_does_not_cover_a_request_refuses_it(
    wire: str, guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(budget_usd=0.000001)

    got = await guarded.ask(wire, call(wire, "cascade"))

    assert got.status == 429
    error_of(wire, got)
    assert world.student.calls() == world.teacher.calls() == 0
