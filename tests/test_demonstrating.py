"""The projection that the recipe ``retriever`` trains, in the search of a configured bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.isolation import isolate

from tutelage.assembly import open_assembly
from tutelage.runtime.config import load_config
from tutelage.runtime.errors import ConfigError, EmbedderMismatch
from tutelage.runtime.types import Step, Trajectory, Turn
from tutelage.training.recipes.checkpoints import write_folder

WIDTH = 256
FREE = {"input": 0.0, "output": 0.0}
VALUES: dict[str, Any] = {
    "retrieval.embedder": "hash",
    "teacher.price": FREE,
    "student.price": FREE,
}
STEP = Step(tenant="default", episode_id="e", index=0, goal="tidy", observation="a red box")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def projection(folder: Path, matrix: np.ndarray[Any, Any], embedder: str) -> str:
    def fill(into: Path) -> None:
        save_file({"matrix": matrix.astype(np.float32)}, into / "projection.safetensors")
        (into / "projection.json").write_text(json.dumps({"embedder": embedder}))

    write_folder(folder, fill, recipe="retriever")
    return str(folder)


def trajectory(id: str, seen: str) -> Trajectory:
    turns = (Turn(seen, f"look at {id}"), Turn("done", "stop"))
    return Trajectory(
        id=id, tenant="default", goal="tidy", turns=turns, success=True, source="teacher"
    )


async def found(folder: str | None) -> list[str]:
    """Which of two trajectories are found for a red box, best first."""
    given = {**VALUES, "retrieval.query_projection": folder}
    async with open_assembly(load_config(environment={}, overrides=given)) as assembly:
        added = [trajectory("red", "a red box"), trajectory("blue", "some blue lamp")]
        await assembly.bank.add(added)
        hits = await assembly.retriever().search(STEP)
        return [hit.demonstration.trajectory_id for hit in hits]


async def test_the_search_for_a_state_goes_through_the_projection(tmp_path: Path) -> None:
    async with open_assembly(load_config(environment={}, overrides=VALUES)) as assembly:
        key = assembly.bank.state_key
        blue = key.of_turn(trajectory("blue", "some blue lamp"), 0)
        seen, wanted = await assembly.embedder.embed([key.of_step(STEP), blue])
    turning = np.eye(WIDTH) + 10 * np.outer(wanted, seen)

    same = projection(tmp_path / "same", np.eye(WIDTH), "hash-256")
    turned = projection(tmp_path / "turned", turning, "hash-256")

    assert await found(None) == ["red", "blue"]
    assert await found(same) == ["red", "blue"]
    assert await found(turned) == ["blue", "red"]


@pytest.mark.parametrize(("embedder", "width"), [("minilm", WIDTH), ("", WIDTH), ("hash-256", 8)])
async def test_a_projection_for_another_embedder_is_refused(
    tmp_path: Path, embedder: str, width: int
) -> None:
    made = projection(tmp_path / "p", np.eye(width), embedder)
    with pytest.raises(EmbedderMismatch, match=r"query_projection = .* train it anew"):
        await found(made)


async def test_a_projection_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"query_projection = '.*nothing' cannot be used"):
        await found(str(tmp_path / "nothing"))
