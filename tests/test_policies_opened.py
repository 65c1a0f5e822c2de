from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.cascade.decided_steps import step_after, voted
from tests.configured_policies import layers, settings, written
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

import tutelage
from tutelage.assembly import open_assembly
from tutelage.policies import Choice
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import ChatRequest, Reason, Trajectory, Turn


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def student() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("go to desk 1") as made:
        yield made


@pytest.fixture
def teacher() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("open desk 1") as made:
        yield made


def request(observation: str = "A room with a desk 1.") -> ChatRequest:
    user = {"role": "user", "content": f"Task: tidy.\n{observation}"}
    return ChatRequest.model_validate({"model": "agent", "messages": [user]})


# Opening.


async def test_a_file_that_fits_opens(tmp_path: Path) -> None:
    async with open_assembly(settings()) as assembly:
        bank = await assembly.bank.version("default")
    path = written(tmp_path / "p.json", settings(), bank)
    config = settings(cascade__policy="calibrated", cascade__policy_file=str(path))
    async with open_assembly(config) as assembly:
        assert "Calibrated" in layers(assembly.policies.policy(Choice()))


async def test_opening_refuses_a_file_that_was_calibrated_for_something_else(
    tmp_path: Path,
) -> None:
    async with open_assembly(settings()) as assembly:
        bank = await assembly.bank.version("default")
    path = written(tmp_path / "p.json", settings(), bank)
    config = settings(
        cascade__policy="calibrated",
        cascade__policy_file=str(path),
        cascade__samples=5,
        student__model="other",
    )
    with pytest.raises(ConfigError) as caught:
        async with open_assembly(config):
            raise AssertionError("opened all the same")
    said = str(caught.value)
    assert "samples was 3 and is 5" in said
    assert "student was 'SmolLM2-135M-Instruct' and is 'other'" in said
    assert "bank" not in said.partition("something else")[2]


async def test_a_policy_of_one_teacher_is_refused_beside_another(tmp_path: Path) -> None:
    async with open_assembly(settings()) as assembly:
        bank = await assembly.bank.version("default")
    path = written(tmp_path / "p.json", settings(), bank, teacher="large")
    for model, fits in (("large", True), ("larger", False)):
        config = settings(
            cascade__policy="calibrated", cascade__policy_file=str(path), teacher__model=model
        )
        if fits:
            async with open_assembly(config) as assembly:
                assert assembly.policies.file is not None
            continue
        with pytest.raises(ConfigError, match="teacher was 'large' and is 'larger'"):
            async with open_assembly(config):
                raise AssertionError("opened all the same")


async def test_a_bank_that_grew_is_another_condition(tmp_path: Path) -> None:
    async with open_assembly(settings()) as assembly:
        bank = await assembly.bank.version("default")
        path = written(tmp_path / "p.json", settings(), bank)
        turns = (Turn("A room.", "go to desk 1", "teacher"),)
        await assembly.bank.add(
            [
                Trajectory(
                    id="t1", tenant="default", goal="tidy", turns=turns, success=True, source="t"
                )
            ]
        )
    config = settings(cascade__policy="calibrated", cascade__policy_file=str(path))
    with pytest.raises(ConfigError, match=f"something else: bank was '{bank}' and is '"):
        async with open_assembly(config):
            raise AssertionError("opened all the same")


async def test_a_damaged_file_shows_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("{")
    config = settings(cascade__policy="calibrated", cascade__policy_file=str(path))
    with pytest.raises(ConfigError, match=r"p\.json' is no policy file"):
        async with open_assembly(config):
            raise AssertionError("opened all the same")


async def test_what_needs_no_bank_reads_no_policy_file(tmp_path: Path) -> None:
    config = settings(cascade__policy="calibrated", cascade__policy_file=str(tmp_path / "gone"))
    async with open_assembly(config, open_bank=False) as assembly:
        assert assembly.config is config


# Evidence, through a runtime as configured.


def serving(student: ScriptedEndpoint, teacher: ScriptedEndpoint, **changes: Any) -> Config:
    roles = {"student": student, "teacher": teacher}
    urls = {f"{role}__base_url": one.base_url for role, one in roles.items()}
    models = {f"{role}__model": one.model for role, one in roles.items()}
    return settings(**{**urls, **models, **changes})


async def test_a_runtime_is_closed_when_what_is_audited_is_in_the_store(
    student: ScriptedEndpoint,
) -> None:
    may_answer = threading.Event()

    def slowly(body: dict[str, Any], index: int) -> str:
        assert may_answer.wait(30)
        return "open desk 1"

    with ScriptedEndpoint(slowly) as teacher:
        config = serving(student, teacher, evidence__audits=1.0)
        async with AsyncExitStack() as stack:
            runtime = await stack.enter_async_context(tutelage.open_runtime(config))
            answer = await runtime.complete(request())
            closing = asyncio.create_task(stack.pop_all().aclose())
            closed, _ = await asyncio.wait({closing}, timeout=0.3)
            may_answer.set()
            await closing
    assert (answer.text, answer.decision.served) == ("go to desk 1", "student")
    assert not closed
    async with open_assembly(config, open_bank=False) as assembly:
        (audit,) = await assembly.audits.audits("default")
    assert (audit.trace_id, audit.episode_id) == (answer.trace_id, answer.trace.episode_id)
    assert (audit.action, audit.agrees, audit.propensity) == ("open desk 1", False, 1.0)
    assert audit.uncached_cost_usd >= audit.cost_usd > 0


async def test_without_a_share_nothing_is_audited(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    async with tutelage.open_runtime(serving(student, teacher)) as runtime:
        await runtime.complete(request())
    assert teacher.bodies == []
    async with open_assembly(serving(student, teacher), open_bank=False) as assembly:
        assert await assembly.audits.audits("default") == []


@pytest.mark.parametrize(
    ("choice", "audited"),
    [(Choice(), True), (Choice(bare=True), False), (Choice(bare=True, labels=True), True)],
)
async def test_a_bare_choice_is_audited_only_for_its_labels(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint, choice: Choice, audited: bool
) -> None:
    config = serving(student, teacher, evidence__audits=1.0)
    async with open_assembly(config) as assembly:
        runtime = assembly.runtime(
            teacher=assembly.teacher(), student=await assembly.student(), choice=choice
        )
        await runtime.complete(request())
        if choice.labels:
            assert len(await assembly.audits.audits("default")) == 1
        await runtime.aclose()
        assert len(await assembly.audits.audits("default")) == int(audited)


async def test_the_dearness_of_a_call_is_that_of_the_configured_teacher(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", settings(retrieval__enabled=False))
    config = settings(
        cascade__policy="benefit",
        cascade__policy_file=str(path),
        cascade__value_usd=0.001,
        cascade__guards=[],
        retrieval__enabled=False,
        teacher__price={"input": 10.0, "output": 0.0, "cache_read": 10.0, "cache_write": 10.0},
    )
    short, long = step_after(), step_after(now="o" * 40_000)
    written(path, config)
    async with open_assembly(config) as assembly:
        policy = assembly.policies.policy(Choice())
    agreement = voted("look", agreement=0.1)
    assert policy.decide(short, agreement, []).reason is Reason.BENEFIT
    decision = policy.decide(long, agreement, [])
    assert decision.reason is Reason.NO_BENEFIT
    assert decision.score == pytest.approx(0.8 * 0.001 - 10_000 * 10 / 1e6)


async def test_a_held_out_episode_is_the_teachers_through_the_whole_assembly(
    student: ScriptedEndpoint, teacher: ScriptedEndpoint
) -> None:
    config = serving(student, teacher, evidence__holdout=0.5)
    async with tutelage.open_runtime(config) as runtime:
        served: dict[str, set[str]] = {}
        for number in range(12):
            episode = runtime.episode(id=f"e{number}")
            for _ in range(2):
                answer = await runtime.complete(request(), episode=episode)
                served.setdefault(episode.id, set()).add(answer.decision.served)
                assert answer.decision.propensity == 0.5
    assert {frozenset(arms) for arms in served.values()} == {
        frozenset({"teacher"}),
        frozenset({"student"}),
    }
