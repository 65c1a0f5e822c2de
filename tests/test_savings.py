from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.randomised_traffic import (
    STUDENT_USD,
    TEACHER_USD,
    configured,
    serve_randomised,
    store_in,
    truth,
)
from tests.small_household import household

from tutelage.assembly import open_assembly
from tutelage.cascade.bounds import Interval
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, StepAudit, Trace
from tutelage.savings import (
    SavingsReport,
    audit_evidence,
    episode_evidence,
    lines,
    savings_report,
    to_json,
)

HELD_OUT = Decision(served="teacher", reason=Reason.HOLDOUT, propensity=0.1)
KEPT = Decision(served="student", reason=Reason.AGREED, propensity=0.9)
EMPTY = SavingsReport(0, 0, None, None, None, None, {}, 0, 0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def traced(episode: str, decision: Decision, usd: float, index: int = 0, **changes: Any) -> Trace:
    made: dict[str, Any] = {
        "id": f"{episode}-{index}",
        "tenant": "default",
        "episode_id": episode,
        "step_index": index,
        "created_at_s": 100.0 + index,
        "model": "agent",
        "goal": "Find a mug.",
        "observation": "o",
        "answer": "look",
        "decision": decision,
        "cost_usd": {decision.served: usd},
        "uncached_cost_usd": {decision.served: 2 * usd},
        **changes,
    }
    return Trace(**made)


def audited(trace: Trace, *, agrees: bool | None, **changes: Any) -> StepAudit:
    made: dict[str, Any] = {
        "trace_id": trace.id,
        "tenant": "default",
        "episode_id": trace.episode_id,
        "step_index": trace.step_index,
        "created_at_s": trace.created_at_s,
        "propensity": 0.5,
        "agrees": agrees,
        "cost_usd": 10.0,
        "uncached_cost_usd": 20.0,
        **changes,
    }
    return StepAudit(**made)


# Evidence.


def test_an_episode_costs_all_its_steps_and_audits() -> None:
    steps = [traced("a", KEPT, 1.0), traced("a", KEPT, 2.0, 1)]
    record = EpisodeRecord(id="a", tenant="default", success=False, created_at_s=1.0)

    (one,) = episode_evidence(steps, {"a": record}, [audited(steps[1], agrees=True)])

    assert (one.cost_usd, one.uncached_cost_usd) == (13.0, 26.0)
    assert (one.holdout, one.success) == (False, False)
    assert one.propensity == pytest.approx(0.1)


def test_a_held_out_episode_is_told_by_its_reason() -> None:
    (one,) = episode_evidence([traced("a", HELD_OUT, 1.0)], {}, [])

    assert (one.holdout, one.propensity, one.success) == (True, 0.1, None)


def test_episodes_that_nobody_drew_are_no_evidence() -> None:
    undrawn = Decision(served="teacher", reason=Reason.PASSTHROUGH)

    assert episode_evidence([traced("a", undrawn, 1.0)], {}, []) == []


def test_a_step_that_was_forced_costs_what_it_cost() -> None:
    forced = Decision(served="student", reason=Reason.FORCED)

    (one,) = episode_evidence([traced("a", KEPT, 1.0), traced("a", forced, 2.0, 1)], {}, [])

    assert one.cost_usd == 3.0


def test_audits_are_clustered_by_the_first_word_of_the_goal() -> None:
    known, unknown = traced("a", KEPT, 1.0), traced("b", KEPT, 1.0)
    failed = audited(traced("c", KEPT, 1.0), agrees=None)

    found = audit_evidence(
        [audited(known, agrees=False), audited(unknown, agrees=True), failed], {known.id: known}
    )

    assert [(one.wrong, one.cluster, one.propensity) for one in found] == [
        (True, "find", 0.5),
        (False, None, 0.5),
    ]


# What a person reads.


def test_without_any_traffic_the_report_says_what_to_set() -> None:
    told = lines(EMPTY)

    assert told[0] == "0 episodes were drawn, 0 of them for the teacher alone"
    assert "set evidence.holdout" in told[1]
    assert told[2] == "risk: no audits yet; set evidence.audits (for example 0.02)"
    assert len(told) == 3


def test_without_feedback_the_report_asks_for_it() -> None:
    told = lines(replace(EMPTY, episodes=3, audits_without_opinion=2))

    assert "success: no estimate yet; send feedback on episodes of both kinds" in told
    assert told[-1] == "2 audits have no answer and are left out"


# Traffic of which the truth is known.


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_intervals_hold_what_the_cascade_really_saves_and_risks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    config = configured(store_in(tmp_path), evidence__seed=seed)
    await serve_randomised(config, 300, monkeypatch)
    async with open_assembly(config, open_bank=False) as assembly:
        found = await savings_report(assembly, "default")

    real = truth(300)
    assert found.episodes == 300
    assert 60 < found.holdouts < 120
    assert found.cached is not None
    assert found.uncached is not None
    assert found.quality is not None
    assert found.risk is not None
    saved_usd = real.teacher_usd - real.cascade_usd
    assert holds(found.cached.usd.interval, saved_usd)
    assert holds(found.cached.share.interval, saved_usd / real.teacher_usd)
    assert found.cached.usd.interval.low > 0
    assert holds(found.quality.difference.interval, real.quality)
    assert holds(found.risk.interval, real.wrong)
    assert found.risk.bound >= real.wrong
    assert found.quality.unknown == 0
    # Only tasks with a mug hold wrong turns.
    assert set(found.risk_by_goal) == {"find", "tidy"}
    assert found.risk_by_goal["tidy"].risk == 0.0
    assert found.risk_by_goal["find"].risk > found.risk.risk
    told = lines(found)
    assert told[1].startswith("saved an episode, with prompt caches: $0.0")
    assert any(line.startswith("  find ...: 0.") for line in told)
    written = json.loads(json.dumps(to_json(found)))
    assert written["cached"]["usd"]["value"] == found.cached.usd.value


async def test_the_cost_of_audits_is_what_the_cascade_costs_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(store_in(tmp_path))
    await serve_randomised(config, 40, monkeypatch)
    async with open_assembly(config, open_bank=False) as assembly:
        found = await savings_report(assembly, "default")
        traces = await assembly.traces.traces("default", limit=1000)
        audits = await assembly.audits.audits("default")

    held_out = {one.episode_id for one in traces if one.decision.reason is Reason.HOLDOUT}
    kept = [one for one in traces if one.episode_id not in held_out]
    deferred = sum(one.decision.served == "teacher" for one in kept)
    total_usd = len(kept) * STUDENT_USD + (deferred + len(audits)) * TEACHER_USD
    assert audits
    assert found.cached is not None
    assert found.cached.cascade_usd == pytest.approx(total_usd / (40 - len(held_out)))
    assert found.audits == len(audits)


async def test_episodes_that_began_too_early_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(store_in(tmp_path))
    await serve_randomised(config, 10, monkeypatch)
    async with open_assembly(config, open_bank=False) as assembly:
        traces = await assembly.traces.traces("default", limit=1000)
        second = min(one.created_at_s for one in traces if one.episode_id == "e1")
        some = await savings_report(assembly, "default", since_s=second)
        none = await savings_report(assembly, "default", since_s=1e12)
        other = await savings_report(assembly, "acme")

    assert (some.episodes, none.episodes, other.episodes) == (9, 0, 0)
    assert (none.cached, none.risk, other.risk) == (None, None, None)


async def test_an_interval_without_an_end_is_null_in_json(tmp_path: Path) -> None:
    async with open_assembly(household(store__url=store_in(tmp_path))) as assembly:
        for number in range(4):
            decision = HELD_OUT if number < 2 else KEPT
            await assembly.traces.append(traced(f"e{number}", decision, 1.0 + number))
        found = await savings_report(assembly, "default")

    assert found.cached is not None
    assert "Infinity" not in json.dumps(to_json(found))
    assert "NaN" not in json.dumps(to_json(found))
    assert len(lines(found)) >= 4
