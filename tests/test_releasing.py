"""What serves releases, what evaluates candidates, and what sleeps meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import settings
from tests.isolation import isolate
from tests.made_releases import draft
from tests.scripted_endpoint import ScriptedEndpoint
from tests.training.fake_replica import FakeReplica

from tutelage.assembly import open_assembly
from tutelage.curating import curation_rules
from tutelage.evaluating import evaluate_in_world, evaluate_on_steps, first_seen, student_from
from tutelage.learning import LearningStages
from tutelage.releasing import (
    calibrate_release,
    deployment_of,
    read_examples,
    replicas_of,
    write_examples,
)
from tutelage.retrieval.rules import CurationRules
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError, TrainingError
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, Trace
from tutelage.training.data.example import TrainingExample
from tutelage.training.deploy import AdapterDeployment, ElsewhereDeployment, ServerDeployment
from tutelage.training.flywheel import Work
from tutelage.training.runs import RunRecord


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to desk 1") as made:
        yield made


def at(endpoint: ScriptedEndpoint, **changes: Any) -> Config:
    return settings(student__base_url=endpoint.base_url, student__model="tiny", **changes)


@pytest.mark.parametrize(
    ("serve", "kind"),
    [
        ("adapter", AdapterDeployment),
        ("server", ServerDeployment),
        ("elsewhere", ElsewhereDeployment),
    ],
)
def test_releases_are_served_as_configured(
    endpoint: ScriptedEndpoint, serve: str, kind: type
) -> None:
    config = at(endpoint, releases__serve=serve)
    assert isinstance(deployment_of(config), kind)
    assert replicas_of(config) == (endpoint.base_url,)
    several = at(endpoint, releases__replicas=["http://a/v1", "http://b/v1"])
    assert replicas_of(several) == ("http://a/v1", "http://b/v1")


def test_servers_that_are_not_named_are_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"releases\.replicas is not set"):
        deployment_of(settings(releases__serve="adapter"))


@pytest.mark.parametrize("shares", [[], [0.5, 0.2], [0.0, 0.5], [0.5, 1.0]])
def test_shares_that_do_not_grow_are_refused(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="each larger than the one before"):
        load_config(environment={}, overrides={"releases.canary_shares": shares})


def step(number: int, answer: str = "go to desk 1") -> TrainingExample:
    messages = (
        {"role": "user", "content": f"Your task is to: tidy.\nRoom {number}."},
        {"role": "assistant", "content": answer},
    )
    return TrainingExample(
        id=f"e{number}:0",
        tenant="default",
        episode_id=f"e{number}",
        messages=messages,
        supervised=(1,),
        task_id=f"task-{number // 2}",
    )


def test_examples_come_back_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    made = [step(number, "go\nto “desk” 1") for number in range(3)]
    write_examples(file, made)
    assert read_examples(file) == made
    assert read_examples(file, 2) == made[:2]
    file.write_text(file.read_text()[:-20])
    with pytest.raises(TrainingError, match="cannot be read"):
        read_examples(file)


async def test_students_are_compared_step_by_step(endpoint: ScriptedEndpoint) -> None:
    with ScriptedEndpoint("open fridge 1") as other:
        config = at(endpoint, cascade__samples=2)
        async with open_assembly(config, open_bank=False) as assembly:
            pairs = await evaluate_on_steps(
                assembly, at(other), config, [step(number) for number in range(4)]
            )
            with pytest.raises(TrainingError, match=r"flywheel\.world"):
                await evaluate_on_steps(assembly, config, config, [])
    assert [(one.task_id, one.seed) for one in pairs] == [
        ("task-0", 0), ("task-0", 1), ("task-1", 0), ("task-1", 1),
    ]  # fmt: skip
    assert all(one.candidate.success and not one.current.success for one in pairs)
    assert pairs[0].candidate.rows[0].agreement == 1.0
    assert pairs[0].candidate.cost_usd > 0
    assert pairs[0].text == first_seen(step(0)) == "Your task is to: tidy.\nRoom 0."


async def test_students_are_compared_in_a_world(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    config = at(
        endpoint,
        flywheel__world="household",
        flywheel__split="test:2",
        flywheel__arm="cascade",
        retrieval__enabled=False,
    )
    pairs = await evaluate_in_world(config, config, tmp_path / "evaluation")
    assert len(pairs) == 2
    assert {one.family for one in pairs} != {""}
    assert all(one.current.success == one.candidate.success for one in pairs)
    # What is played is not played again.
    asked = len(endpoint.bodies)
    assert await evaluate_in_world(config, config, tmp_path / "evaluation") == pairs
    assert len(endpoint.bodies) == asked


async def test_a_checkpoint_is_a_student_of_this_process_where_there_is_no_vllm(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    async with student_from(at(endpoint), tmp_path) as config:
        assert config.student.base_url is None
        assert config.student.checkpoint == str(tmp_path)
        assert config.student.priced_as == "gpt-4.1-mini"
    unpriced = at(endpoint)
    unpriced = unpriced.model_copy(
        update={"student": unpriced.student.model_copy(update={"priced_as": None, "model": None})}
    )
    async with student_from(unpriced, tmp_path) as config:
        assert config.student.price is not None


async def test_nothing_is_calibrated_without_a_world(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    async with open_assembly(at(endpoint), open_bank=False) as assembly:
        assert await calibrate_release(assembly, draft(), tmp_path) is None


async def test_servers_sleep_while_a_student_is_trained(tmp_path: Path) -> None:
    async with FakeReplica(sleeps=True) as able, FakeReplica() as unable:
        config = settings(
            releases__replicas=[able.base_url, unable.base_url], retrieval__enabled=False
        )
        async with open_assembly(config) as assembly:
            stages = LearningStages(assembly, "default")
            async with AsyncExitStack() as awake:
                await stages._put_to_sleep(awake)
                assert [path for path, _ in able.calls] == ["/sleep?level=1"]
        assert [path for path, _ in able.calls] == ["/sleep?level=1", "/wake_up"]
        assert unable.calls == []


async def test_a_student_of_a_world_is_never_trained_on_its_tasks(
    endpoint: ScriptedEndpoint,
) -> None:
    config = at(endpoint, flywheel__world="household", flywheel__split="test:3")
    async with open_assembly(config, open_bank=False) as assembly:
        found = await LearningStages(assembly, "default")._evaluated_tasks()
    assert len(found) == 3


async def test_the_bank_is_put_in_order_before_traces_are_gathered(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    config = at(endpoint, curation__per_goal=7, curation__idle_days=0.0)
    rules = curation_rules(config)
    assert (rules.per_goal, rules.idle_s, rules.tools_grace_s) == (7, None, 86_400.0)
    assert curation_rules(settings()) == CurationRules()
    run = RunRecord("r", "default", "student", "running", 0.0, None, "")
    named = config.releases.model_copy(update={"student": "student"})
    config = config.model_copy(
        update={
            "releases": named,
            "flywheel": config.flywheel.model_copy(update={"min_new_traces": 1}),
        }
    )
    async with open_assembly(config) as assembly:
        await assembly.traces.append(
            Trace(
                id="t1",
                tenant="default",
                episode_id="e1",
                step_index=0,
                created_at_s=10.0,
                model="agent",
                goal="tidy.",
                observation="Room 1.",
                answer="go to desk 1",
                decision=Decision(served="teacher", reason=Reason.ALWAYS),
                prompt=({"role": "user", "content": "Your task is to: tidy.\nRoom 1."},),
            )
        )
        await assembly.traces.record_episode(
            EpisodeRecord(id="e1", tenant="default", success=True, created_at_s=1.0)
        )
        found = await LearningStages(assembly, "default").gather(Work(run, tmp_path, 1))
    assert found.result["episodes"] == 1
    assert found.result["bank"]["candidates"] == 1
