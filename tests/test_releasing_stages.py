"""Single stages of the flywheel, at the turns that a whole run seldom takes."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import settings, written
from tests.isolation import isolate
from tests.made_releases import PROBE, draft, serving
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage import releasing
from tutelage.assembly import Assembly, open_assembly
from tutelage.cascade.policy_file import PolicyFile
from tutelage.learning import LearningStages
from tutelage.releasing import ReleaseStages, calibrate_release
from tutelage.runtime.errors import ReleaseRefused, TrainingError
from tutelage.runtime.release import Release
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training.flywheel import Work
from tutelage.training.runs import RunRecord, StageRecord


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to desk 1") as made:
        yield made


@pytest.fixture
async def assembly(endpoint: ScriptedEndpoint, tmp_path: Path) -> AsyncIterator[Assembly]:
    config = settings(
        student__base_url=endpoint.base_url,
        student__model="tiny",
        student__checkpoint=str(tmp_path / "base"),
        retrieval__enabled=False,
        releases__student="student",
        releases__drain_s=45.0,
        flywheel__wait_s=0.0,
    )
    async with open_assembly(config) as opened:
        yield opened


@pytest.fixture
def store(assembly: Assembly) -> SqlReleaseStore:
    return SqlReleaseStore(assembly.engine, time.time)


class Hands:
    """What the stages do with the world."""

    def __init__(self) -> None:
        self.down_: list[str] = []
        self.waited_s = 0.0
        self.policy: PolicyFile | None = None

    async def up(self, release: Release) -> str | None:
        return None

    async def down(self, release: Release) -> None:
        self.down_.append(release.name)

    async def sleep(self, seconds: float) -> None:
        self.waited_s += seconds

    async def calibrate(self, release: Release) -> PolicyFile | None:
        return self.policy


def stages_of(assembly: Assembly, hands: Hands) -> ReleaseStages:
    return ReleaseStages(
        assembly,
        "default",
        gates=[],
        deployment=hands,
        calibrate=hands.calibrate,
        sleep=hands.sleep,
    )


def work(tmp_path: Path, **results: dict[str, Any]) -> Work:
    done = tuple(
        StageRecord(name, "done", 1, 0.0, 0.0, "", found) for name, found in results.items()
    )
    return Work(
        RunRecord("run-1", "default", "student", "running", 0.0, None, "", done), tmp_path, 1
    )


def released(tmp_path: Path, name: str) -> Work:
    return work(tmp_path, release={"name": name}, select={})


async def test_without_a_gate_nothing_passes(assembly: Assembly, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"episodes": []}))
    found = await stages_of(assembly, Hands()).judge(work(tmp_path, evaluate={"file": str(file)}))
    assert (found.then, found.text) == ("end", "no gate judged the candidate")


async def test_a_release_that_is_out_already_is_not_deployed_again(
    assembly: Assembly, store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = serving(store, tenant="default", share=0.5)
    found = await stages_of(assembly, Hands()).deploy(released(tmp_path, release.name))
    assert found.result == {"name": "student@1"}
    assert store.release("default", release.name).stage == "canary"


async def test_a_policy_is_kept_where_one_is_needed(
    assembly: Assembly, store: SqlReleaseStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release, hands = store.add(draft(tenant="default")), Hands()
    made = released(tmp_path, release.name)
    assert (await stages_of(assembly, hands).calibrate(made)).result == {"calibrated": False}
    cascade = assembly.config.cascade.model_copy(update={"policy": "calibrated"})
    assembly.config = assembly.config.model_copy(update={"cascade": cascade})
    assert (await stages_of(assembly, hands).calibrate(made)).result == {"calibrated": False}
    assert "no policy is certified for student@1: always-teacher decides" in caplog.text
    hands.policy = PolicyFile.read(written(tmp_path / "policy.json", assembly.config))
    found = await stages_of(assembly, hands).calibrate(made)
    assert found.result["calibrated"] is True
    assert store.release("default", release.name).policy is not None
    hands.policy = None
    assert (await stages_of(assembly, hands).calibrate(made)).result == {"calibrated": True}


async def test_a_canary_that_loses_is_drained_and_taken_down(
    assembly: Assembly,
    store: SqlReleaseStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, hands = serving(store, tenant="default", share=0.05), Hands()

    async def lost(*_: Any) -> list[tuple[str, bool, bool]]:
        return [(f"e{n}", n % 2 == 0, n % 2 == 1) for n in range(80)]

    monkeypatch.setattr(ReleaseStages, "_outcomes", lost)
    found = await stages_of(assembly, hands).canary(released(tmp_path, release.name))
    assert found.result["text"].startswith("student@1 was rolled back: canary 0 of")
    assert (hands.down_, hands.waited_s) == (["student@1"], 45.0)


async def test_an_operator_who_decides_meanwhile_is_heard(
    assembly: Assembly,
    store: SqlReleaseStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, hands = serving(store, tenant="default", share=0.05), Hands()

    async def decide(*_: Any) -> list[tuple[str, bool, bool]]:
        store.promote("default", release.name, "by hand")
        raise ReleaseRefused("it is current")

    monkeypatch.setattr(ReleaseStages, "_outcomes", decide)
    found = await stages_of(assembly, hands).canary(released(tmp_path, release.name))
    assert found.result == {"text": "student@1 was promoted"}

    other = store.add(draft(tenant="default"))
    with pytest.raises(ReleaseRefused, match="is candidate"):
        await stages_of(assembly, hands).canary(released(tmp_path, other.name))


async def test_what_a_rollback_would_go_back_to_stays_up(
    assembly: Assembly, store: SqlReleaseStore, tmp_path: Path
) -> None:
    hands = Hands()
    for _ in range(4):
        latest = serving(store, tenant="default")
    await stages_of(assembly, hands).canary(released(tmp_path, latest.name))
    assert sorted(hands.down_) == ["student@1", "student@2"]
    assert hands.waited_s == 45.0


async def test_a_recipe_without_an_adapter_cannot_be_served_as_one(
    assembly: Assembly, tmp_path: Path
) -> None:
    chosen = assembly.config.releases.model_copy(update={"serve": "adapter"})
    assembly.config = assembly.config.model_copy(update={"releases": chosen})
    trained = {"adapter": None, "checkpoint": "x", "recipe": "supervised"}
    with pytest.raises(TrainingError, match="leaves no adapter"):
        await stages_of(assembly, Hands()).release(work(tmp_path, train=trained, select={}))


async def test_without_held_out_steps_the_shadow_is_silent(
    assembly: Assembly, store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = store.add(draft(tenant="default"))
    found = await stages_of(assembly, Hands()).deploy(released(tmp_path, release.name))
    assert (found.result["right"], found.result["asked"]) == (0, 0)
    assert store.release("default", release.name).stage == "shadow"


async def test_a_release_is_calibrated_by_play_in_its_own_name(
    assembly: Assembly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = assembly.config.flywheel.model_copy(
        update={"world": "household", "calibrate_fit": "train:2", "calibrate_on": "test:2"}
    )
    assembly.config = assembly.config.model_copy(update={"flywheel": chosen})
    asked: list[Any] = []

    async def play(opened: Assembly, play: Any, fit: str, goal: Any, watcher: Any) -> Any:
        asked.append((opened.config.student.model, play.split, fit, goal.alpha))

        class Found:
            file = None

        return Found()

    monkeypatch.setattr("tutelage.calibrating.calibrate_by_play", play)
    assert await calibrate_release(assembly, draft(tenant="default"), tmp_path) is None
    assert asked == [("student@1", "test:2", "train:2", 0.05)]
    assert releasing.needs_policy(assembly.config) is False


# Where training starts.


def starting(assembly: Assembly, **changes: Any) -> LearningStages:
    chosen = assembly.config.training.model_copy(update=changes)
    assembly.config = assembly.config.model_copy(update={"training": chosen})
    return LearningStages(assembly, "default")


async def test_training_starts_from_the_base_or_from_what_serves(
    assembly: Assembly, store: SqlReleaseStore, tmp_path: Path
) -> None:
    base = await starting(assembly)._start()
    assert (base.checkpoint, base.parent) == (tmp_path / "base", "")
    assert (await starting(assembly, start="current")._start()).parent == ""
    release = serving(store, tenant="default", probe=PROBE)
    current = await starting(assembly, start="current")._start()
    assert (str(current.checkpoint), current.parent) == (release.folder, "student@1")
    assert (await starting(assembly, start="base", checkpoint="own")._start()).checkpoint == Path(
        "own"
    )
    judged = await LearningStages(assembly, "default")._current()
    assert judged.student.model == "student@1"


async def test_an_adapter_is_nothing_to_start_from(
    assembly: Assembly, store: SqlReleaseStore
) -> None:
    serving(store, tenant="default", kind="adapter")
    with pytest.raises(TrainingError, match=r"set it to 'base'"):
        await starting(assembly, start="current")._start()
