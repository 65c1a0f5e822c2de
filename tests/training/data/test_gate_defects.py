"""2,000 traces with thirteen kinds of defects: all are caught, nothing clean is lost."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from tests.training.data.episodes import Row, played, record, words

from tutelage.training.data.dataset import DatasetSettings, build_dataset
from tutelage.training.data.examples import ExampleSettings
from tutelage.training.data.gate import EvaluationTask, ExampleRules
from tutelage.training.data.recorded import RecordedEpisode
from tutelage.training.data.reject import RejectReason
from tutelage.training.data.similarity import word_similarity
from tutelage.training.data.trace_gate import TraceRules

ROWS: list[Row] = [
    ("a room", "open box {n}", "teacher"),
    ("a mug", "take mug {n}", "teacher"),
    ("held", "go to shelf {n}", "teacher"),
    ("a shelf", "move mug {n}", "teacher"),
]
DEFECTS: dict[RejectReason, int] = {
    RejectReason.NOT_SUCCESSFUL: 4,
    RejectReason.UNFINISHED: 1,
    RejectReason.NO_TRAIN: 4,
    RejectReason.TENANT: 4,
    RejectReason.STUDENT_TEXT: 1,
    RejectReason.REFUSED_ACTION: 1,
    RejectReason.ODD_UNICODE: 1,
    RejectReason.EMPTY_ACTION: 1,
    RejectReason.TOO_LONG: 1,
    RejectReason.DUPLICATE: 4,
    RejectReason.REPEATED_NGRAM: 1,
    RejectReason.EVALUATION_TASK: 4,
    RejectReason.SIMILAR_TO_EVALUATION: 4,
}
"""Traces that each of them spoils in an episode."""
EPISODES = 500
EACH = 10
EVALUATED = "count all the green apples of the kitchen drawer"


def rows(number: int) -> list[Row]:
    return [(seen, done.format(n=number), who) for seen, done, who in ROWS]


def altered(recorded: RecordedEpisode, index: int, **update: object) -> RecordedEpisode:
    traces = list(recorded.traces)
    traces[index] = traces[index].model_copy(update=update)
    return RecordedEpisode(recorded.episode, tuple(traces))


def spoiled(defect: RejectReason, number: int) -> RecordedEpisode:
    """An episode with one defect, in its last step if it concerns one."""
    id, own = f"bad-{defect.value}-{number}", rows(number)
    clean = played(own, record(id, goal=f"{defect.value} {number}"))
    if defect is RejectReason.NOT_SUCCESSFUL:
        return played(own, record(id, success=[False, None][number % 2]))
    if defect is RejectReason.UNFINISHED:
        torn = clean.traces[3].model_copy(update={"id": f"{id}-torn", "finished": False})
        return RecordedEpisode(clean.episode, (*clean.traces, torn))
    if defect is RejectReason.NO_TRAIN:
        return altered(clean, number % 4, no_train=True)
    if defect is RejectReason.TENANT:
        return played(own, record(id, tenant="stranger"))
    if defect is RejectReason.STUDENT_TEXT:
        return played([*own[:3], (*own[3][:2], "student")], clean.episode)
    if defect is RejectReason.REFUSED_ACTION:
        own[2] = ("Nothing happens.", *own[2][1:])
        return played(own, clean.episode)
    if defect is RejectReason.ODD_UNICODE:
        return altered(clean, 3, answer="move \ufffd\ufffd\x00\ue000 mug")
    if defect is RejectReason.EMPTY_ACTION:
        return altered(clean, 3, answer="  \n")
    if defect is RejectReason.TOO_LONG:
        return altered(clean, 3, answer=" ".join(f"word{i}" for i in range(400)))
    if defect is RejectReason.DUPLICATE:
        return played(rows(number), record(f"same-{number:03}", goal=f"goal {number}"))
    if defect is RejectReason.REPEATED_NGRAM:
        return altered(clean, 3, answer="look " * 60)
    if defect is RejectReason.EVALUATION_TASK:
        return played(own, record(id, task_id="held-out-1"))
    return played(own, record(id, goal=EVALUATED))


def traffic() -> tuple[list[RecordedEpisode], set[str]]:
    """Episodes, and the ids of the traces that must pass."""
    bad = [spoiled(defect, number) for defect in DEFECTS for number in range(EACH)]
    good = [
        played(rows(number), record(f"good-{number:03}", goal=f"goal {number}"))
        for number in range(EPISODES - len(bad))
    ]
    clean = {trace.id for recorded in good for trace in recorded.traces}
    for recorded in bad:
        name = recorded.episode.id.split("-")[1]
        # A copy is named after what it copies.
        defect = RejectReason(name) if name in DEFECTS else RejectReason.DUPLICATE
        if defect is RejectReason.UNFINISHED:
            clean |= {trace.id for trace in recorded.traces[:4]}
        elif DEFECTS[defect] == 1:
            lost = 1 if defect is RejectReason.REFUSED_ACTION else 3
            clean |= {trace.id for i, trace in enumerate(recorded.traces) if i != lost}
    return [*good, *bad], clean


SETTINGS = DatasetSettings(
    traces=TraceRules(tenants=frozenset({"acme"}), evaluation_tasks=frozenset({"held-out-1"})),
    examples=ExampleSettings(),
    rules=ExampleRules(max_tokens=200),
)
EVALUATION = [EvaluationTask("held-out-2", f"{EVALUATED}\nTask: {EVALUATED}\na large room")]


def test_every_defect_is_caught_under_its_name_and_nothing_clean_is_lost() -> None:
    episodes, clean = traffic()
    # An answer that broke off is a trace of its own beside a complete one.
    assert sum(len(one.traces) for one in episodes) == 2_000 + EACH

    dataset = build_dataset(
        episodes,
        SETTINGS,
        words,
        evaluation=EVALUATION,
        similarity=word_similarity,
    )

    expected = {defect: EACH * spoils for defect, spoils in DEFECTS.items()}
    assert dict(dataset.report.counts) == expected
    assert set(dataset.trace_ids) == clean
    assert len(dataset.examples) == len(clean)
    assert all(len(ids) == 5 for ids in dataset.report.samples.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_the_traces_changes_nothing(seed: int) -> None:
    episodes, _ = traffic()
    first = build_dataset(episodes, SETTINGS, words)
    random = Random(seed)
    shuffled = [
        RecordedEpisode(one.episode, tuple(random.sample(one.traces, len(one.traces))))
        for one in random.sample(episodes, len(episodes))
    ]

    again = build_dataset(shuffled, SETTINGS, words)

    assert again == first


def test_no_evaluation_task_ever_passes() -> None:
    episodes, _ = traffic()
    dataset = build_dataset(episodes, SETTINGS, words)
    ids = Counter(example.task_id for example in dataset.examples)
    assert ids["held-out-1"] == 0
    assert ids["game-1"] == len(dataset.examples)
