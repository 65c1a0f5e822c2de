"""Nothing of one tenant ever reaches another, whatever they do with the same gateway."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from tests.security.conftest import PEPPER
from tests.served_gateway import WIRES, Got, World, call, text_of, tool

from tutelage.assembly import open_assembly
from tutelage.runtime.types import Trajectory, Turn

TENANTS = ("acme", "bolt", "core")
MODELS = ("passthrough", "teacher", "cascade", "route", "shadow", "student", "two")
MARKS = {tenant: f"canary-of-{tenant}-" for tenant in TENANTS}
SESSIONS = ("the-same-session", "session of many words", None)

Answered = tuple[str, str, str | None]

tenants = st.sampled_from(TENANTS)


def owners(text: str | bytes) -> set[str]:
    """The tenants whose canaries stand in a text."""
    found = text if isinstance(text, bytes) else text.encode()
    return {tenant for tenant, mark in MARKS.items() if mark.encode() in found}


def parrot(body: Mapping[str, Any]) -> str:
    """An upstream that says all that it heard, demonstrations included."""
    return json.dumps({name: body.get(name) for name in ("messages", "input", "prompt")})


class Tenancy(RuleBasedStateMachine):
    """Three tenants with two keys each, who call, come back, judge and pry."""

    answers = Bundle("answers")
    """Tenant, decision and, where there is one, response."""

    @initialize(layout=st.sampled_from(["per-step", "pinned"]), retrieval=st.booleans())
    def open(self, layout: str, retrieval: bool) -> None:
        self.number = 0
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        path = Path(self.folder.name)
        self.patch.setenv("TUTELAGE_CACHE", str(path / "cache"))
        self.patch.setenv("TUTELAGE_PEPPER", PEPPER)
        # All that is asked for was written down before.
        self.patch.setattr("tutelage.runtime.gateway.pages._PATIENCE", (0.0,))
        self.world = World(
            {
                "store.url": f"sqlite:///{path}/tutelage.sqlite",
                "store.spool": str(path / "spool"),
                "prompt.layout": layout,
                "prompt.max_prompt_tokens": 100_000,
                "retrieval.enabled": retrieval,
                "retrieval.delta_k": 1,
                "cascade.guards": (),
            }
        )
        self.seen = {id(up): 0 for up in self.upstreams}
        self.calls = dict.fromkeys(TENANTS, 0)
        self.comments: dict[tuple[str, str], str] = {}
        for up in self.upstreams:
            up.say = parrot
        self.runner.run(self._open())

    async def _open(self) -> None:
        await self.world.__aenter__()
        async with open_assembly(self.world.config()) as assembly:
            if assembly.config.retrieval.enabled:
                await assembly.bank.add([self._demonstration(tenant) for tenant in TENANTS])
        self.serving = self.world.serve(is_open=False)
        self.served = await self.serving.__aenter__()
        self.keys = {
            tenant: [await self.served.issue(tenant=tenant) for _ in range(2)] for tenant in TENANTS
        }

    def _demonstration(self, tenant: str) -> Trajectory:
        turns = tuple(
            Turn(f"You see {self._canary(tenant)}.", f"take {self._canary(tenant)}", "teacher")
            for _ in range(2)
        )
        return Trajectory(
            id="the-same-id",
            tenant=tenant,
            goal=f"find {self._canary(tenant)}",
            turns=turns,
            success=True,
            source="oracle:tests",
        )

    @property
    def upstreams(self) -> tuple[Any, ...]:
        return self.world.teacher, self.world.second, self.world.student

    def _canary(self, tenant: str) -> str:
        self.number = getattr(self, "number", 0) + 1
        return f"{MARKS[tenant]}{self.number}"

    def _headers(self, tenant: str, key: int, session: str | None) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self.keys[tenant][key]}"}
        if session is not None:
            headers["x-tutelage-session"] = session
        return headers

    def _body(self, tenant: str, wire: str, model: str, opening: str, **fields: Any) -> Any:
        """A conversation in which a tool has answered."""
        said, result = self._canary(tenant), self._canary(tenant)
        walk = {"where": said}
        body = call(wire, model, opening, tools=[tool(wire)], **fields)
        user = {"role": "user", "content": f"{opening} {said}"}
        if wire == "responses":
            named = {"type": "function_call", "call_id": "call_1", "name": "walk"}
            output = {"type": "function_call_output", "call_id": "call_1", "output": result}
            body["input"] = [user, {**named, "arguments": json.dumps(walk)}, output]
        elif wire == "messages":
            use = {"type": "tool_use", "id": "call_1", "name": "walk", "input": walk}
            back = {"type": "tool_result", "tool_use_id": "call_1", "content": result}
            body["messages"] = [
                user,
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [back]},
            ]
        else:
            function = {"name": "walk", "arguments": json.dumps(walk)}
            calls = [{"id": "call_1", "type": "function", "function": function}]
            body["messages"] = [
                user,
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": "call_1", "content": result},
            ]
        return body

    def _check(self, tenant: str, got: Got) -> None:
        assert owners(got.raw) <= {tenant}
        assert owners(str(got.headers)) <= {tenant}

    @rule(
        target=answers,
        tenant=tenants,
        key=st.integers(0, 1),
        wire=st.sampled_from(WIRES),
        model=st.sampled_from(MODELS),
        session=st.sampled_from(SESSIONS),
        stream=st.booleans(),
        opening=st.sampled_from(["Task: tidy.", "Task: go home."]),
    )
    def ask(
        self,
        tenant: str,
        key: int,
        wire: str,
        model: str,
        session: str | None,
        stream: bool,
        opening: str,
    ) -> Any:
        body = self._body(tenant, wire, model, opening, stream=stream)
        headers = self._headers(tenant, key, session)
        got = self.runner.run(self.served.ask(wire, body, headers))
        assert got.status == 200, got.raw
        self._check(tenant, got)
        self.calls[tenant] += 1
        named = got.told("decision-id")
        kept = None
        if wire == "responses":
            objects = got.data if stream else [got.json]
            ids = {one.get("response", one).get("id") for one in objects}
            kept = next((id for id in ids if str(id).startswith("resp_tut_")), None)
        return (tenant, named, kept)

    @rule(
        tenant=tenants,
        other=tenants,
        model=st.sampled_from(MODELS),
        wire=st.sampled_from(["chat", "messages"]),
    )
    def open_alike(self, tenant: str, other: str, model: str, wire: str) -> None:
        """Two tenants say the same, and name no session: these are two conversations."""
        episodes = set()
        for one in (tenant, other):
            body = call(wire, model, "Task: the same words.")
            got = self.runner.run(self.served.ask(wire, body, self._headers(one, 0, None)))
            self._check(one, got)
            self.calls[one] += 1
            trace = self.runner.run(self._trace(one, str(got.told("decision-id"))))
            episodes.add((trace.tenant, trace.episode_id))
        assert len({episode for _, episode in episodes}) == len(episodes)

    @rule(calls=st.lists(st.tuples(tenants, st.sampled_from(WIRES), st.sampled_from(MODELS))))
    def ask_at_once(self, calls: list[tuple[str, str, str]]) -> None:
        """Calls of several tenants in one session at one time."""

        async def all_of_them() -> list[Got]:
            return await asyncio.gather(
                *(
                    self.served.ask(
                        wire,
                        self._body(tenant, wire, model, "Task: at once.", stream=index % 2 == 0),
                        self._headers(tenant, index % 2, SESSIONS[0]),
                    )
                    for index, (tenant, wire, model) in enumerate(calls)
                )
            )

        for (tenant, _, _), got in zip(calls, self.runner.run(all_of_them()), strict=True):
            assert got.status == 200, got.raw
            self._check(tenant, got)
            self.calls[tenant] += 1

    @rule(tenant=tenants, one=answers, key=st.integers(0, 1))
    def read_decision(self, tenant: str, one: Answered, key: int) -> None:
        owner, id, _ = one
        self.runner.run(self._trace(owner, id))
        got = self._get(tenant, f"/v1/decisions/{id}?include=prompt", key)
        assert got.status == (200 if owner == tenant else 404)
        if owner == tenant:
            assert owners(got.raw) == {tenant}

    @rule(tenant=tenants, one=answers, key=st.integers(0, 1), items=st.booleans())
    def read_response(self, tenant: str, one: Answered, key: int, items: bool) -> None:
        owner, _, id = one
        got = self._get(tenant, f"/v1/responses/{id}" + ("/input_items" if items else ""), key)
        assert got.status == (200 if owner == tenant and id is not None else 404)
        if got.status == 200:
            assert owners(got.raw) == {tenant}

    @rule(
        target=answers,
        tenant=tenants,
        one=answers,
        model=st.sampled_from(["teacher", "cascade", "student"]),
    )
    def go_on(self, tenant: str, one: Answered, model: str) -> Any:
        """From a response of one's own; one of somebody else is not there."""
        owner, _, id = one
        if id is None:
            return multiple()
        body = call("responses", model, self._canary(tenant), previous_response_id=id)
        got = self.runner.run(self.served.ask("responses", body, self._headers(tenant, 0, None)))
        self._check(tenant, got)
        if owner != tenant:
            assert got.status == 404
            return multiple()
        assert got.status == 200, got.raw
        self.calls[tenant] += 1
        return (tenant, got.told("decision-id"), got.json["id"])

    @rule(tenant=tenants, one=answers)
    def try_to_delete(self, tenant: str, one: Answered) -> None:
        owner, _, id = one
        if id is None or owner == tenant:
            return
        headers = self._headers(tenant, 0, None)
        got = self.runner.run(self.served.send("DELETE", f"/v1/responses/{id}", None, headers))
        assert got.status == 404
        assert self._get(owner, f"/v1/responses/{id}", 0).status == 200

    @rule(tenant=tenants, one=answers)
    def judge_a_decision(self, tenant: str, one: Answered) -> None:
        owner, id, _ = one
        trace = self.runner.run(self._trace(owner, id))
        comment = self._canary(tenant)
        got = self._judge(tenant, {"decision_id": id, "success": True, "comment": comment})
        assert got.status == (200 if owner == tenant else 404)
        if owner == tenant:
            self.comments[tenant, trace.episode_id] = comment

    @rule(tenant=tenants)
    def judge_a_session(self, tenant: str) -> None:
        """All tenants call their session the same; each judges its own."""
        comment = self._canary(tenant)
        got = self._judge(tenant, {"episode_id": SESSIONS[0], "success": False, "comment": comment})
        assert got.status == 200
        self.comments[tenant, str(SESSIONS[0])] = comment

    def _judge(self, tenant: str, body: dict[str, Any]) -> Got:
        headers = self._headers(tenant, 1, None)
        got = self.runner.run(self.served.send("POST", "/v1/feedback", body, headers))
        self._check(tenant, got)
        return got

    def _get(self, tenant: str, path: str, key: int) -> Got:
        got = self.runner.run(self.served.send("GET", path, None, self._headers(tenant, key, None)))
        self._check(tenant, got)
        return got

    async def _trace(self, tenant: str, id: str) -> Any:
        async with asyncio.timeout(20):
            while True:
                found = await self.served.gateway.parts.traces.trace(tenant, id)
                if found is not None:
                    return found
                await asyncio.sleep(0.005)

    @invariant()
    def every_request_to_an_upstream_is_of_one_tenant(self) -> None:
        for up in getattr(self, "upstreams", ()) if hasattr(self, "served") else ():
            for one in up.requests[self.seen[id(up)] :]:
                assert len(owners(one.raw)) <= 1
                assert not owners(str(one.headers) + one.query)
                assert not any(tenant in str(one.headers) for tenant in TENANTS)
            self.seen[id(up)] = len(up.requests)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            if hasattr(self, "served"):
                self.runner.run(self._check_what_is_kept())
        finally:
            self.runner.run(self._close())
            self.runner.close()
            self.folder.cleanup()
            self.patch.undo()

    async def _check_what_is_kept(self) -> None:
        await self.served.idle()
        traces = self.served.gateway.parts.traces
        for tenant in TENANTS:
            kept = (
                await self.served.traces(self.calls[tenant], tenant) if self.calls[tenant] else []
            )
            assert len(kept) == self.calls[tenant]
            for trace in kept:
                assert trace.tenant == tenant
                assert owners(trace.model_dump_json()) <= {tenant}
                # Whose demonstrations were shown: every tenant's have the same id.
                assert owners(json.dumps(trace.prompt)) <= {tenant}
            for episode in await traces.episodes(tenant, limit=1000):
                assert owners(episode.model_dump_json()) <= {tenant}
        for (tenant, episode_id), comment in self.comments.items():
            found = await traces.episode(tenant, episode_id)
            assert found is not None
            assert found.comment == comment
        metrics = self.served.gateway.metrics.render()[0].decode()
        assert not owners(metrics)

    async def _close(self) -> None:
        if hasattr(self, "served"):
            await self.serving.__aexit__(None, None, None)
        await self.world.__aexit__(None, None, None)


Tenancy.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTenancy = pytest.mark.slow(Tenancy.TestCase)


async def test_demonstrations_of_the_own_tenant_are_shown_and_those_of_others_never(
    world: World,
) -> None:
    """The same id, the same session, the same words: only the key is another."""
    machine = Tenancy()
    machine.number = 0
    world.student.say = parrot
    settings_ = {"cascade.guards": (), "prompt.max_prompt_tokens": 100_000}
    async with open_assembly(world.config()) as assembly:
        await assembly.bank.add([machine._demonstration(tenant) for tenant in TENANTS])
    async with world.serve(settings_, is_open=False) as served:
        for tenant in TENANTS * 2:
            served.key = await served.issue(tenant=tenant)
            body = call("chat", "cascade", "Task: find it.\nYou see a desk.")
            got = await served.ask("chat", body, {"x-tutelage-session": "the-same-session"})
            assert got.told("demos") != "0"
            assert owners(got.raw) == {tenant}
    assert {frozenset(owners(one.raw)) for one in world.student.requests} == {
        frozenset({tenant}) for tenant in TENANTS
    }


async def test_a_pinned_demonstration_stays_with_its_tenant(world: World) -> None:
    """It is kept in the memory of an episode, whose name two tenants share."""
    machine = Tenancy()
    machine.number = 0
    world.student.say = parrot
    layout = {"prompt.layout": "pinned", "cascade.guards": (), "prompt.max_prompt_tokens": 100_000}
    async with open_assembly(world.config()) as assembly:
        await assembly.bank.add([machine._demonstration(tenant) for tenant in ("acme", "bolt")])
    async with world.serve(layout, is_open=False) as served:
        for tenant in ("acme", "bolt", "core", "acme"):
            served.key = await served.issue(tenant=tenant)
            body = call("chat", "cascade", "Task: find it.\nYou see a desk.")
            got = await served.ask("chat", body, {"x-tutelage-session": "one"})
            assert owners(got.raw) == ({tenant} if tenant != "core" else set())


async def test_what_a_tenant_says_of_another_tenants_episode_is_said_of_its_own(
    world: World,
) -> None:
    async with world.serve(is_open=False) as served:
        for tenant, success in (("acme", True), ("bolt", False)):
            served.key = await served.issue(tenant=tenant)
            await served.ask("chat", call("chat", "cascade"), {"x-tutelage-session": "one"})
            body = {"episode_id": "one", "success": success}
            assert (await served.send("POST", "/v1/feedback", body)).status == 200
        traces = served.gateway.parts.traces
        acme, bolt = await traces.episode("acme", "one"), await traces.episode("bolt", "one")
    assert acme is not None
    assert bolt is not None
    assert (acme.success, bolt.success) == (True, False)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("model", ["teacher", "cascade", "passthrough"])
async def test_a_conversation_of_the_same_words_is_another_one_for_another_tenant(
    wire: str, model: str, world: World
) -> None:
    """Clients that name no session are recognised by what was said before."""
    episodes: dict[str, list[str]] = {}
    async with world.serve(is_open=False) as served:
        for tenant in ("acme", "bolt"):
            served.key = await served.issue(tenant=tenant)
            first = call(wire, model, "Task: tidy.")
            said = text_of(wire, (await served.ask(wire, first)).json)
            await served.traces(1, tenant)
            turns = [
                {"role": "user", "content": "Task: tidy."},
                {"role": "assistant", "content": said},
                {"role": "user", "content": "and now?"},
            ]
            second = {**first, "input" if wire == "responses" else "messages": turns}
            assert (await served.ask(wire, second)).status == 200
            traces = await served.traces(2, tenant)
            assert sorted(trace.step_index for trace in traces) == [0, 1]
            episodes[tenant] = [trace.episode_id for trace in traces]
        # Nor does it belong to a tenant who only repeats what another one has heard.
        served.key = await served.issue(tenant="core")
        assert (await served.ask(wire, second)).status == 200
        episodes["core"] = [trace.episode_id for trace in await served.traces(1, "core")]
    assert [len(set(ids)) for ids in episodes.values()] == [1, 1, 1]
    assert len({ids[0] for ids in episodes.values()}) == 3


@pytest.mark.parametrize("session", [{}, {"x-tutelage-session": "one"}])
async def test_who_served_an_episode_is_remembered_for_one_tenant_only(
    session: dict[str, str], world: World
) -> None:
    """The guards look at what the student did before: not at what it did for somebody else."""
    async with world.serve(is_open=False) as served:
        episodes = served.gateway.parts.episodes
        for tenant, model in (("acme", "student"), ("bolt", "teacher")):
            served.key = await served.issue(tenant=tenant)
            got = await served.ask("chat", call("chat", model), session)
            assert got.status == 200
        traces = {
            tenant: (await served.traces(tenant=tenant))[0].episode_id
            for tenant in ("acme", "bolt")
        }
        by_tenant = {
            tenant: episodes.episode(tenant, traces[tenant]).served for tenant in ("acme", "bolt")
        }
    assert by_tenant == {"acme": {0: "student"}, "bolt": {0: "teacher"}}


async def test_an_unknown_and_a_foreign_id_look_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses ids learns nothing of what others have."""
    monkeypatch.setattr("tutelage.runtime.gateway.pages._PATIENCE", (0.0,))
    async with world.serve(is_open=False) as served:
        served.key = await served.issue(tenant="acme")
        got = await served.ask("responses", call("responses", "cascade", store=True))
        (trace,) = await served.traces(tenant="acme")
        served.key = await served.issue(tenant="bolt")
        for real, made_up, path in (
            (got.json["id"], "resp_tut_" + "0" * 32, "/v1/responses/{}"),
            (got.json["id"], "resp_tut_" + "0" * 32, "/v1/responses/{}/input_items"),
            (trace.id, "0" * 32, "/v1/decisions/{}"),
        ):
            foreign = await served.send("GET", path.format(real))
            unknown = await served.send("GET", path.format(made_up))
            assert foreign.status == unknown.status == 404
            assert foreign.raw.replace(real.encode(), b"") == unknown.raw.replace(
                made_up.encode(), b""
            )
