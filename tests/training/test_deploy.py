"""Releases come up on every replica, prove themselves, and go down after a drain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.made_releases import PASSED, PROBE, Clock
from tests.training.fake_replica import FakeReplica

from tutelage.runtime.errors import CheckpointDamaged, ModelError, ReleaseRefused, TrainingError
from tutelage.runtime.models.vllm import VllmServer
from tutelage.runtime.release import Kind, Lineage, Release
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.training import deploy
from tutelage.training.deploy import (
    AdapterDeployment,
    ElsewhereDeployment,
    ServerDeployment,
    drain,
)
from tutelage.training.releases import ReleaseShelf, Weights


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlReleaseStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'releases.sqlite'}")
    yield SqlReleaseStore(engine, time.time)
    engine.dispose()


def released(store: SqlReleaseStore, tmp_path: Path, kind: Kind, **changes: Any) -> Release:
    folder = tmp_path / f"trained-{kind}"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(kind.encode())
    lineage = Lineage(traces_sha256="c" * 64, traces=1, recipe="supervised", code="0")
    made = ReleaseShelf(tmp_path / "shelf", store).publish(
        Weights(folder, kind),
        student="student",
        tenant="acme",
        lineage=lineage,
        evidence=PASSED,
        probe=PROBE,
        origin=f"run-{kind}",
    )
    return made.model_copy(update=changes)


def good(**more: Any) -> FakeReplica:
    """Its two tokens have the log-probability -1 together, as the release's probe has."""
    return FakeReplica({"student@1": -0.5}, **more)


async def test_an_adapter_comes_up_on_every_replica_and_goes_down(
    store: SqlReleaseStore, tmp_path: Path
) -> None:
    release, clock = released(store, tmp_path, "adapter"), Clock()
    async with good() as one, good() as other:
        deployment = AdapterDeployment([one.base_url, other.base_url])
        for _ in range(2):
            assert await deployment.up(release) is None
        assert (one.loaded, other.loaded) == (["student@1"], ["student@1"])
        assert one.calls[0][1]["lora_path"] == release.folder
        await drain(deployment, release, 45, clock.sleep)
        assert clock.now_s == 1045
        assert one.names == other.names == ["student"]


async def test_a_replica_that_answers_with_the_base_is_found(
    store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = released(store, tmp_path, "adapter")
    async with good() as one, FakeReplica({"student@1": -4.5}) as other:
        with pytest.raises(TrainingError, match="with other weights") as caught:
            await AdapterDeployment([one.base_url, other.base_url]).up(release)
        assert other.base_url in str(caught.value)
        assert one.base_url not in str(caught.value)


async def test_a_replica_that_is_down_stops_the_deployment(
    store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = released(store, tmp_path, "adapter")
    async with good() as gone:
        address = gone.base_url
    async with good() as one:
        with pytest.raises(ModelError, match="cannot connect"):
            await AdapterDeployment([one.base_url, address]).up(release)


async def test_damaged_weights_are_not_loaded(store: SqlReleaseStore, tmp_path: Path) -> None:
    release = released(store, tmp_path, "adapter")
    (Path(release.folder) / "model.safetensors").write_bytes(b"other")
    async with good() as server:
        with pytest.raises(CheckpointDamaged):
            await AdapterDeployment([server.base_url]).up(release)
        assert server.loaded == []


async def test_kinds_and_ways_to_serve_must_fit(store: SqlReleaseStore, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match=r"releases\.serve"):
        await AdapterDeployment([]).up(released(store, tmp_path, "full"))
    with pytest.raises(ReleaseRefused, match=r"releases\.serve"):
        await ServerDeployment(tmp_path).up(released(store, tmp_path, "adapter"))


async def test_a_release_without_a_probe_is_not_believed(
    store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = released(store, tmp_path, "adapter", probe=None)
    async with good() as server:
        with pytest.raises(TrainingError, match="no probe"):
            await AdapterDeployment([server.base_url]).up(release)


async def test_a_release_that_others_bring_up_is_waited_for_and_proven(
    store: SqlReleaseStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = released(store, tmp_path, "full")
    caplog.set_level("INFO")
    async with good() as server:
        deployment = ElsewhereDeployment([server.base_url], wait_s=0.01)
        with pytest.raises(TrainingError, match="does not serve"):
            await deployment.up(release)
        server.names.append("student@1")
        assert await deployment.up(release) is None
        await deployment.down(release)
        assert "may go" in caplog.text
        assert server.loaded == []


async def test_merged_weights_get_a_server_under_their_name(
    store: SqlReleaseStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = released(store, tmp_path, "full")
    started: list[tuple[Path, str]] = []
    async with good() as server:
        server.names.append("student@1")

        class State:
            base_url = server.base_url

        def start(place: Path, checkpoint: Path, make: Any) -> State:
            made = make(checkpoint, log_path=place / "log")
            started.append((made.checkpoint, made.served_name))
            return State()

        stopped: list[Path] = []
        monkeypatch.setattr(deploy, "start_student_server", start)
        monkeypatch.setattr(deploy, "stop_student_server", stopped.append)
        deployment = ServerDeployment(tmp_path / "servers", VllmServer)
        assert await deployment.up(release) == server.base_url
        await deployment.down(release)
    assert started == [(Path(release.folder), "student@1")]
    assert stopped == [tmp_path / "servers" / "student@1"]
