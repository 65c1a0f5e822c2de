from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.small_household import household

from tutelage.assembly import Assembly, open_assembly
from tutelage.draw_study import compare_draws
from tutelage.labelling import LabelledStep
from tutelage.runtime.types import Decision, Reason, Sample, Trace

pytest.importorskip("sklearn")


@pytest.fixture
async def assembly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Assembly]:
    isolate(monkeypatch, tmp_path)
    async with open_assembly(household(retrieval__enabled=False)) as opened:
        yield opened


def a_step(episode: str, said: tuple[str, ...], similarity: float, *, right: bool) -> LabelledStep:
    made: dict[str, Any] = {
        "id": f"{episode}-{similarity}",
        "tenant": "default",
        "episode_id": episode,
        "step_index": 0,
        "created_at_s": 1.0,
        "model": "agent",
        "goal": "tidy",
        "observation": "A room.",
        "answer": "look",
        "decision": Decision(served="teacher", reason=Reason.DISAGREED),
        "samples": tuple(Sample(text=text, action=text) for text in said),
    }
    share = max(said.count(one) for one in said) / len(said)
    features = {"agreement": share, "similarity": similarity}
    return LabelledStep(Trace(**made), features, right, None, 0.001, 0.01)


def steps(count: int) -> list[LabelledStep]:
    """Half of the steps are near what was shown, and there the samples agree and are right."""
    found = []
    for place in range(count):
        known = a_step(f"e{place}", ("look",) * 5, 0.9, right=True)
        torn = a_step(f"e{place}", ("look", "go", "look", "take", "go"), 0.1, right=False)
        found += [known, torn]
    return found


async def test_adaptive_draws_decide_alike_for_a_share_of_the_tokens(assembly: Assembly) -> None:
    found = await compare_draws(assembly, steps(300), "logistic", alpha=0.05, delta=0.05)

    by_name = {one.name: one for one in found}
    assert list(by_name) == [
        "all 5 agree",
        "3 of 5 agree",
        "most frequent, p 0.9",
        "adaptive",
    ]
    assert by_name["all 5 agree"].same_share == by_name["3 of 5 agree"].same_share == 1.0
    assert by_name["all 5 agree"].samples == pytest.approx(3.5)
    adaptive = by_name["adaptive"]
    assert adaptive.same_share >= 0.95
    assert adaptive.samples == pytest.approx(3.0)
    assert 0.5 < adaptive.token_share < 0.7
    # The others half of the episodes were fitted on.
    assert adaptive.steps < by_name["all 5 agree"].steps


async def test_single_samples_are_not_compared(assembly: Assembly) -> None:
    single = [a_step(f"e{place}", ("look",), 0.5, right=True) for place in range(5)]

    assert await compare_draws(assembly, single, "logistic", alpha=0.1, delta=0.1) == ()
    assert await compare_draws(assembly, [], "logistic", alpha=0.1, delta=0.1) == ()


async def test_labels_that_are_all_equal_leave_out_what_has_to_be_fitted(
    assembly: Assembly,
) -> None:
    equal = [a_step(f"e{place}", ("look",) * 3, 0.5, right=True) for place in range(20)]

    found = await compare_draws(assembly, equal, "logistic", alpha=0.1, delta=0.1)

    assert [one.name for one in found] == ["all 3 agree", "2 of 3 agree", "most frequent, p 0.9"]


async def test_a_first_sample_that_is_likely_decides_as_all_do_where_steps_show_it(
    assembly: Assembly,
) -> None:
    made = []
    for step in steps(300):
        logprob = -0.01 if step.right else -0.9
        samples = tuple(one.model_copy(update={"logprob": logprob}) for one in step.trace.samples)
        trace = step.trace.model_copy(update={"samples": samples})
        made.append(dataclasses.replace(step, trace=trace))

    found = await compare_draws(assembly, made, "logistic", alpha=0.05, delta=0.05)

    likely = next(one for one in found if "enough_logprob = -0.01)" in one.name)
    # One of the five where they agree, two where the second one disagrees.
    assert likely.samples == pytest.approx(1.5)
    assert likely.same_share == 1.0


async def test_samples_without_log_probabilities_show_no_level(assembly: Assembly) -> None:
    found = await compare_draws(assembly, steps(300), "logistic", alpha=0.05, delta=0.05)
    assert not any("enough_logprob" in one.name for one in found)
