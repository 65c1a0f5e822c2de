from __future__ import annotations

import logging

import pytest
from sqlalchemy import Engine, text

from tutelage.retrieval import exposures
from tutelage.retrieval.exposures import Exposure, Exposures, SqlExposureLog
from tutelage.runtime.types import Decision, Reason, Sample, Served, StepAudit, Trace

ONE = Exposure("acme", "e", 0, "step", 10.0, 0.1, ("a",), ("b",), {"find": "1"})


async def test_what_is_posted_is_read_back_once(database: Engine) -> None:
    log = SqlExposureLog(database)
    log.post(ONE)
    log.post(ONE)
    log.post(Exposure("acme", "e", 1, "step", 11.0, 0.1))
    await log.aclose()

    (found,) = Exposures(database).of_tenant("acme")

    assert found == Exposure("acme", "e", 0, "step", 10.0, 0.1, ("a",), ("b",))
    assert Exposures(database).of_tenant("acme", since_s=10.5) == []
    assert Exposures(database).of_tenant("zeta") == []
    assert log.lost == 0


async def test_a_set_of_tools_is_kept_with_the_times_it_was_seen(database: Engine) -> None:
    log = SqlExposureLog(database)
    for at_s in (10.0, 20.0, 5000.0):
        log.post(Exposure("acme", f"e{at_s}", 0, "step", at_s, 0.0, tools={"find": "1"}))
        await log.flush()
    await log.aclose()
    later = SqlExposureLog(database)
    later.post(Exposure("acme", "last", 0, "step", 9000.0, 0.0, tools={"find": "1"}))
    await later.aclose()

    (seen,) = Exposures(database).tool_sets("acme")

    assert (seen.tools, seen.first_seen_at_s, seen.last_seen_at_s) == ({"find": "1"}, 10.0, 9000.0)
    assert Exposures(database).tools_of_episode("acme", "last") == {"find": "1"}
    assert Exposures(database).tools_of_episode("acme", "none") == {}


async def test_a_database_that_is_gone_costs_notes_and_no_request(
    database: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    log = SqlExposureLog(database)
    log.post(ONE)
    await log.flush()
    with database.begin() as connection:
        connection.execute(text("DROP TABLE exposures"))
    with caplog.at_level(logging.WARNING):
        log.post(ONE)
        await log.aclose()

    assert log.lost == 1
    assert "1 exposures are lost" in caplog.text


async def test_what_waits_is_limited(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "_MOST_WAITING", 0)
    log = SqlExposureLog(database)
    log.post(ONE)
    await log.aclose()

    assert (log.lost, Exposures(database).of_tenant("acme")) == (1, [])


@pytest.mark.parametrize(
    ("served", "named", "agrees", "right"),
    [
        ("teacher", ("go", "go", "stay"), None, True),
        ("teacher", ("stay", None, "stay"), None, False),
        ("teacher", (), None, None),
        ("student", ("go",), None, None),
        ("student", ("go",), True, True),
        ("student", ("go",), False, False),
    ],
)
def test_the_student_was_right_where_it_named_the_teachers_action(
    served: Served, named: tuple[str | None, ...], agrees: bool | None, right: bool | None
) -> None:
    trace = Trace(
        id="x",
        tenant="acme",
        episode_id="e",
        step_index=0,
        created_at_s=1.0,
        model="m",
        goal="g",
        observation="o",
        answer="go",
        action="go",
        decision=Decision(served=served, reason=Reason.ALWAYS),
        samples=tuple(Sample(text="", action=one) for one in named),
    )
    audit = StepAudit(
        trace_id="x",
        tenant="acme",
        episode_id="e",
        step_index=0,
        created_at_s=2.0,
        propensity=0.1,
        agrees=agrees,
    )

    assert exposures.student_was_right(trace, audit if agrees is not None else None) is right
