from __future__ import annotations

import pytest

from tutelage.runtime.errors import TrainingError
from tutelage.training.capacity import capacity_advice


@pytest.mark.parametrize(
    ("teacher", "fit"),
    [
        (7e9, "within"),
        (3e9, "within"),
        (2e9, "teacher too small"),
        (14e9, "teacher too large"),
    ],
)
def test_the_advice_is_a_range(teacher: float, fit: str) -> None:
    advice = capacity_advice(1.5e9, teacher)
    assert advice.fit == fit
    assert (advice.low_parameters, advice.high_parameters) == (3e9, 7.5e9)
    assert "a trial overrules this" in advice.text


def test_a_teacher_of_unknown_size_and_text_alone_get_no_advice() -> None:
    assert capacity_advice(1e9, None).fit == "not applicable"
    assert capacity_advice(1e9, None).ratio is None
    advice = capacity_advice(1e9, 1e12, text_only=True)
    assert (advice.fit, advice.ratio) == ("not applicable", 1000)
    assert "only its text" in advice.text


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(TrainingError, match="teacher_parameters = 0"):
        capacity_advice(1e9, 0)
