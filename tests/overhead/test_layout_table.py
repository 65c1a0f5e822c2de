from __future__ import annotations

import pytest

from tutelage.benchmarks.copying_student import CopyingStudent
from tutelage.overhead.layout_table import (
    CASCADE_COLUMNS,
    COLUMNS,
    OWN,
    PROVIDER,
    UNAIDED,
    LayoutScore,
    layouts,
    measure,
    score_layout,
    steps_of,
)
from tutelage.overhead.report import Machine
from tutelage.overhead.setting import Setting
from tutelage.runtime.errors import BadResponse, ConfigError, ModelError, PriceUnknown
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pricing import PriceTable

STEPS = list(steps_of(24))


async def scored(setting: Setting, name: str, policy: str = "always-student") -> LayoutScore:
    assembly = layouts(setting)[name]
    return await score_layout(name, assembly, CopyingStudent(), STEPS, policy=policy)


def test_the_steps_are_the_first_of_whole_episodes() -> None:
    assert len(STEPS) == 24
    assert [one.episode for one in STEPS] == sorted(one.episode for one in STEPS)
    assert [len(one.request.messages) for one in STEPS[:3]] == [2, 4, 6]
    assert STEPS[0].request.messages[0].role == "system"


async def test_a_pinned_prefix_is_cached_and_a_per_step_one_is_not(setting: Setting) -> None:
    scores = {
        name: await scored(setting, name)
        for name in ("per-step", "pinned", "pinned-delta, trajectory", "no demonstrations")
    }
    cached = {name: score.cached(OWN) for name, score in scores.items()}
    assert cached["pinned"] > cached["pinned-delta, trajectory"] > cached["per-step"] > 0
    assert scores["no demonstrations"].tokens < scores["per-step"].tokens
    assert scores["no demonstrations"].right < scores["per-step"].right
    assert all(score.steps == score.served == 24 for score in scores.values())


async def test_a_budget_takes_fewer_tokens(setting: Setting) -> None:
    bare, small, large, free = [
        await scored(setting, name)
        for name in (
            "no demonstrations",
            "budget of 150 tokens",
            "budget of 300 tokens",
            "per-step",
        )
    ]
    assert small.tokens < large.tokens < free.tokens
    assert small.right > bare.right


async def test_short_prompts_are_cached_by_ones_own_server_only(setting: Setting) -> None:
    score = await scored(setting, "no demonstrations")
    own, provider = score.usage[OWN], score.usage[PROVIDER]
    assert own.prompt_tokens == provider.prompt_tokens
    assert score.cached(OWN) > 0.3
    assert (provider.cache_read_tokens, provider.cache_write_tokens) == (0, 0)
    assert score.told.output_tokens > 0


async def test_all_tables_come_from_one_run(setting: Setting) -> None:
    told: list[str] = []
    report = await measure(
        setting,
        CopyingStudent(),
        "a stand-in",
        steps=8,
        only=("per-step", UNAIDED),
        priced_as="claude-sonnet-4-5",
        progress=told.append,
    )
    assert told == [
        "per-step, 8 steps",
        "cascade: per-step, 8 steps",
        f"cascade: {UNAIDED}, 8 steps",
    ]
    (row,) = report.rows()
    assert len(row) == len(COLUMNS)
    price = PriceTable.shipped().price("claude-sonnet-4-5")
    score = report.greedy[0]
    assert row[5] == f"{1000 * price.cost_usd(score.usage[OWN]) / 8:.4f}"
    # Written tokens are dearer than plain ones, so that a cache that is hardly read costs.
    assert score.usage[OWN].cache_write_tokens > 0
    assert row[7] == f"{1000 * price.uncached_cost_usd(score.usage[OWN]) / 8:.4f}"
    assert [len(cells) for cells in report.cascade_rows()] == [len(CASCADE_COLUMNS)] * 2
    aided, unaided = report.cascades
    assert aided.unaided == 0
    assert unaided.unaided <= unaided.served
    assert unaided.usage[OWN].output_tokens >= aided.usage[OWN].output_tokens

    text = report.markdown("tutelage bench layouts", Machine.here())
    assert text.count("| per-step |") == 2
    assert "priced as claude-sonnet-4-5" in text
    document = report.document(Machine.here())
    assert document["greedy"][0]["usage"][OWN] == score.usage[OWN].model_dump()
    assert len(document["cascades"]) == 2


async def test_a_deferred_step_is_the_teachers_and_costs_its_price(setting: Setting) -> None:
    report = await measure(
        setting, ScriptedModel([["go", "look", "x"]] * 8), "s", steps=4, only=("per-step",)
    )
    (score,) = report.cascades
    assert (score.served, score.right) == (0, 0)
    (row,) = report.cascade_rows()
    assert row[:4] == ["per-step", "0.00", "-", "1.00 (0.51-1.00)"]
    assert float(row[7]) > 0


async def test_a_layout_nobody_knows_is_named(setting: Setting) -> None:
    with pytest.raises(ConfigError, match="layout 'sideways' is unknown; known: no demonstrat"):
        await measure(setting, CopyingStudent(), "s", steps=1, only=("sideways",))


async def test_a_student_without_a_price_is_found_before_it_is_asked(setting: Setting) -> None:
    student = ScriptedModel("look")
    with pytest.raises(PriceUnknown):
        await measure(setting, student, "s", steps=1, priced_as="nobody")
    assert student.calls == []


async def test_a_student_that_fails_ends_the_run(setting: Setting) -> None:
    student = ScriptedModel("look", failures={1: BadResponse("broken")})
    with pytest.raises(ModelError, match=r"layout per-step, task .*: BadResponse: broken"):
        await measure(setting, student, "s", steps=3, only=("per-step",))
