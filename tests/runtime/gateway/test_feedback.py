"""Feedback over the socket makes demonstrations of the episode that it judges."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest
from tests.served_gateway import Served, call, until

OPENING = "Task: find the key.\nA room with a drawer 1."


async def judged(served: Served, id: str, *, success: bool) -> int:
    """An episode of one step by the teacher, and what feedback on it was answered with."""
    await served.ask("chat", call("chat", "teacher", OPENING), {"x-tutelage-session": id})
    told = {"episode_id": id, "success": success}
    return (await served.send("POST", "/v1/feedback", told)).status


async def shown(served: Served) -> tuple[str, ...]:
    """The demonstrations that a new episode of the student is shown."""
    got = await served.ask("chat", call("chat", "student", OPENING))
    async with asyncio.timeout(10):
        while True:
            trace = await served.gateway.parts.traces.trace("default", str(got.told("decision-id")))
            if trace is not None:
                return trace.demonstrations
            await asyncio.sleep(0.01)


async def test_the_student_is_shown_what_succeeded_soon_after_the_feedback(
    served: Served,
) -> None:
    failed = await judged(served, "failed", success=False)
    succeeded = await judged(served, "solved", success=True)
    async with asyncio.timeout(30):
        while not (found := await shown(served)):  # noqa: ASYNC110 - a thread works on it
            await asyncio.sleep(0.01)

    assert (failed, succeeded) == (200, 200)
    assert found == ("solved:0",)


async def test_feedback_is_taken_though_nothing_can_be_made_of_the_episode(
    served: Served, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE demonstration_candidates")
    with caplog.at_level(logging.WARNING):
        status = await judged(served, "solved", success=True)
        await until(lambda: "episode solved of default is not harvested yet" in caplog.text)

    assert status == 200
    assert await shown(served) == ()
