from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint
from tests.small_household import a_play, household, with_bank

from tutelage.assembly import ledger, open_assembly
from tutelage.benchmarks.arms import Arm
from tutelage.benchmarks.progress import Unwatched
from tutelage.benchmarks.results import read_results
from tutelage.cascade.instance_gate import GatedTier, InstanceGate
from tutelage.rehearsal import replay
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError, PriceUnknown
from tutelage.runtime.models.chain import TieredUsage
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest

REQUEST = ChatRequest.model_validate(
    {"model": "any", "messages": [{"role": "user", "content": "Task: look around.\nA room."}]}
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def torn(body: dict[str, Any], index: int) -> str:
    return f"go to desk {index}"


def with_tier(tier: ScriptedEndpoint, **changes: Any) -> Config:
    changes = {
        "upstreams__mid__base_url": tier.base_url,
        "upstreams__mid__model": "mid",
        "upstreams__mid__price": {"input": 1.0, "output": 4.0},
        "chain__tiers": ["mid"],
        "retrieval__enabled": False,
        **changes,
    }
    return household(**changes)


async def test_a_dearer_model_answers_where_the_student_disagrees_at_its_own_price() -> None:
    with ScriptedEndpoint(torn) as student, ScriptedEndpoint("look") as mid:
        config = with_tier(mid, student__base_url=student.base_url, student__model="small")
        async with open_assembly(config) as assembly:
            runtime = assembly.runtime(
                teacher=ScriptedModel("inventory"), student=await assembly.student()
            )
            answer = await runtime.complete(REQUEST)
            (kept,) = await assembly.traces.traces("default")

    assert answer.text == "look"
    assert answer.decision.served == "student"
    assert [body["n"] for body in mid.bodies] == [3]
    usage = answer.trace.usage["student"]
    assert isinstance(usage, TieredUsage)
    assert usage.tiers.keys() == {"student", "mid"}
    prices = ledger(config).prices["student"]
    costs = {name: prices.tiers[name].cost_usd(used) for name, used in usage.tiers.items()}  # type: ignore[attr-defined]
    assert kept.cost_usd["student"] == pytest.approx(sum(costs.values()))
    assert costs["mid"] > 0
    assert kept.usage["student"].output_tokens == usage.output_tokens


async def test_the_teacher_is_asked_where_the_last_tier_disagrees_too() -> None:
    with ScriptedEndpoint(torn) as student, ScriptedEndpoint(torn) as mid:
        config = with_tier(mid, student__base_url=student.base_url, student__model="small")
        async with open_assembly(config) as assembly:
            runtime = assembly.runtime(
                teacher=ScriptedModel("inventory"), student=await assembly.student()
            )
            answer = await runtime.complete(REQUEST)

    assert (answer.text, answer.decision.served) == ("inventory", "teacher")
    assert len(student.bodies) == len(mid.bodies) == 1


async def test_a_gate_can_send_a_step_straight_to_the_teacher(tmp_path: Path) -> None:
    tiers = [GatedTier(name, right, 0.0) for name, right in (("student", 0.1), ("mid", 0.2))]
    InstanceGate((*tiers, GatedTier("teacher", 0.9, 0.1)), 1.0).write(tmp_path / "gate.json")
    with ScriptedEndpoint("look") as student, ScriptedEndpoint("look") as mid:
        config = with_tier(
            mid,
            student__base_url=student.base_url,
            student__model="small",
            chain__gate=str(tmp_path / "gate.json"),
        )
        async with open_assembly(config) as assembly:
            runtime = assembly.runtime(
                teacher=ScriptedModel("inventory"), student=await assembly.student()
            )
            answer = await runtime.complete(REQUEST)

    assert answer.decision.served == "teacher"
    assert student.bodies == mid.bodies == []
    assert answer.trace.cost_usd["student"] == 0.0


async def test_a_replay_plays_with_the_chain(tmp_path: Path) -> None:
    with ScriptedEndpoint(torn) as student, ScriptedEndpoint("look") as mid:
        changes = with_tier(mid, student__base_url=student.base_url, student__model="small")
        given = {
            "upstreams": {"mid": changes.upstreams["mid"].model_dump(exclude_unset=True)},
            "chain__tiers": ["mid"],
            "student__base_url": student.base_url,
            "student__model": "small",
        }
        async with with_bank(tmp_path, "train:1", **given) as assembly:
            play = replace(a_play(tmp_path / "out", "test:1", max_steps=3), jobs=1)
            await replay(assembly, play, [Arm("paper", "paper", "paper")], Unwatched())

    (result,) = read_results(play.out)
    assert result.student_steps == 3
    assert len(mid.bodies) == 3


def test_a_policy_is_calibrated_for_its_chain(tmp_path: Path) -> None:
    from tutelage.policies import Policies

    with ScriptedEndpoint() as mid:
        plain = with_tier(mid, chain__tiers=[])
        chained = with_tier(mid, chain__samples=5)
        (tmp_path / "gate.json").write_text("{}")
        gated = with_tier(mid, chain__gate=str(tmp_path / "gate.json"))
        missing = with_tier(mid, chain__gate="none.json")
    found = [
        Policies(config, lambda step: 0.0).conditions("", "t").student
        for config in (plain, chained, gated)
    ]

    assert found[1] == f"{found[0]}, then mid (mid) of 5 samples"
    assert found[2].startswith(f"{found[0]}, then mid (mid) gated by ")
    with pytest.raises(ConfigError, match=r"chain\.gate = 'none\.json' cannot be read"):
        Policies(missing, lambda step: 0.0).conditions("", "t")


def test_a_tier_without_a_price_is_refused_before_anything_is_asked() -> None:
    with ScriptedEndpoint() as mid:
        config = with_tier(mid, upstreams__mid__price=None)
        with pytest.raises(PriceUnknown, match=r"^upstreams\.mid: "):
            ledger(config)
