"""Releases behind a runtime: who acts, by which policy, and how a bad canary is taken back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.configured_policies import settings, written
from tests.isolation import isolate
from tests.made_releases import draft, serving
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage.assembly import Assembly, open_assembly
from tutelage.released import Releases, policy_for, released_config
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.protocols import Model
from tutelage.runtime.release import Release, Served
from tutelage.runtime.store.canary_outcomes import SqlCanaryOutcomes
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.runtime.types import Answer, ChatRequest, Message
from tutelage.training.canary import Canary
from tutelage.training.gates.sequential import SequentialTest


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


class Students(ScriptedEndpoint):
    """A server of all releases; each says its own name, or is out of order."""

    def __init__(self) -> None:
        super().__init__(lambda body, index: f"go to {body['model'].replace('@', ' ')}")
        self.broken: set[str] = set()

    def answer(self, body: dict[str, Any]) -> tuple[str, bytes]:
        if body["model"] in self.broken:
            return "text/plain", b"out of order"
        return super().answer(body)


@pytest.fixture
def students() -> Iterator[Students]:
    with Students() as made:
        yield made


@pytest.fixture
def teacher() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to teacher 1") as made:
        yield made


def configured(students: Students, teacher: ScriptedEndpoint, **changes: Any) -> Config:
    return settings(
        student__base_url=students.base_url,
        student__model="base",
        student__attempts=1,
        teacher__base_url=teacher.base_url,
        teacher__model="gpt-4.1",
        retrieval__enabled=False,
        releases__student="student",
        releases__refresh_s=0.000001,
        **changes,
    )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Assembly, Runtime, SqlReleaseStore]]:
    async with open_assembly(config) as assembly:
        student: Model = await assembly.student()
        runtime = assembly.runtime(teacher=assembly.teacher(), student=student, releases=True)
        try:
            yield assembly, runtime, SqlReleaseStore(assembly.engine, time.time)
        finally:
            await runtime.aclose()


async def ask(runtime: Runtime, episode: str = "e") -> Answer:
    messages = [Message(role="user", content="Your task is to: tidy up.\nYou see a hall.")]
    request = ChatRequest(model="agent", messages=messages)
    return await runtime.complete(request, episode=runtime.episode(id=episode))


async def test_releases_take_the_place_of_the_student_and_give_it_back(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    async with opened(configured(students, teacher)) as (_, runtime, store):
        first = await ask(runtime)
        assert (first.text, first.trace.student) == ("go to base", None)
        serving(store, tenant="default")
        swapped = await ask(runtime)
        assert (swapped.text, swapped.trace.student) == ("go to student 1", "student@1")
        store.roll_back("student", "default", "worse")
        assert (await ask(runtime)).text == "go to base"


async def test_a_release_of_another_tenant_never_acts(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    async with opened(configured(students, teacher)) as (_, runtime, store):
        serving(store, tenant="other")
        assert (await ask(runtime)).text == "go to base"


async def test_without_releases_configured_nothing_is_read(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    config = configured(students, teacher)
    plain = config.model_copy(
        update={"releases": config.releases.model_copy(update={"student": None})}
    )
    async with opened(plain) as (assembly, runtime, store):
        serving(store, tenant="default")
        assert (await ask(runtime)).text == "go to base"
        assert assembly.releases is None


async def test_a_release_has_the_address_that_it_was_given(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    with Students() as own:
        async with opened(configured(students, teacher)) as (_, runtime, store):
            serving(store, tenant="default", base_url=own.base_url)
            assert (await ask(runtime)).text == "go to student 1"
            assert own.bodies
            assert not students.bodies


async def test_a_release_that_is_down_leaves_its_steps_to_the_teacher(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    async with opened(configured(students, teacher)) as (_, runtime, store):
        serving(store, tenant="default")
        students.broken.add("student@1")
        answer = await ask(runtime)
        assert answer.text == "go to teacher 1"
        assert (answer.decision.reason, answer.trace.student) == ("student_failed", "student@1")


# Policies.


def with_policy(config: Config, path: Path) -> Config:
    cascade = config.cascade.model_copy(update={"policy": "calibrated", "policy_file": str(path)})
    return config.model_copy(update={"cascade": cascade})


def calibrated(config: Config, release: Release, path: Path, **changes: Any) -> Path:
    served = Served(release.name, release.weights_sha256)
    return written(path, released_config(config, served), **changes)


async def test_an_old_policy_is_refused_after_a_swap(
    students: Students,
    teacher: ScriptedEndpoint,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = configured(students, teacher)
    config = with_policy(config, written(tmp_path / "policy.json", config))
    async with opened(config) as (assembly, runtime, store):
        assert (await ask(runtime)).decision.reason == "certified"
        release = serving(store, tenant="default")
        refused = await ask(runtime)
        assert (refused.text, refused.decision.reason) == ("go to teacher 1", "always")
        assert refused.trace.student == "student@1"
        assert "student@1 is refused" in caplog.text
        assert "tutelage calibrate" in caplog.text
        releases = assembly.releases
        assert isinstance(releases, Releases)
        assert releases.refused == releases.serving == {"student@1"}

        path = calibrated(config, release, tmp_path / "new.json")
        policy, digest = policy_for(config, release, path)
        store.set_policy("default", release.name, policy, digest)
        certified = await ask(runtime)
        assert (certified.text, certified.decision.reason) == ("go to student 1", "certified")
        assert releases.refused == frozenset()


async def test_the_safe_policy_is_the_configured_one(
    students: Students, teacher: ScriptedEndpoint, tmp_path: Path
) -> None:
    config = configured(students, teacher, releases__safe_policy="paper")
    config = with_policy(config, written(tmp_path / "policy.json", config))
    async with opened(config) as (_, runtime, store):
        serving(store, tenant="default")
        assert (await ask(runtime)).decision.reason == "agreed"


@pytest.mark.parametrize("fault", ["other conditions", "no policy at all"])
async def test_a_policy_that_does_not_hold_is_refused(
    students: Students, teacher: ScriptedEndpoint, tmp_path: Path, fault: str
) -> None:
    config = configured(students, teacher)
    config = with_policy(config, written(tmp_path / "policy.json", config))
    async with opened(config) as (assembly, runtime, store):
        release = serving(store, tenant="default")
        policy: dict[str, Any] = {"format": 1}
        if fault == "other conditions":
            path = calibrated(config, release, tmp_path / "new.json")
            policy = json.loads(path.read_text())
            policy["conditions"]["samples"] += 1
        store.set_policy("default", release.name, policy, "digest")
        assert (await ask(runtime)).decision.reason == "always"
        assert assembly.releases is not None
        assert assembly.releases.refused == {"student@1"}


def test_a_policy_of_another_release_is_not_kept_with_this_one(
    students: Students, teacher: ScriptedEndpoint, tmp_path: Path
) -> None:
    config = configured(students, teacher)
    release, other = draft(number=1), draft(number=1, weights_sha256="d" * 64)
    path = calibrated(config, release, tmp_path / "policy.json")
    policy, digest = policy_for(config, release, path)
    assert policy["threshold"] == 0.6
    assert len(digest) == 64
    for wrong in (other, draft(number=2)):
        with pytest.raises(ConfigError, match=rf"student\.model={wrong.name}"):
            policy_for(config, wrong, path)


async def fail(runtime: Runtime, episodes: int, name: str) -> list[str]:
    """Episodes that end in failure, and why who served in each."""
    reasons = []
    for number in range(episodes):
        async with runtime.episode(id=f"{name}-{number}") as episode:
            request = ChatRequest(model="agent", messages=[Message(role="user", content="Task: x")])
            answer = await runtime.complete(request, episode=episode)
            reasons.append(answer.decision.reason.value)
            await episode.feedback(success=False)
    return reasons


async def test_drift_of_one_release_is_not_that_of_the_next(
    students: Students, teacher: ScriptedEndpoint, tmp_path: Path
) -> None:
    config = configured(students, teacher, evidence__failures=0.05)
    config = with_policy(config, written(tmp_path / "policy.json", config))
    async with opened(config) as (assembly, runtime, store):
        for number in (1, 2):
            release = serving(store, tenant="default", weights_sha256=f"{number}" * 64)
            path = calibrated(config, release, tmp_path / f"{number}.json")
            store.set_policy("default", release.name, *policy_for(config, release, path))

            assert (await ask(runtime, f"new-{number}")).decision.reason == "certified"
            assert (await fail(runtime, 40, release.name))[-1] == "alarm"

        watch = assembly.policies.watch
        assert watch is not None
        assert watch.level == "normal"


# The drill.


async def test_a_student_that_turns_bad_in_the_canary_is_rolled_back(
    students: Students, teacher: ScriptedEndpoint
) -> None:
    """Through the runtime, traces and outcomes of which are all that the canary knows."""
    random = Random(1)
    async with opened(configured(students, teacher)) as (assembly, runtime, store):
        serving(store, tenant="default")
        release = store.add(draft(tenant="default"))
        store.shadow("default", release.name, "")
        read = SqlCanaryOutcomes(assembly.engine)
        started_s = time.time()

        async def outcomes(release: Release) -> Sequence[tuple[str, bool, bool]]:
            return await asyncio.to_thread(
                read.since, "default", release.name, "student@1", started_s, started_s
            )

        canary = Canary(store, outcomes, SequentialTest, shares=(0.3, 0.5), episodes=4)
        state = await canary.step(release)
        served: list[str | None] = []
        while state.verdict == "continue":
            assert len(served) < 300
            for _ in range(5):
                id = f"e{len(served)}"
                answer = await ask(runtime, id)
                acted = answer.trace.student
                served.append(acted)
                # Good at first, then bad: what a gate on held-out tasks could not see.
                turned = acted == release.name and len(served) > 30
                await runtime.episode(id=id).feedback(
                    success=random.random() < (0.1 if turned else 0.8)
                )
            state = await canary.step(release)
        assert state.verdict == "roll_back"
        assert 0.2 < served.count(release.name) / len(served) < 0.6
        assert store.release("default", release.name).stage == "rolled_back"
        after = [await ask(runtime, f"late{index}") for index in range(20)]
        assert {one.trace.student for one in after} == {"student@1"}
