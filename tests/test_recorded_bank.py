from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.recorded_traffic import EASY, HARD, TAUGHT, request
from tests.small_household import household

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.bank_replay import BankReplay, lines, to_json
from tutelage.recorded_bank import replay_bank
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import Trajectory, Turn, Usage


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def configured(folder: Path, name: str = "t", **changes: Any) -> Config:
    given = {
        "cascade__guards": [],
        "retrieval__k": 2,
        "teacher__price": {"input": 10.0, "output": 0.0},
        "student__price": {"input": 1.0, "output": 0.0},
        **changes,
    }
    return household(store__url=f"sqlite:///{folder}/{name}.sqlite", **given)


def taught(id: str, observation: str = EASY, action: str = TAUGHT) -> Trajectory:
    return Trajectory(
        id=id,
        tenant="default",
        goal="tidy the room.",
        turns=(Turn(observation, action, "teacher"),),
        success=True,
        source="teacher",
    )


async def serve(assembly: Assembly, episodes: int, **options: Any) -> None:
    """Serves episodes of an easy step, every other of which is lost."""
    runtime = assembly.runtime(
        teacher=ScriptedModel(TAUGHT, usage=Usage(input_tokens=1000)),
        student=ScriptedModel(options.pop("said", TAUGHT), usage=Usage(input_tokens=1000)),
        releases=True,
    )
    for number in range(episodes):
        async with runtime.episode(
            goal="tidy the room.", tenant="default", task_id=f"task-{number}", id=f"e{number}"
        ) as episode:
            await runtime.complete(request(EASY), episode=episode, **options)
            await episode.feedback(success=number % 2 == 0)
    await runtime.aclose()


async def replayed(
    folder: Path,
    then: list[Trajectory],
    now: list[Trajectory] | None = None,
    *,
    episodes: int = 4,
    later: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> BankReplay:
    """Traffic with one bank, at whose steps another one is searched; absent: the same one."""
    async with open_assembly(configured(folder, **changes)) as assembly:
        await assembly.bank.add(then)
        await serve(assembly, episodes, **(options or {}))
        await assembly.exposures.flush()
        if now is None:
            return await replay_bank(assembly, "default")
        other = configured(folder, "other", **{**changes, **(later or {})})
        async with open_assembly(other) as searched:
            await searched.bank.add(now)
            return await replay_bank(assembly, "default", bank=searched)


TWO = [taught("a"), taught("b", HARD, "open drawer 1")]


async def test_the_bank_that_served_is_replayed_exactly(tmp_path: Path) -> None:
    found = await replayed(tmp_path, TWO)

    assert (found.episodes, found.steps, found.same_steps, found.overlap) == (4, 4, 4, 1.0)
    assert (found.method, found.mean_found) == ("exact", 2.0)
    assert found.cached is not None
    assert found.cached.value == pytest.approx(1000e-6)
    assert found.success is not None
    assert found.success.value == found.recorded_success == 0.5
    (step,) = {one.found for one in found.shown}
    assert step == ("a:0", "b:0")


async def test_another_bank_is_looked_through_and_its_effect_refused(tmp_path: Path) -> None:
    found = await replayed(tmp_path, TWO, [taught("c"), taught("b", HARD, "open drawer 1")])

    assert (found.same_steps, found.mean_found) == (0, 2.0)
    assert found.overlap == pytest.approx(1 / 3)
    assert (found.method, found.cached, found.success) == (None, None, None)
    assert found.missing is not None
    assert "episode e0, step 0 would show [c:0, b:0] instead of [a:0, b:0]" in found.missing
    assert "curation.dropout_share" in found.missing
    assert [step.scores[0] > step.scores[1] for step in found.shown] == [True] * 4


async def test_where_the_teacher_spoke_it_shows_whether_the_bank_is_right(tmp_path: Path) -> None:
    options = {"mode": "shadow"}

    right = await replayed(tmp_path, TWO, TWO, options=options)
    wrong = await replayed(
        tmp_path / "w", TWO, [taught("w", EASY, "look"), taught("r", HARD)], options=options
    )

    assert (right.taught, right.first_right, right.any_right) == (4, 1.0, 1.0)
    assert (wrong.first_right, wrong.any_right) == (0.0, 1.0)
    assert "shows it in 0.000, any of them in 1.000" in lines(wrong)[1]


async def test_audits_say_what_is_right_too(tmp_path: Path) -> None:
    found = await replayed(tmp_path, TWO, evidence__audits=1.0)

    assert (found.taught, found.first_right) == (4, 1.0)


async def test_chance_that_left_demonstrations_out_supports_a_smaller_bank(tmp_path: Path) -> None:
    found = await replayed(
        tmp_path, TWO, TWO[:1], episodes=100, curation__dropout_share=0.3,
        later={"curation__dropout_share": 0.0},
    )  # fmt: skip

    assert found.method == "off-policy"
    assert found.cached is not None
    # a was shown and b left out: 0.7 x 0.3 of the episodes.
    assert found.cached.used == sum(one.recorded == ("a:0",) for one in found.shown)
    assert 10 <= found.cached.effective == pytest.approx(found.cached.used)
    assert found.cached.value == pytest.approx(1000e-6)
    whole = await replayed(tmp_path / "whole", TWO, TWO, episodes=60, curation__dropout_share=0.3)
    assert whole.method == "off-policy"
    assert whole.cached is not None
    assert whole.cached.used == whole.same_steps < 60


async def test_too_few_episodes_of_chance_are_refused(tmp_path: Path) -> None:
    found = await replayed(tmp_path, TWO, TWO[:1], episodes=6, curation__dropout_share=0.3)

    assert found.method is None
    assert found.missing is not None
    assert "fewer than 10" in found.missing


async def test_an_episode_never_finds_itself_or_its_task(tmp_path: Path) -> None:
    itself = taught("e0").model_copy(update={"task_id": None})
    same_task = taught("x").model_copy(update={"task_id": "task-1"})

    found = await replayed(tmp_path, TWO[1:], [itself, same_task])

    shown = {one.episode_id: one.found for one in found.shown}
    assert shown["e0"] == ("x:0",)
    assert shown["e1"] == ("e0:0",)
    assert set(shown["e2"]) == {"x:0", "e0:0"}


async def test_an_empty_bank_shows_nothing(tmp_path: Path) -> None:
    found = await replayed(tmp_path, [], TWO)
    empty = await replayed(tmp_path / "empty", [], [])

    assert (found.mean_recorded, found.mean_found, found.overlap) == (0.0, 2.0, 0.0)
    assert "no demonstration -> [a:0, b:0]" in lines(found)[2]
    assert (empty.overlap, empty.method) == (1.0, "exact")


async def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs 'per-step'"):
        await replayed(tmp_path, TWO, prompt__layout="pinned")
    with pytest.raises(BenchmarkError, match="no student was asked"):
        await replayed(tmp_path / "t", TWO, cascade__policy="always-teacher")


async def test_lines_and_json_tell_the_same(tmp_path: Path) -> None:
    found = await replayed(tmp_path, TWO)
    one = await replayed(tmp_path / "one", TWO, episodes=1)

    text = "\n".join(lines(found))
    plain = json.loads(json.dumps(to_json(found), allow_nan=False))

    assert "it shows the same in 4, 100% in common" in text
    assert "the teacher's action is known of no step" in text
    assert "success: 0.500 (" in text
    assert plain["shown"][0]["found"] == ["a:0", "b:0"]
    assert plain["cached"]["value"] == pytest.approx(0.001)
    assert lines(one)[-1].startswith("no estimate of cost and success: 1 recorded episodes")
