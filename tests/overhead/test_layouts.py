from __future__ import annotations

from typing import Any

import pytest

from tutelage.overhead.figure import value_of
from tutelage.overhead.layouts import measure_layouts, served_model
from tutelage.overhead.setting import Setting
from tutelage.runtime.errors import ModelError


async def test_a_pinned_prompt_hits_the_cache_more_often(
    setting: Setting, prefix_server: Any
) -> None:
    figures = await measure_layouts(setting, prefix_server.base_url, "tiny", episodes=2)

    per_step, pinned, delta = (
        value_of(figures, "layout", f"{name}, hit rate") or 0.0
        for name in ("per-step", "pinned", "pinned + 1 of the step")
    )
    assert pinned > delta > per_step > 0
    ratio = value_of(figures, "layout", "pinned over per-step, hit rate")
    assert ratio == pytest.approx(pinned / per_step)
    assert value_of(figures, "layout", "cascade call") is not None
    notes = [one.note for one in figures if one.name.endswith(", hit rate")]
    assert not any("not idle" in note for note in notes)


async def test_the_server_and_our_answers_tell_the_same_rate(
    setting: Setting, prefix_server: Any
) -> None:
    figures = await measure_layouts(setting, prefix_server.base_url, "tiny", episodes=1)

    for one in figures:
        if one.name.endswith("hit rate") and "over" not in one.name:
            assert one.value is not None
            assert f"{one.value:.1%} by our answers' usage" in one.note


async def test_other_users_of_the_server_are_noticed(setting: Setting, prefix_server: Any) -> None:
    answer = prefix_server.answer

    def busy(body: dict[str, Any]) -> Any:
        prefix_server.foreign += 1000
        return answer(body)

    prefix_server.answer = busy

    figures = await measure_layouts(setting, prefix_server.base_url, "tiny", episodes=1)

    rates = [one for one in figures if one.name in ("per-step, hit rate", "pinned, hit rate")]
    assert len(rates) == 2
    assert all("the server was not idle" in one.note for one in rates)


async def test_a_student_that_fails_ends_the_measurement(
    setting: Setting, prefix_server: Any
) -> None:
    prefix_server.answer = lambda body: {"error": {"message": "out of order"}}

    with pytest.raises(ModelError, match="did not answer"):
        await measure_layouts(setting, prefix_server.base_url, "tiny", episodes=1)


def test_the_model_is_asked_of_the_server(prefix_server: Any) -> None:
    assert served_model(prefix_server.base_url) == "tiny"


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9/v1/models names no model"):
        served_model("http://127.0.0.1:9/v1")
