from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.small_household import household

from tutelage.assembly import open_assembly
from tutelage.benchmarks.recorded_replay import RecordedReplay, lines, to_json
from tutelage.policies import Choice, Policies
from tutelage.recorded import Again, replay_recorded, replayed
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.types import (
    Decision,
    EpisodeRecord,
    Reason,
    Sample,
    StepAudit,
    Trace,
    Usage,
)

AGREED = ("go to desk 1",) * 3
SPLIT = ("open drawer 1", "open drawer 2", "open drawer 3")
HELD_OUT = Decision(served="teacher", reason=Reason.HOLDOUT, propensity=0.25)
STUDENT_USD, TEACHER_USD = 0.001, 0.01


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def kept(served: str, reason: Reason) -> Decision:
    return Decision.model_validate({"served": served, "reason": reason, "propensity": 0.75})


def traced(
    episode: str, index: int, samples: Sequence[str], decision: Decision, **changes: Any
) -> Trace:
    costs = {"student": STUDENT_USD} if samples else {}
    usage = {"student": Usage(input_tokens=1000, output_tokens=30)} if samples else {}
    if decision.served == "teacher":
        costs["teacher"] = TEACHER_USD
        usage["teacher"] = Usage(input_tokens=500, cache_read_tokens=500, output_tokens=100)
    answer = samples[0] if decision.served == "student" else "go to desk 1"
    made: dict[str, Any] = {
        "id": f"{episode}-{index}",
        "tenant": "default",
        "episode_id": episode,
        "step_index": index,
        "created_at_s": 100.0 + index,
        "model": "agent",
        "goal": "tidy the room.",
        "observation": f"You see a desk {index}.",
        "answer": answer,
        "decision": decision,
        "samples": tuple(Sample(text=one, action=one) for one in samples),
        "cost_usd": costs,
        "uncached_cost_usd": {role: 2 * usd for role, usd in costs.items()},
        "usage": usage,
        **changes,
    }
    return Trace(**made)


def cascade(episode: str) -> list[Trace]:
    """A step of the student, then one of the teacher."""
    return [
        traced(episode, 0, AGREED, kept("student", Reason.AGREED)),
        traced(episode, 1, SPLIT, kept("teacher", Reason.DISAGREED)),
    ]


def held_out(episode: str) -> list[Trace]:
    return [traced(episode, index, (), HELD_OUT) for index in range(2)]


def traffic(cascades: int = 30, holdouts: int = 12) -> dict[str, list[Trace]]:
    found = {f"c{n}": cascade(f"c{n}") for n in range(cascades)}
    return found | {f"h{n}": held_out(f"h{n}") for n in range(holdouts)}


def again(policy: str = "paper", **changes: Any) -> Again:
    policies = Policies(household(cascade__policy=policy, **changes), lambda step: 0.0)
    return Again(policies.agreement(), policies.policy(Choice(bare=True, routed=True)))


def told(episodes: dict[str, list[Trace]], anew: Again | None, **options: Any) -> RecordedReplay:
    records = {
        id: EpisodeRecord(id=id, tenant="default", success=not id.endswith("3"), created_at_s=1.0)
        for id in episodes
    }
    given: dict[str, Any] = {"policy": "x", **options}
    return replayed(episodes, given.pop("records", records), given.pop("audits", ()), anew, **given)


# The same decisions.


def test_the_policy_that_was_recorded_is_replayed_exactly() -> None:
    found = told(traffic(), again())

    assert (found.method, found.episodes, found.steps, found.same_steps) == ("exact", 30, 60, 60)
    assert found.cached.value == pytest.approx(2 * STUDENT_USD + TEACHER_USD)
    assert found.cached.value == pytest.approx(found.recorded_usd)
    assert found.uncached.value == pytest.approx(found.recorded_uncached_usd)
    assert found.success is not None
    assert found.success.value == pytest.approx(found.recorded_success)
    assert set(found.rows) == {f"c{n}" for n in range(30)}


def test_audits_are_part_of_what_an_episode_costs() -> None:
    audit = StepAudit(
        trace_id="c0-0",
        tenant="default",
        episode_id="c0",
        step_index=0,
        created_at_s=1.0,
        propensity=0.5,
        cost_usd=30.0,
        uncached_cost_usd=60.0,
    )

    found = told(traffic(), again(), audits=[audit])

    assert found.cached.value == pytest.approx(2 * STUDENT_USD + TEACHER_USD + 1.0)
    assert found.uncached.value == pytest.approx(found.recorded_uncached_usd)


def test_other_prices_are_counted_from_the_tokens_of_all_episodes() -> None:
    def prices(role: str, usage: Usage) -> tuple[float, float]:
        return usage.input_tokens * 1.0, usage.prompt_tokens * 1.0

    found = told(traffic(1, 1), None, prices=prices, policy="as recorded")

    assert (found.method, found.repriced, found.episodes) == ("exact", True, 2)
    # 2 student and 1 teacher prompts in the first, 2 of the teacher in the second.
    assert found.cached.value == pytest.approx((2500 + 1000) / 2)
    assert found.uncached.value == pytest.approx((3000 + 2000) / 2)


def test_guards_see_earlier_steps_only_where_the_client_sent_them() -> None:
    def step(index: int, place: int) -> Trace:
        decision = kept("student", Reason.AGREED)
        seen = {"step_index": place, "observation": "Nothing happens."}
        return traced("c0", index, AGREED, decision, **seen)

    untold = {"c0": [step(index, 0) for index in range(6)], "c1": cascade("c1")}
    told_all = {"c0": [step(index, index) for index in range(6)], "c1": cascade("c1")}

    assert told(untold, again()).same_steps == 8
    with pytest.raises(BenchmarkError, match=r"would have been the teacher \(rejected\)"):
        told(told_all, again())


# Estimates.


def test_always_the_teacher_is_estimated_from_held_out_episodes() -> None:
    found = told(traffic(), again("always-teacher"))

    assert found.method == "off-policy"
    assert found.cached.value == pytest.approx(2 * TEACHER_USD)
    assert (found.cached.used, found.cached.episodes) == (12, 42)
    assert found.cached.effective == pytest.approx(12)
    assert set(found.rows) == {f"h{n}" for n in range(12)}
    assert found.recorded_usd == pytest.approx(2 * STUDENT_USD + TEACHER_USD)


def test_a_step_that_a_client_forced_does_not_stand_in_the_way() -> None:
    forced = Decision(served="teacher", reason=Reason.FORCED)
    episodes = traffic()
    episodes["c0"].append(traced("c0", 2, (), forced))
    episodes["h0"].append(traced("h0", 2, (), forced))

    found = told(episodes, again("always-teacher"))

    assert found.cached.value == pytest.approx((12 * 2 + 1) * TEACHER_USD / 12)


def test_episodes_that_the_teacher_played_anyway_need_no_holdout() -> None:
    episodes = {
        f"c{n}": [traced(f"c{n}", 0, SPLIT, Decision(served="teacher", reason=Reason.DISAGREED))]
        for n in range(3)
    }

    found = told(episodes, again("always-teacher"))

    assert found.method == "exact"
    # The samples would not have been drawn.
    assert found.cached.value == pytest.approx(TEACHER_USD)


def explored(n: int, chance: float | None = None) -> list[Trace]:
    """An episode of tossed steps: of four, one has both steps as the paper's policy would."""
    served = ("student" if n & 1 else "teacher", "student" if n & 2 else "teacher")
    return [
        traced(
            f"x{n}",
            index,
            samples,
            Decision.model_validate({"served": who, "reason": Reason.RANDOM, "chance": chance}),
        )
        for index, (who, samples) in enumerate(zip(served, (AGREED, SPLIT), strict=True))
    ]


def test_tossed_steps_support_another_policy() -> None:
    episodes = {f"x{n}": explored(n) for n in range(48)}

    found = told(episodes, again(), p_teacher=0.5)

    assert found.method == "off-policy"
    assert found.cached.value == pytest.approx(2 * STUDENT_USD + TEACHER_USD)
    assert found.cached.used == 12
    assert found.cached.effective == pytest.approx(12)
    assert set(found.rows) == {f"x{n}" for n in range(48) if n % 4 == 1}


def test_tosses_whose_chance_is_recorded_need_no_word_of_it() -> None:
    episodes = {f"x{n}": explored(n, chance=0.5) for n in range(48)}

    found = told(episodes, again())
    told_otherwise = told(episodes, again(), p_teacher=0.9)

    assert found.cached.used == 12
    assert found.cached.value == told_otherwise.cached.value
    assert found.cached.effective == pytest.approx(12)


# Refusals.


def test_tossed_steps_need_the_chance_of_the_coin() -> None:
    with pytest.raises(BenchmarkError, match="give --p-teacher"):
        told({f"x{n}": explored(n) for n in range(48)}, again())


def test_the_teacher_alone_is_refused_without_holdouts() -> None:
    with pytest.raises(BenchmarkError, match="nothing recorded supports") as refused:
        told(traffic(holdouts=0), again("always-teacher"))

    assert "set evidence.holdout" in str(refused.value)
    assert "episode c0, step 0 student served (agreed)" in str(refused.value)


def test_too_few_holdouts_are_refused_with_how_many_episodes_are_needed() -> None:
    with pytest.raises(BenchmarkError, match=r"worth 2\.0 of this policy, .*about 160 recorded"):
        told(traffic(30, 2), again("always-teacher"))


def test_a_step_that_nobody_left_to_chance_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"step 1 teacher served .*'explore'"):
        told(traffic(), again(cascade__agree=1))


@pytest.mark.parametrize(
    ("samples", "lacks"), [(5, "5 samples instead of 3"), (2, "the cost of 2 of 3 samples")]
)
def test_another_number_of_samples_is_not_in_the_record(samples: int, lacks: str) -> None:
    with pytest.raises(BenchmarkError, match=lacks):
        told(traffic(), again(cascade__samples=samples))


def test_steps_without_samples_do_not_determine_a_cascade() -> None:
    with pytest.raises(BenchmarkError, match="it lacks samples of the student"):
        told(traffic(cascades=0), again())


def test_another_answer_of_the_student_is_not_in_the_record() -> None:
    episode = [
        traced("c0", 0, AGREED, kept("student", Reason.AGREED), answer="look", action="look")
    ]

    with pytest.raises(BenchmarkError, match="what follows another answer"):
        told({"c0": episode}, again())


def test_a_policy_that_needs_demonstrations_is_refused() -> None:
    with pytest.raises(ConfigError, match="which no trace keeps"):
        told(traffic(), again(routing__coverage=0.5))


@pytest.mark.parametrize("reason", [Reason.FORCED, Reason.UNKNOWN_TOOL, Reason.STUDENT_FAILED])
def test_what_no_policy_decided_stays(reason: Reason) -> None:
    episodes = {
        f"c{n}": [traced(f"c{n}", 0, (), Decision(served="teacher", reason=reason))]
        for n in range(2)
    }

    assert told(episodes, again()).method == "exact"


def test_tool_calls_are_decided_again_without_their_schemas() -> None:
    call = '{"tool_calls":[{"name":"search","arguments":"{\\"q\\": 1}"}]}'
    decision = kept("student", Reason.AGREED)
    episodes = {f"c{n}": [traced(f"c{n}", 0, (call,) * 3, decision, action="k")] for n in range(2)}
    for served in episodes.values():
        samples = tuple(one.model_copy(update={"action": "k"}) for one in served[0].samples)
        served[0] = served[0].model_copy(update={"samples": samples})

    assert told(episodes, again()).same_steps == 2


def test_success_is_told_to_be_missing() -> None:
    found = told(traffic(), again(), records={})

    assert (found.success, found.recorded_success) == (None, None)
    assert found.success_missing == "no episode has feedback"
    assert lines(found)[-1] == "success: no estimate; no episode has feedback"


def test_too_little_feedback_leaves_costs_standing() -> None:
    record = EpisodeRecord(id="h0", tenant="default", success=True, created_at_s=1.0)

    found = told(traffic(), again("always-teacher"), records={"h0": record})

    assert found.success is None
    assert found.success_missing is not None
    assert "fewer than 10" in found.success_missing
    assert found.cached.value == pytest.approx(2 * TEACHER_USD)


def test_lines_and_json_say_what_the_figures_rest_on() -> None:
    found = told(traffic(), again("always-teacher"), policy="always-teacher")

    text = lines(found)
    plain = json.loads(json.dumps(to_json(found)))

    assert text[0].startswith("policy always-teacher over 42 recorded episodes, recorded prices")
    assert "rests on 12 episodes, worth 12.0 independent ones" in text
    assert plain["cached"]["interval"]["low"] <= plain["cached"]["value"]
    assert plain["rows"] == sorted(plain["rows"], key=lambda id: int(id[1:]))


# The store.


def stored(tmp_path: Path, **changes: Any) -> Any:
    return household(
        store__url=f"sqlite:///{tmp_path}/t.sqlite", retrieval__enabled=False, **changes
    )


async def test_the_store_is_replayed_by_tenant_and_time(tmp_path: Path) -> None:
    async with open_assembly(stored(tmp_path)) as assembly:
        for trace in [one for episode in traffic(3, 0).values() for one in episode]:
            await assembly.traces.append(trace)

        found = await replay_recorded(assembly, "default", rerun="both")
        assert (found.episodes, found.same_steps, found.repriced) == (3, 6, True)
        assert found.cached.value > 0
        for tenant, since_s in (("acme", 0.0), ("default", 1e12)):
            with pytest.raises(BenchmarkError, match="no recorded episode"):
                await replay_recorded(assembly, tenant, since_s=since_s)
        with pytest.raises(ConfigError, match="p_teacher = 1"):
            await replay_recorded(assembly, "default", p_teacher=1.0)
