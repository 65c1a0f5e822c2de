from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import written
from tests.served_gateway import Served, World, call

from tutelage.cascade.certificate import Certificate
from tutelage.cascade.watch import alarm_path

CERTIFICATE = Certificate(
    threshold=0.6,
    risk=0.01,
    risk_bound=0.04,
    alpha=0.05,
    delta=0.05,
    units=200,
    unit="episode",
    scope="rollouts",
    loss_kind="binary",
    certified=3,
    tested=4,
).to_json()


@pytest.fixture
async def certified(world: World, tmp_path: Path) -> AsyncIterator[Served]:
    """A gateway whose model ``certified`` is served by a calibrated policy."""
    settings: dict[str, Any] = {
        "retrieval.enabled": False,
        "aliases.certified": {"policy": "calibrated"},
    }
    path = written(tmp_path / "policy.json", world.config(settings), certificate=CERTIFICATE)
    async with world.serve({**settings, "cascade.policy_file": str(path)}) as served:
        yield served


@pytest.mark.parametrize(
    ("borne", "served_by", "reason"),
    [(None, "student@small", "certified"), ("0.05", "student@small", "certified"),
     ("0.049", "teacher", "forced"), ("0", "teacher", "forced")],
)  # fmt: skip
async def test_a_client_that_bears_less_risk_than_is_certified_gets_the_teacher(
    certified: Served, borne: str | None, served_by: str, reason: str
) -> None:
    headers = {} if borne is None else {"x-tutelage-risk": borne}
    got = await certified.ask("chat", call("chat", "certified"), headers)

    assert (got.told("served"), got.told("reason")) == (served_by, reason)
    assert got.told("risk") == "0.0500"


async def test_a_policy_that_nothing_is_certified_of_bears_no_risk(certified: Served) -> None:
    free = await certified.ask("chat", call("chat", "cascade"))
    bound = await certified.ask("chat", call("chat", "cascade"), {"x-tutelage-risk": "0.5"})

    assert (free.told("served"), bound.told("served")) == ("student@small", "teacher")
    assert "x-tutelage-risk" not in free.headers


@pytest.mark.parametrize("risk", ["much", "-0.1", "1.1", "nan"])
async def test_a_risk_that_is_no_share_is_a_bad_request(certified: Served, risk: str) -> None:
    got = await certified.ask("chat", call("chat", "certified"), {"x-tutelage-risk": risk})

    assert got.status == 400
    assert b"x-tutelage-risk" in got.raw


async def test_failed_episodes_of_the_student_tighten_the_policy_and_those_of_the_teacher_do_not(
    world: World, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "retrieval.enabled": False,
        "aliases.certified": {"policy": "calibrated"},
        "evidence.failures": 0.2,
    }
    path = written(
        tmp_path / "policy.json", world.config(settings), certificate=CERTIFICATE, threshold=0.9
    )
    async with world.serve({**settings, "cascade.policy_file": str(path)}) as served:

        async def fail(model: str, episode: str) -> str:
            session = {"x-tutelage-session": f"{model}-{episode}"}
            got = await served.ask("chat", call("chat", model), session)
            told = {"decision_id": got.told("decision-id"), "success": False}
            answer = await served.send("POST", "/v1/feedback", told)
            assert answer.status == 200
            return str(got.told("reason"))

        of_teacher = {await fail("teacher", str(episode)) for episode in range(40)}
        assert not alarm_path(path).exists()
        of_student = [await fail("certified", str(episode)) for episode in range(40)]

    assert of_teacher == {"always"}
    assert of_student[0] == "certified"
    assert of_student[-1] == "alarm"
    assert alarm_path(path).exists()
