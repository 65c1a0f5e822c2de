"""The loop with real parts: traces in a database, LoRA of a tiny student, a release, a canary."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import settings
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage.assembly import Assembly, open_assembly
from tutelage.learning import LearningStages, recipe_of
from tutelage.loop import (
    Listeners,
    flywheel_status,
    is_due,
    open_flywheel,
    train_once,
    turn_again_and_again,
)
from tutelage.releasing import student_name
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, NoExamples, TrainingError
from tutelage.runtime.release import Release
from tutelage.runtime.store.releases import SqlReleaseStore
from tutelage.runtime.types import ChatRequest, Decision, EpisodeRecord, Message, Reason, Trace
from tutelage.training.flywheel import FlywheelResult
from tutelage.training.gates.evaluation import Evaluation
from tutelage.training.gates.verdict import Verdict
from tutelage.training.recipes.recipe import TrainingProgress

# Raised inside peft by transformers 5, not by our calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ROOMS = ("hall", "attic", "cellar", "shed")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


class Gate:
    """Says what it is told to."""

    def __init__(self, passed: bool = True) -> None:
        self.passed = passed
        self.judged: list[Evaluation] = []

    def check(self, evaluation: Evaluation) -> Verdict:
        self.judged.append(evaluation)
        said = "fine" if self.passed else "success fell"
        return Verdict(gate="test", passed=self.passed, blocking=True, text=said)


class Deployment:
    """Has everything served by one endpoint."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.calls: list[tuple[str, str]] = []

    async def up(self, release: Release) -> str | None:
        self.calls.append(("up", release.name))
        return self.base_url

    async def down(self, release: Release) -> None:
        self.calls.append(("down", release.name))


@pytest.fixture
def student() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to desk 1") as made:
        yield made


def configured(checkpoint: Path, student: ScriptedEndpoint, **changes: Any) -> Config:
    return settings(
        student__checkpoint=str(checkpoint),
        student__model="tiny",
        teacher__base_url=student.base_url,
        teacher__model="gpt-4.1",
        retrieval__enabled=False,
        prompt__max_prompt_tokens=120,
        cascade__samples=2,
        **{
            "releases__student": "student",
            "releases__canary_shares": (0.5,),
            "releases__shadow_steps": 4,
            "releases__refresh_s": 0.000001,
            "flywheel__min_new_traces": 20,
            "flywheel__wait_s": 0.0,
            "flywheel__evaluated_steps": 3,
            "training__settings": {
                "epochs": 4,
                "lora_rank": 4,
                "max_tokens": 150,
                "learning_rate": 0.02,
                "precision": "fp32",
                "threads": 1,
                "device": "cpu",
            },
            **changes,
        },
    )


async def collect(assembly: Assembly, episodes: int, first: int = 0, **changes: Any) -> None:
    """Episodes of one step that the teacher played, with feedback."""
    for number in range(first, first + episodes):
        room = ROOMS[number % len(ROOMS)]
        text = f"Your task is to: tidy {number}.\nYou see a {room}."
        known: dict[str, Any] = {
            "id": f"t{number}",
            "tenant": "default",
            "episode_id": f"e{number}",
            "step_index": 0,
            "created_at_s": 1000.0 + number,
            "model": "agent",
            "goal": f"tidy {number}.",
            "observation": text,
            "answer": "go to desk 1",
            "decision": Decision(served="teacher", reason=Reason.ALWAYS),
            "prompt": ({"role": "user", "content": text},),
        }
        await assembly.traces.append(Trace.model_validate({**known, **changes}))
        await assembly.traces.record_episode(
            EpisodeRecord(
                id=f"e{number}",
                tenant="default",
                task_id=f"task-{number}",
                success=True,
                created_at_s=1000.0,
            )
        )


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Assembly, SqlReleaseStore]]:
    async with open_assembly(config) as assembly:
        yield assembly, SqlReleaseStore(assembly.engine, lambda: 5000.0)


async def turned(
    assembly: Assembly, gate: Gate, deployment: Deployment, listeners: Listeners | None = None
) -> FlywheelResult:
    async def at_once(seconds: float) -> None:
        return None

    wheel = open_flywheel(
        assembly,
        "default",
        listeners or Listeners(),
        gates=[gate],
        deployment=deployment,
        sleep=at_once,
    )
    return await wheel.run("default", "student")


async def play(config: Config, student: ScriptedEndpoint, episodes: int) -> None:
    """Traffic in which the canary wins what the student so far loses."""
    served = config.model_copy(
        update={
            "student": config.student.model_copy(
                update={"base_url": student.base_url, "checkpoint": None}
            )
        }
    )
    async with open_assembly(served) as assembly:
        runtime = assembly.runtime(
            teacher=assembly.teacher(), student=await assembly.student(), releases=True
        )
        for number in range(episodes):
            async with runtime.episode(id=f"live{number}") as episode:
                message = Message(role="user", content=f"Your task is to: sweep.\nRoom {number}.")
                answer = await episode.complete(ChatRequest(model="agent", messages=[message]))
                await episode.feedback(success=answer.trace.student == "student@1")
        await runtime.aclose()


@pytest.mark.slow
async def test_traces_become_a_release_that_serves(
    tiny_llama: Path, student: ScriptedEndpoint, tmp_path: Path
) -> None:
    config, gate = configured(tiny_llama, student), Gate()
    deployment = Deployment(student.base_url)
    heard: list[tuple[str, str]] = []
    progress: list[TrainingProgress] = []
    listeners = Listeners(stage=lambda *said: heard.append(said), training=progress.append)
    async with opened(config) as (assembly, store):
        await collect(assembly, 40)
        assert await is_due(assembly, "default", 40)
        first = await turned(assembly, gate, deployment, listeners)

        assert first.state == "waiting", first.text
        assert first.text.startswith("student@1: canary 0 of 0 episodes")
        (release,) = store.releases("default")
        assert (release.stage, release.kind, release.base_url) == (
            "canary",
            "full",
            student.base_url,
        )
        assert release.evidence is not None
        assert release.evidence["passed"] is True
        assert release.probe is not None
        assert release.probe.logprob > release.probe.parent_logprob
        assert release.lineage.recipe == "supervised"
        assert release.lineage.settings["epochs"] == 4
        assert 20 < release.lineage.traces < 40
        assert (Path(release.folder) / "model.safetensors").is_file()
        assert deployment.calls == [("up", "student@1")]
        assert len(progress) == progress[-1].steps
        assert progress[-1].loss < progress[0].loss
        # The held-out tasks were judged, and not learnt from.
        (evaluation,) = gate.judged
        judged = {one.task_id for one in evaluation.episodes}
        assert len(judged) == 3
        assert not judged & evaluation.training_tasks

        await play(config, student, 60)
        second = await turned(assembly, gate, deployment, listeners)
        assert (second.state, second.run_id) == ("finished", first.run_id)
        assert second.text == "student@1 was promoted"
        current = store.traffic("student", "default").current
        assert current is not None
        assert current.name == "student@1"

        status = await flywheel_status(assembly, "default")
        assert status.holder is None
        assert [one.state for one in status.runs] == ["finished"]
        # What the student served is verified, too, and counts for the next run.
        assert 15 < status.new_traces < 45
        assert [stage for stage, said in heard if said == "done"] == list(
            one.stage for one in status.runs[0].stages
        )


async def test_a_blocked_candidate_gets_no_number_and_no_traffic(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    deployment = Deployment(student.base_url)
    async with opened(configured(tiny_llama, student)) as (assembly, store):
        await collect(assembly, 40)
        done = await turned(assembly, Gate(passed=False), deployment)
        assert (done.state, done.text) == ("finished", "judge: test: success fell")
        assert store.releases("default") == []
        assert deployment.calls == []
        run = (await flywheel_status(assembly, "default")).runs[0]
        assert run.result("judge")["evidence"]["passed"] is False
        # It has looked at these traces; more must come before the next run.
        again = await turned(assembly, Gate(passed=False), deployment)
        assert (again.state, again.run_id != run.id) == ("waiting", True)
        assert "0 new verified traces" in again.text


async def test_a_release_that_answers_otherwise_in_the_shadow_is_taken_down(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    student.say = "open fridge 1"
    deployment = Deployment(student.base_url)
    config = configured(tiny_llama, student, releases__shadow_agreement=0.5)
    async with opened(config) as (assembly, store):
        await collect(assembly, 40)
        done = await turned(assembly, Gate(), deployment)
        assert done.state == "finished"
        assert "names the recorded action in 0 of 4 steps" in done.text
        assert deployment.calls == [("up", "student@1"), ("down", "student@1")]
        assert store.traffic("student", "default").canary is None


async def test_a_canary_without_a_policy_that_is_needed_waits(
    tiny_llama: Path, student: ScriptedEndpoint, tmp_path: Path
) -> None:
    config = configured(tiny_llama, student)
    needs = config.model_copy(
        update={"cascade": config.cascade.model_copy(update={"policy": "calibrated"})}
    )
    deployment = Deployment(student.base_url)
    async with opened(config) as (assembly, store):
        await collect(assembly, 40)
        await turned(assembly, Gate(), deployment)
        await play(config, student, 60)
        assembly.config = needs
        waits = await turned(assembly, Gate(), deployment)
        assert waits.state == "waiting"
        assert "student@1 may be promoted" in waits.text
        assert "--policy-file" in waits.text
        assert store.release("default", "student@1").stage == "canary"


async def test_an_operator_who_takes_the_canary_back_ends_the_run(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    deployment = Deployment(student.base_url)
    async with opened(configured(tiny_llama, student)) as (assembly, store):
        await collect(assembly, 40)
        await turned(assembly, Gate(), deployment)
        store.roll_back("student", "default", "by hand")
        done = await turned(assembly, Gate(), deployment)
        assert (done.state, done.text) == ("finished", "student@1 was rolled back")
        assert deployment.calls == [("up", "student@1"), ("down", "student@1")]


async def test_traces_that_may_not_be_learnt_from_end_the_run(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    async with opened(configured(tiny_llama, student)) as (assembly, _):
        await collect(assembly, 30, no_train=True)
        done = await turned(assembly, Gate(), Deployment(student.base_url))
        assert done.state == "finished"
        assert "no trace passed the gate" in done.text


async def test_training_alone_leaves_a_checkpoint_and_no_run(
    tiny_llama: Path, student: ScriptedEndpoint, tmp_path: Path
) -> None:
    async with opened(configured(tiny_llama, student)) as (assembly, store):
        stages = LearningStages(assembly, "default").stages
        with pytest.raises(NoExamples, match="0 new verified traces"):
            await train_once(assembly, "default", tmp_path / "out", learning=stages)
        await collect(assembly, 40)
        found = await train_once(assembly, "default", tmp_path / "out", learning=stages)
        assert (Path(found["checkpoint"]) / "model.safetensors").is_file()
        assert found["parent"] == ""
        assert store.releases("default") == []
        assert (await flywheel_status(assembly, "default")).runs == ()
        assert json.dumps(found)


async def test_the_flywheel_turns_again_after_a_failure(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    class Enough(Exception):
        pass

    pauses: list[float] = []
    results: list[FlywheelResult | TrainingError] = [
        TrainingError("out of memory"),
        FlywheelResult("r1", "finished", "promoted"),
    ]
    heard: list[object] = []

    async def once(*_: Any) -> FlywheelResult:
        result = results.pop(0)
        if isinstance(result, TrainingError):
            raise result
        return result

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise Enough

    async with opened(configured(tiny_llama, student)) as (assembly, _):

        async def turn_on(when_new: int | None) -> None:
            with pytest.raises(Enough):
                await turn_again_and_again(
                    assembly,
                    "default",
                    60.0,
                    when_new=when_new,
                    told=heard.append,
                    failed=lambda error: heard.append(str(error)),
                    sleep=sleep,
                    once=once,
                )

        # There are no traces, so that nothing is due.
        await turn_on(5)
        assert heard == []
        pauses.clear()
        await collect(assembly, 5)
        results += [FlywheelResult("r2", "waiting", "x")] * 2
        await turn_on(5)
    assert heard[:2] == ["out of memory", FlywheelResult("r1", "finished", "promoted")]
    assert set(pauses) == {60.0}


def test_a_student_without_a_name_has_no_flywheel(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    config = configured(tiny_llama, student, releases__student=None)
    with pytest.raises(ConfigError, match=r"releases\.student is not set"):
        student_name(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training__recipe": "magic"}, "'magic' is unknown"),
        ({"training__settings": {"rank": 4}}, r"training\.settings\.rank is unknown"),
        ({"training__settings": {"lora_layers": "x"}}, "lora_layers is unknown"),
        ({"training__settings": {"epochs": 0}}, "epochs is 0"),
    ],
)
def test_a_recipe_that_cannot_be_made_names_the_key(
    tiny_llama: Path, student: ScriptedEndpoint, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, TrainingError), match=said):
        recipe_of(configured(tiny_llama, student, **changes))


def test_settings_reach_the_recipe(tiny_llama: Path, student: ScriptedEndpoint) -> None:
    made: Any = recipe_of(
        configured(tiny_llama, student, training__settings={"epochs": 3, "lora_rank": 2})
    )
    assert (made.settings.epochs, made.settings.lora.rank) == (3, 2)
    whole: Any = recipe_of(configured(tiny_llama, student, training__settings={"lora": False}))
    assert whole.settings == replace(made.settings, epochs=2, lora=None)


def test_a_recipe_of_ones_own_is_called_with_the_settings(
    tiny_llama: Path, student: ScriptedEndpoint
) -> None:
    own = "tutelage.training.recipes.settings:TrainingSettings"
    made: Any = recipe_of(
        configured(tiny_llama, student, training__recipe=own, training__settings={"epochs": 7})
    )

    assert made.epochs == 7
    with pytest.raises(ConfigError, match="no_such:recipe' cannot be made: No module named"):
        recipe_of(configured(tiny_llama, student, training__recipe="no_such:recipe"))
