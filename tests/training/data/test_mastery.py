from __future__ import annotations

import pytest
from tests.training.data.episodes import TAUGHT, Row, all_ids, played, record, words

from tutelage.training.data.examples import ExampleSettings, examples_of
from tutelage.training.data.mastery import Mastery
from tutelage.training.data.recorded import RecordedEpisode

STATE = "put a mug away\na room"
SERVED: list[Row] = [("a room", "open box", "student"), ("a mug", "take mug", "teacher")]


def test_samples_beside_the_teacher_count_one_by_one() -> None:
    recorded = played(TAUGHT[:1], samples=["open box", "open box", "look"])
    assert Mastery([recorded]).rates == {STATE: pytest.approx(2 / 3)}


def test_a_state_that_was_seen_too_seldom_is_not_known() -> None:
    recorded = played(TAUGHT[:1], samples=["open box", "open box"])
    assert Mastery([recorded]).rates == {}
    assert Mastery([recorded], least=2).rates == {STATE: 1.0}


@pytest.mark.parametrize(
    ("recorded", "rate"),
    [
        (played(SERVED), 1.0),
        (played(SERVED, record(success=False)), None),
        (played(SERVED, audits=[(0, "look", False)]), 0.0),
        (played(SERVED, record(success=False), audits=[(0, "open box", True)]), 1.0),
        (played(SERVED, audits=[(0, None, None)]), 1.0),
        (played([SERVED[0], ("Nothing happens", "look", "teacher")]), 0.0),
    ],
)
def test_a_step_of_the_student_counts_as_far_as_it_is_known(
    recorded: RecordedEpisode, rate: float | None
) -> None:
    assert Mastery([recorded], least=1).rates.get(STATE) == rate


def test_an_answer_whose_action_is_not_known_compares_with_nothing() -> None:
    recorded = played(TAUGHT[:1], samples=["open box"] * 3)
    bare = recorded.traces[0].model_copy(update={"action": None})
    assert Mastery([RecordedEpisode(recorded.episode, (bare,))]).rates == {}


def test_an_example_has_the_mean_of_its_states_if_all_are_known() -> None:
    known = played(TAUGHT[:2], samples=["open box"] * 3)
    (whole,) = examples_of(known, all_ids(known), ExampleSettings(shape="trajectories"), words)
    assert Mastery([known])(whole) == pytest.approx(0.5)
    assert Mastery([known])(whole.model_copy(update={"trace_ids": ("x",)})) is None
    assert Mastery([known])(whole.model_copy(update={"trace_ids": ()})) is None
    assert Mastery([])(whole) is None
