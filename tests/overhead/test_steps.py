from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from tutelage.overhead.figure import Figure, value_of
from tutelage.overhead.setting import TENANT, Setting
from tutelage.overhead.steps import HOPS, measure_steps

STEPS = 12


@pytest.fixture
def ticks() -> Callable[[], float]:
    """A clock that moves by a millisecond each time it is read."""
    numbers = count()
    return lambda: next(numbers) / 1000


async def test_every_hop_of_a_step_is_timed(setting: Setting, ticks: Callable[[], float]) -> None:
    figures = await measure_steps(setting, steps=STEPS, clock=ticks)

    found = {one.name: one.value for one in figures}
    assert set(found) == {*HOPS, "rest", "total", "total, 16 at once", "embedding a step"}
    # One reading before and one after; the policy plans and decides.
    assert found["retrieve"] == found["render"] == found["agree"] == pytest.approx(1)
    assert found["append"] == pytest.approx(1)
    assert found["policy"] == pytest.approx(2)
    assert found["total"] == pytest.approx(sum(found[hop] or 0 for hop in (*HOPS, "rest")))
    assert found["embedding a step"] == pytest.approx(1)


async def test_the_student_is_left_out_of_the_total(
    setting: Setting, ticks: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = await measure_steps(setting, steps=STEPS, clock=ticks)
    from tutelage.runtime.models.scripted import ScriptedModel

    complete = ScriptedModel.complete

    async def slow(self: ScriptedModel, *arguments: object) -> object:
        for _ in range(500):
            ticks()
        return await complete(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedModel, "complete", slow)
    slowed = await measure_steps(setting, steps=STEPS, clock=ticks)

    assert value_of(slowed, "step", "total") == pytest.approx(value_of(plain, "step", "total"))


async def test_the_measured_path_serves_agreed_steps_and_stores_their_traces(
    setting: Setting,
) -> None:
    figures = await measure_steps(setting, steps=STEPS)

    traces = await setting.assembly.traces.traces(TENANT, limit=1000)
    assert len(traces) == 2 * STEPS
    assert {trace.decision.reason.value for trace in traces} == {"agreed"}
    assert all(trace.demonstrations for trace in traces)
    total = next(one for one in figures if one.name == "total")
    assert f"{setting.demonstrations:,} demonstrations, {STEPS} steps" in total.note


def test_a_figure_that_was_not_measured_says_so() -> None:
    skipped = Figure("p", "n", None, "ms", "skipped")

    assert skipped.text == "-"
    assert value_of([skipped], "p", "n") is None
    assert value_of([skipped], "p", "other") is None
    assert Figure("p", "n", 1.2345, "ms").text == "1.23 ms"
    assert Figure("p", "n", 1004.4, "tokens").text == "1,004 tokens"
