"""What a client gets when the student, the embedder or the database fails."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.served_gateway import (
    WIRES,
    Served,
    World,
    call,
    error_event_of,
    error_of,
    is_complete,
    streamed_text,
    text_of,
)

from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.errors import RetrievalError
from tutelage.runtime.store.spool import Spool

wires = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"

# A student's live stream is committed with its first chunk.
STUDENT_FAULTS = [
    (stream, model, fault)
    for stream in (False, True)
    for model in ("cascade", "route")
    for fault in ("429;retry-after=7", "500", "502", "truncated", "empty", "wrong-type", "reset")
    if not (stream and model == "route" and fault == "truncated")
]
LATE = [
    (stream, model, fault)
    for stream in (False, True)
    for model in ("cascade", "student", "route")
    for fault in ("hang", "hang-body")
    if not (stream and model == "route" and fault == "hang-body")
]


@wires
@pytest.mark.parametrize(("stream", "model", "fault"), STUDENT_FAULTS)
async def test_a_failing_student_hands_the_step_to_the_teacher(
    wire: str, stream: bool, model: str, fault: str, served: Served, world: World
) -> None:
    world.student.fault = fault

    got = await served.ask(wire, call(wire, model, stream=stream))
    (trace,) = await served.traces()

    assert got.status == 200
    assert (streamed_text(wire, got) if stream else text_of(wire, got.json)) == TEACHER
    assert got.told("reason") == "student_failed"
    assert trace.error is not None
    assert trace.decision.reason.value == "student_failed"


@pytest.mark.parametrize(("stream", "model", "fault"), LATE)
async def test_a_late_student_hands_the_step_to_the_teacher(
    stream: bool, model: str, fault: str, world: World
) -> None:
    world.student.fault = fault
    async with world.serve({"gateway.student_deadline_s": 0.1}) as served:
        asking = (served.ask(wire, call(wire, model, stream=stream)) for wire in WIRES)
        answers = await asyncio.gather(*asking)
        await world.student.disconnected(len(WIRES))

    for wire, got in zip(WIRES, answers, strict=True):
        assert (streamed_text(wire, got) if stream else text_of(wire, got.json)) == TEACHER
        assert got.told("reason") == "student_late"


@wires
@pytest.mark.parametrize("fault", ["cut", "malformed", "error-event", "no-end"])
async def test_a_routed_student_that_breaks_off_is_not_replaced(
    wire: str, fault: str, served: Served, world: World
) -> None:
    world.student.fault = fault

    got = await served.ask(wire, call(wire, "route", stream=True))
    (trace,) = await served.traces()

    assert error_event_of(wire, got)["message"]
    assert not is_complete(wire, got)
    assert world.teacher.calls() == 0
    assert (trace.decision.served, trace.error is not None) == ("student", True)


@wires
@streamed
async def test_a_failing_student_of_the_shadow_changes_nothing(
    wire: str, stream: bool, served: Served, world: World
) -> None:
    world.student.fault = "500"

    got = await served.ask(wire, call(wire, "shadow", stream=stream))
    (trace,) = await served.traces()

    assert (streamed_text(wire, got) if stream else text_of(wire, got.json)) == TEACHER
    assert trace.shadow is not None
    assert trace.shadow.reason.value == "student_failed"


@wires
@streamed
@pytest.mark.parametrize("fault", ["500", "reset", "429"])
async def test_a_dead_teacher_does_not_lower_the_bar_of_the_student(
    wire: str, stream: bool, fault: str, served: Served, world: World
) -> None:
    world.teacher.fault = fault

    agreed = await served.ask(wire, call(wire, "cascade", stream=stream))
    world.student.disagree()
    refused = await served.ask(wire, call(wire, "cascade", stream=stream))

    assert (streamed_text(wire, agreed) if stream else text_of(wire, agreed.json)) == STUDENT
    assert refused.status == (429 if fault == "429" else 502)
    error_of(wire, refused)


# Our own parts.


@wires
@streamed
async def test_a_failing_retrieval_means_the_teacher(
    wire: str, stream: bool, served: Served, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def search(*_: object) -> object:
        raise RetrievalError("the index is gone")

    monkeypatch.setattr(KeyedRetriever, "search", search)

    got = await served.ask(wire, call(wire, "cascade", stream=stream))
    (trace,) = await served.traces()

    assert (streamed_text(wire, got) if stream else text_of(wire, got.json)) == TEACHER
    assert got.told("reason") == "retrieval_failed"
    assert trace.error == "RetrievalError: the index is gone"


async def test_a_missing_embedder_is_found_at_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tutelage.retrieval.minilm._packaged", lambda *_: None)
    with pytest.raises(RetrievalError, match=r"all-MiniLM-L6-v2 are missing: pip install"):
        async with world.serve({"retrieval.embedder": "minilm"}):
            raise AssertionError("it was served")


@wires
@streamed
@pytest.mark.parametrize("model", ["passthrough", "cascade", "teacher"])
async def test_a_lost_database_fails_no_request(
    wire: str, stream: bool, model: str, world: World, database: Path, tmp_path: Path
) -> None:
    async with world.serve() as served:
        before = await served.ask(wire, call(wire, model, stream=stream))
        await served.traces(1)
        lose(database)
        got = await served.ask(wire, call(wire, model, stream=stream))

    assert (before.status, got.status) == (200, 200)
    text = streamed_text(wire, got) if stream else text_of(wire, got.json)
    assert text == (STUDENT if model == "cascade" else TEACHER)
    with Spool(tmp_path / "spool").oldest(10) as records:
        ids = [record.body["id"] for record in records]
    assert ids == [got.told("decision-id")]


async def test_what_was_spooled_is_in_the_database_when_it_is_back(
    world: World, database: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.sqlite"
    async with world.serve() as served:
        shutil.copy(database, kept)
        lose(database)
        got = await served.ask("chat", call("chat", "cascade"))
    shutil.rmtree(database)
    shutil.copy(kept, database)

    async with world.serve() as served:
        (trace,) = await served.traces(1)

    assert trace.id == got.told("decision-id")


async def test_what_is_kept_cannot_be_read_while_the_database_is_gone(
    served: Served, database: Path
) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE responses")
    connection.close()

    got = await served.send("GET", "/v1/responses/resp_tut_1")
    again = await served.ask(
        "responses", call("responses", "cascade", previous_response_id="resp_tut_1")
    )

    assert (got.status, again.status) == (503, 503)
    assert str(database) not in got.raw.decode()
    assert int(got.headers["retry-after"]) >= 1


def lose(database: Path) -> None:
    """Puts something that is no database in its place."""
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    database.mkdir()
