from __future__ import annotations

from dataclasses import replace
from math import e

import pytest
from tests.training.data.episodes import MIXED, TAUGHT, Row, played, record, words

from tutelage.runtime.errors import NoExamples
from tutelage.training.data.dataset import Dataset, DatasetSettings, build_dataset
from tutelage.training.data.examples import ExampleSettings
from tutelage.training.data.recorded import RecordedEpisode
from tutelage.training.data.trace_gate import TraceRules

RULES = TraceRules(tenants=frozenset({"acme"}))
WHOLE = DatasetSettings(RULES, ExampleSettings(shape="trajectories"))


def rows(name: str, steps: int = 3) -> list[Row]:
    return [(f"seen {name}", f"do {name} {step}", "teacher") for step in range(steps)]


def several() -> list[RecordedEpisode]:
    return [
        played(rows("a"), record("e1"), family="put"),
        played(rows("b", 5), record("e2"), family="put"),
        played(rows("c"), record("e3"), family="heat", samples=["x", "x", "x"]),
    ]


def build(settings: DatasetSettings, *episodes: RecordedEpisode) -> Dataset:
    return build_dataset(episodes or several(), settings, words)


def test_a_dataset_says_what_it_was_made_of() -> None:
    dataset = build(WHOLE, *several(), played(TAUGHT, record("e4", success=False)))
    assert [one.id for one in dataset.examples] == ["e1", "e2", "e3"]
    assert dataset.trace_ids == tuple(
        sorted(
            [f"e1-{i}" for i in range(3)]
            + [f"e2-{i}" for i in range(5)]
            + [f"e3-{i}" for i in range(3)]
        )
    )
    assert dataset.report.lines()[1] == "3 not_successful: e4-0, e4-1, e4-2"


def test_the_digest_changes_with_traces_texts_and_settings() -> None:
    first = build(WHOLE)
    assert len(first.digest) == 64
    assert build(WHOLE, *several()[::-1]).digest == first.digest
    others = [
        build(WHOLE, *several()[1:]),
        build(replace(WHOLE, most_examples=9)),
        build(replace(WHOLE, mixing="uniform")),
        build(WHOLE, *several()[:2], played(rows("d"), record("e3"), family="heat")),
        build(DatasetSettings(RULES)),
    ]
    assert len({first.digest, *(one.digest for one in others)}) == 6


def test_the_farthest_are_kept_when_there_are_too_many() -> None:
    dataset = build(replace(WHOLE, most_examples=1))
    assert [one.id for one in dataset.examples] == ["e2"]
    assert dataset.unselected == 2


def test_what_the_student_masters_is_left_out() -> None:
    known = played([("a room", "go", "teacher")], record("e9"), samples=["go"] * 3)
    dataset = build(replace(WHOLE, least_difficulty=0.2), known, *several())
    assert [one.id for one in dataset.examples] == ["e1", "e2", "e3"]
    assert dataset.mastered == 1
    assert build(WHOLE, known).mastered == 0


def test_what_may_not_be_learnt_from_tells_nothing_of_the_student_either() -> None:
    known = played([("a room", "go", "teacher")], record("e8"))
    told = played([("a room", "go", "teacher")], record("e9"), samples=["go"] * 3)
    hidden = told.traces[0].model_copy(update={"no_train": True})
    settings = replace(WHOLE, least_difficulty=0.2)
    assert build(settings, known, RecordedEpisode(told.episode, (hidden,))).mastered == 0


def test_families_can_weigh_the_same() -> None:
    weights = {one.id: one.weight for one in build(replace(WHOLE, mixing="uniform")).examples}
    assert weights == pytest.approx({"e1": 0.75, "e2": 0.75, "e3": 1.5})


def test_families_can_weigh_by_what_the_student_hands_over() -> None:
    served = played(MIXED, record("e4"), family="put", samples=["go to shelf 9"])
    dataset = build(replace(WHOLE, mixing="deferral"), served, several()[2])
    totals = {one.family: one.weight for one in dataset.examples}
    assert totals["heat"] / totals["put"] == pytest.approx(e ** (2 * (1 - 3 / 5)))
    # A family of which the student was never asked counts as handed over.
    assert len(build(replace(WHOLE, mixing="deferral"), several()[0]).examples) == 1


def test_a_dataset_without_examples_says_why() -> None:
    with pytest.raises(NoExamples, match="there are no traces"):
        build_dataset([], WHOLE, words)
    with pytest.raises(NoExamples, match=r"most often \(3 of 3\) because of not_successful"):
        build(WHOLE, played(TAUGHT, record(success=False)))
    with pytest.raises(NoExamples, match="selection leaves none of 3"):
        build(replace(WHOLE, most_examples=0))


def test_an_evaluation_task_is_kept_out_by_its_id() -> None:
    settings = replace(WHOLE, traces=replace(RULES, evaluation_tasks=frozenset({"game-1"})))
    with pytest.raises(NoExamples, match="evaluation_task"):
        build(settings)
