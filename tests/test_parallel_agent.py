from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.assembly import open_assembly
from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.progress import Unwatched
from tutelage.overhead.episodes import oracle_episodes
from tutelage.parallel_agent import (
    AgentStep,
    AgentTraining,
    Standing,
    expert_steps,
    play_served,
    play_student,
    rows,
    train_agent,
)
from tutelage.rehearsal import Play
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, NoExamples
from tutelage.runtime.models.diffusion_server import DiffusionStudentServer

TINY = AgentTraining(
    steps=2, distil_steps=0, batch=4, width=16, layers=1, max_positions=512, held_out=0.34
)


def config(folder: Path) -> Config:
    free = {"price": {"input": 0, "output": 0}}
    return Config.model_validate(
        {
            "student": free,
            "teacher": free,
            "store": {"url": f"sqlite:///{folder / 's.sqlite'}", "spool": str(folder / "spool")},
            "retrieval": {"embedder": "hash"},
            "cascade": {"grammar": "household"},
        }
    )


async def steps(folder: Path, episodes: int = 3) -> list[AgentStep]:
    async with open_assembly(config(folder)) as assembly:
        played = list(oracle_episodes(f"train:{episodes}", assembly.config.tenant))
        await assembly.bank.add(played)
        return await expert_steps(assembly, "Obey.")


async def test_every_expert_step_is_seen_as_a_cascade_shows_it(tmp_path: Path) -> None:
    found = await steps(tmp_path)

    assert len({one.episode for one in found}) == 3
    first = [one for one in found if one.episode == found[0].episode]
    assert [len(one.messages) for one in first[:3]] == [1, 3, 5]
    assert first[1].messages[1] == {"role": "assistant", "content": first[0].action}
    assert not any(message["role"] == "system" for one in found for message in one.messages)
    assert first[0].messages[0]["content"].startswith("Task: ")


async def test_an_empty_bank_says_how_to_fill_it(tmp_path: Path) -> None:
    async with open_assembly(config(tmp_path)) as assembly:
        with pytest.raises(NoExamples, match="tutelage collect"):
            await expert_steps(assembly, "Obey.")


async def test_a_student_is_trained_graded_and_saved(tmp_path: Path) -> None:
    found = await steps(tmp_path)

    told = train_agent(found, tmp_path / "student", TINY)

    assert (tmp_path / "student" / "diffusion.json").exists()
    assert told["episodes"] == 3
    grade = told["taught"]["one-token"]
    assert 0 <= grade["right"] <= grade["lessons"]
    assert grade["lessons"] == len(found) - told["lessons"]
    assert "distilled" not in told
    with pytest.raises(NoExamples, match="1 episodes are too few"):
        train_agent([one for one in found if one.episode == found[0].episode], tmp_path, TINY)


def result(**changes: Any) -> Any:
    from tutelage.benchmarks.results import EpisodeResult

    made = {
        "arm": "a", "task_id": "t", "category": "c", "seed": 0, "episode_id": "e",
        "success": True, "steps": 4, "teacher_steps": 1, "student_steps": 3,
        "refused_steps": {"student": 2}, "latency_s": {"student": 2.0}, "wall_s": 1.0,
        "finished_at_s": 0.0, "run": "r",
    }  # fmt: skip
    return EpisodeResult.model_validate({**made, **changes})


def test_a_standing_sums_its_games() -> None:
    standing = Standing("d", (result(), result(success=False)), 16, 60, 30, 4.0)

    told = standing.document()

    assert (told["won"], told["games"], told["teacher_steps"], told["refused_steps"]) == (
        1,
        2,
        2,
        4,
    )
    assert told["forwards_a_step"] == 2.0
    assert told["tokens_a_forward"] == 2.0
    assert told["ms_a_step"] == 500.0
    assert told["cpu_ms_a_step"] == 500.0
    unknown = replace(standing, sample_forwards=None, cpu_s=None)
    assert unknown.document()["tokens_a_forward"] == 3.75
    assert rows([standing, unknown])[0] == [
        "d", "1 of 2", "0.25 of 8", "2.0", "2.00", "500", "500",
    ]  # fmt: skip
    assert rows([unknown])[0][-1] == "-"


@pytest.mark.slow
async def test_a_trained_student_plays_in_a_cascade_from_its_own_server(tmp_path: Path) -> None:
    train_agent(await steps(tmp_path), tmp_path / "student", replace(TINY, steps=60))
    play = Play(world="household", split="test:1", out=tmp_path / "games", jobs=1, max_steps=12)
    arm = Arm("diffusion-cascade", "diffusion", "paper")
    server = DiffusionStudentServer(tmp_path / "student", threads=1)

    standing = await play_served("d", config(tmp_path), play, arm, server, Unwatched())

    told = standing.document()
    assert told["games"] == 1
    assert told["steps"] > 0
    assert told["forwards_a_step"] >= 1
    assert standing.sample_forwards is not None
    assert standing.cpu_s is not None
    assert told["ms_a_step"] > 0
    with pytest.raises(BenchmarkError, match="holds games already"):
        await play_student(
            "d", config(tmp_path), play, arm, "http://127.0.0.1:9/v1", "d", None, Unwatched()
        )
