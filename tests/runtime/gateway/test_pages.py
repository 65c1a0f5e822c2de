"""Models, stored responses, feedback, decisions, health and metrics over the socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.served_gateway import TENANT, WIRES, Served, World, call, error_of, text_of

wires = pytest.mark.parametrize("wire", WIRES)

# Models.


async def test_models_are_listed_as_each_api_does(served: Served) -> None:
    listed = (await served.send("GET", "/v1/models")).json
    anthropic = (
        await served.send("GET", "/v1/models", headers={"anthropic-version": "2023-06-01"})
    ).json
    one = (await served.send("GET", "/v1/models/cascade")).json

    names = [model["id"] for model in listed["data"]]
    assert {"cascade", "route", "two"} <= set(names)
    assert one in listed["data"]
    assert [model["id"] for model in anthropic["data"]] == names
    assert (anthropic["first_id"], anthropic["last_id"]) == (names[0], names[-1])
    assert {model["type"] for model in anthropic["data"]} == {"model"}


async def test_a_model_that_does_not_exist_is_not_found(served: Served) -> None:
    for method, path, body in (
        ("GET", "/v1/models/nobody", None),
        ("POST", "/v1/chat/completions", call("chat", "nobody")),
        ("POST", "/v1/chat/completions", call("chat", "*")),
    ):
        got = await served.send(method, path, body)

        assert (got.status, error_of("chat", got)["code"]) == (404, "model_not_found")


@wires
async def test_a_key_sees_and_opens_its_own_models_only(
    wire: str, guarded: Served, world: World
) -> None:
    guarded.key = await guarded.issue(aliases=["casc*"])

    listed = (await guarded.send("GET", "/v1/models")).json
    hidden = await guarded.send("GET", "/v1/models/route")
    refused = await guarded.ask(wire, call(wire, "route"))
    allowed = await guarded.ask(wire, call(wire, "cascade"))

    assert [model["id"] for model in listed["data"]] == ["cascade"]
    assert (hidden.status, refused.status, allowed.status) == (403, 403, 200)
    error_of(wire, refused)


# Stored responses.


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("model", ["cascade", "teacher", "route", "shadow"])
async def test_a_response_is_kept_shown_continued_and_deleted(
    stream: bool, model: str, served: Served, world: World
) -> None:
    body = call("responses", model, "first question", stream=stream)
    got = await served.ask("responses", body)
    made = got.data[-1]["response"] if stream else got.json
    id = made["id"]

    shown = (await served.send("GET", f"/v1/responses/{id}")).json
    items = (await served.send("GET", f"/v1/responses/{id}/input_items")).json
    later = call("responses", model, "second question", previous_response_id=id)
    second = await served.ask("responses", later)
    deleted = await served.send("DELETE", f"/v1/responses/{id}")
    gone = await served.send("GET", f"/v1/responses/{id}")

    assert id.startswith("resp_tut")
    assert (shown["id"], text_of("responses", shown)) == (id, text_of("responses", made))
    assert [item["content"][0]["text"] for item in items["data"]] == ["first question"]
    assert second.json["previous_response_id"] == id
    served_by = world.teacher if model in ("teacher", "shadow") else world.student
    said = json.dumps(served_by.last.body)
    assert said.index("first question") < said.index("second question")
    assert text_of("responses", made) in said
    # No upstream knows our ids.
    assert id not in said
    assert deleted.json == {"id": id, "object": "response.deleted", "deleted": True}
    assert (gone.status, error_of("responses", gone)["code"]) == (404, "not_found")


async def test_two_responses_of_one_chain_are_one_episode(served: Served) -> None:
    first = (await served.ask("responses", call("responses", "cascade"))).json
    await served.traces(1)
    body = call("responses", "cascade", "go on", previous_response_id=first["id"])
    await served.ask("responses", body)
    one, two = await served.traces(2)

    assert one.episode_id == two.episode_id


async def test_a_response_that_is_not_to_be_stored_is_not(served: Served) -> None:
    made = (await served.ask("responses", call("responses", "cascade", store=False))).json

    got = await served.send("GET", f"/v1/responses/{made['id']}")

    assert got.status == 404


async def test_a_deleted_response_cannot_be_gone_on_from(served: Served) -> None:
    body = call("responses", "cascade", previous_response_id="resp_tut_0123")

    got = await served.ask("responses", body)

    error = error_of("responses", got)
    assert (got.status, error["code"]) == (404, "previous_response_not_found")


async def test_a_response_of_another_tenant_does_not_exist(guarded: Served) -> None:
    guarded.key = await guarded.issue(tenant="acme")
    made = (await guarded.ask("responses", call("responses", "cascade"))).json
    guarded.key = await guarded.issue(tenant="other")

    got = await guarded.send("GET", f"/v1/responses/{made['id']}")
    items = await guarded.send("GET", f"/v1/responses/{made['id']}/input_items")
    deleted = await guarded.send("DELETE", f"/v1/responses/{made['id']}")
    body = call("responses", "cascade", previous_response_id=made["id"])
    went_on = await guarded.ask("responses", body)

    assert {one.status for one in (got, items, deleted, went_on)} == {404}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "order=up", "after=nothing"])
async def test_a_wrong_page_is_the_clients_mistake(query: str, served: Served) -> None:
    made = (await served.ask("responses", call("responses", "cascade"))).json

    got = await served.send("GET", f"/v1/responses/{made['id']}/input_items?{query}")

    assert got.status in (400, 404)
    assert error_of("responses", got)["param"] == query.partition("=")[0]


# Feedback and decisions.


async def test_feedback_by_episode_and_by_decision_reaches_the_episode(served: Served) -> None:
    headers = {"x-tutelage-session": "task-1"}
    got = await served.ask("chat", call("chat", "cascade"), headers)
    await served.traces()
    told = {"decision_id": got.told("decision-id"), "success": True, "comment": "well done"}

    by_decision = await served.send("POST", "/v1/feedback", told)
    by_episode = await served.send("POST", "/v1/feedback", {"episode_id": "task-1", "reward": 0.5})
    record = await served.gateway.parts.traces.episode(TENANT, "task-1")

    assert (by_decision.status, by_episode.status) == (200, 200)
    assert by_decision.json["episode_id"] == "task-1"
    assert record is not None
    assert (record.success, record.reward, record.comment) == (True, 0.5, "well done")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"success": True}, 400),
        ({"episode_id": "e"}, 400),
        ({"episode_id": "e", "success": "perhaps"}, 400),
        ({"episode_id": "e", "reward": 1.0, "tenant": "other"}, 400),
        ({"decision_id": "nothing", "success": True}, 404),
        (b"no json", 400),
    ],
)
async def test_feedback_that_says_nothing_usable_is_refused(
    body: Any, status: int, served: Served
) -> None:
    got = await served.send("POST", "/v1/feedback", body)

    assert got.status == status
    error_of("chat", got)


async def test_a_decision_tells_all_but_the_prompt_unless_asked(served: Served) -> None:
    got = await served.ask("chat", call("chat", "cascade", "the text of the prompt"))
    id = got.told("decision-id")

    told = await served.decision(id)
    whole = (await served.send("GET", f"/v1/decisions/{id}?include=prompt")).json

    assert (told["id"], told["decision"]["served"]) == (id, "student")
    assert told["tutelage"]["cost_usd"] == pytest.approx(float(got.told("cost-usd") or 0))
    assert "prompt" not in told
    assert "tenant" not in told
    assert "the text of the prompt" in json.dumps(whole["prompt"])


@wires
@pytest.mark.parametrize("model", ["passthrough", "route", "cascade", "shadow", "teacher", "other"])
async def test_a_decision_tells_what_the_headers_told(wire: str, model: str, world: World) -> None:
    aliases = {
        "aliases.other.upstreams": ["second"],
        "aliases.other.mode": "passthrough",
        "aliases.*": {"mode": "cascade"},
    }
    for asked in (model, "any name") if model == "cascade" else (model,):
        async with world.serve(aliases) as served:
            got = await served.ask(wire, call(wire, asked))
            told = (await served.decision(got.told("decision-id")))["tutelage"]
        served_by = {"route": "student@small", "cascade": "student@small", "other": "second"}
        assert told["served"] == served_by.get(model, "teacher")
        names = ("served", "reason", "mode", "decision-id", "policy", "student", "detail")
        headers = {name: got.told(name) for name in names if got.told(name) is not None}
        assert headers == {name: told[name.replace("-", "_")] for name in headers}


async def test_a_decision_says_what_could_not_be_honoured(served: Served) -> None:
    got = await served.ask("chat", call("chat", "cascade", logprobs=True))
    shown = await served.decision(got.told("decision-id"))

    assert shown["decision"]["reason"] == "unsupported"
    assert shown["decision"]["detail"] == shown["tutelage"]["detail"] == "logprobs"
    assert got.told("detail") == "logprobs"


async def test_a_decision_of_another_tenant_does_not_exist(guarded: Served) -> None:
    guarded.key = await guarded.issue(tenant="acme")
    got = await guarded.ask("chat", call("chat", "cascade"))
    await guarded.traces(tenant="acme")
    guarded.key = await guarded.issue(tenant="other")

    seen = await guarded.send("GET", f"/v1/decisions/{got.told('decision-id')}")
    judged = await guarded.send(
        "POST", "/v1/feedback", {"decision_id": got.told("decision-id"), "success": False}
    )

    assert (seen.status, judged.status) == (404, 404)


async def test_a_decision_without_a_trace_does_not_exist(world: World) -> None:
    async with world.serve({"gateway.trace": False}) as served:
        got = await served.ask("chat", call("chat", "cascade"))
        seen = await served.send("GET", f"/v1/decisions/{got.told('decision-id')}")

    assert (got.status, seen.status) == (200, 404)


# Health and metrics.


async def test_health_needs_no_key_and_no_database(guarded: Served) -> None:
    healthy = await guarded.send("GET", "/healthz")
    ready = await guarded.send("GET", "/readyz")

    assert (healthy.status, healthy.json) == (200, {"status": "ok"})
    assert (ready.status, ready.json["ready"]) == (200, True)


async def test_a_stopping_gateway_is_alive_but_not_ready(served: Served) -> None:
    served.gateway.is_stopping = True

    healthy = await served.send("GET", "/healthz")
    ready = await served.send("GET", "/readyz")

    assert (healthy.status, ready.status) == (200, 503)
    assert ready.json["reasons"]["worker"] == "stopping"


async def test_metrics_of_all_tenants_need_an_admin_key(guarded: Served) -> None:
    guarded.key = await guarded.issue()
    refused = await guarded.send("GET", "/metrics")
    guarded.key = await guarded.issue(kind="admin", tenant=None)
    shown = await guarded.send("GET", "/metrics")

    assert (refused.status, shown.status) == (403, 200)
    assert shown.headers["content-type"].startswith("text/plain")
    assert "tutelage_requests_total" in shown.raw.decode()
