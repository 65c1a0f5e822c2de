"""New parts in place of old ones, while requests are served."""

from __future__ import annotations

import asyncio

import pytest
from tests.served_gateway import Served, World, call, text_of, until

from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.serve_process import _Running
from tutelage.serving import open_parts

STUDENT, TEACHER = "go to desk 1", "go to the teacher's desk"


async def test_requests_in_flight_end_with_the_parts_they_began_with(
    served: Served, world: World
) -> None:
    gate = world.teacher.gate = asyncio.Event()
    old = served.gateway.parts
    streaming = asyncio.create_task(served.ask("chat", call("chat", "teacher", stream=True)))
    await world.teacher.arrived()
    new = await open_parts(
        world.config({"aliases": {"cascade": {"mode": "passthrough"}}}), is_open=True
    )
    swapping = asyncio.create_task(served.gateway.swap(new))
    await asyncio.sleep(0)
    world.teacher.gate = None
    after = await served.ask("chat", call("chat", "cascade"))
    gone = await served.ask("chat", call("chat", "teacher"))
    still_open = not swapping.done()
    gate.set()
    finished = await streaming
    await asyncio.wait_for(swapping, 10)

    assert served.gateway.parts is new is not old
    assert text_of("chat", after.json) == TEACHER
    assert gone.status == 404
    assert still_open
    assert b"data: [DONE]" in finished.raw


class File:
    """A configuration that is edited."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.reads = 0

    def __call__(self) -> Config:
        self.reads += 1
        return self.config


async def answer(served: Served) -> str:
    return text_of("chat", (await served.ask("chat", call("chat", "cascade"))).json)


async def test_a_reload_serves_by_what_the_file_says_now(served: Served, world: World) -> None:
    file = File(world.config())
    running = _Running(file, file.config, served.gateway, is_open=True)
    before = await answer(served)
    file.config = world.config({"aliases": {"cascade": {"mode": "passthrough"}}})

    await running.reload()

    assert (before, await answer(served), file.reads) == (STUDENT, TEACHER, 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"aliases": {}},
        {"aliases": {"x": {"upstreams": ["nobody"]}}},
        {"aliases": {"x": {"mode": "route", "policy": "paper"}}},
        {"cascade.policy": "guess"},
        {"teacher.wires": []},
        {"teacher.base_url": "ftp://x"},
        {"teacher.api_key_env": "A_VARIABLE_THAT_IS_NOT_SET"},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_a_bad_configuration_leaves_the_running_one(
    bad: dict[str, object], served: Served, world: World
) -> None:
    file = File(world.config())
    running = _Running(file, file.config, served.gateway, is_open=True)
    old = served.gateway.parts
    file.config = world.config(bad)

    with pytest.raises(ConfigError):
        await running.reload()

    assert served.gateway.parts is old
    assert await answer(served) == STUDENT


async def test_reloads_in_a_row_end_with_the_last_one(served: Served, world: World) -> None:
    file = File(world.config())
    running = _Running(file, file.config, served.gateway, is_open=True)
    asking = [asyncio.create_task(answer(served)) for _ in range(20)]
    reloads = [asyncio.create_task(running.reload()) for _ in range(3)]
    file.config = world.config({"aliases": {"cascade": {"mode": "passthrough"}}})

    await asyncio.gather(*reloads)
    answers = await asyncio.gather(*asking)
    await until(lambda: not running._closing)

    assert set(answers) <= {STUDENT, TEACHER}
    assert await answer(served) == TEACHER
    # Nobody holds the old parts any more.
    assert len(await served.traces(21)) == 21


async def test_keys_and_stored_responses_outlive_a_reload(guarded: Served, world: World) -> None:
    guarded.key = await guarded.issue()
    made = (await guarded.ask("responses", call("responses", "cascade"))).json
    config = world.config()

    await _Running(lambda: config, config, guarded.gateway, is_open=False).reload()

    kept = await guarded.send("GET", f"/v1/responses/{made['id']}")
    assert (kept.status, kept.json["id"]) == (200, made["id"])
