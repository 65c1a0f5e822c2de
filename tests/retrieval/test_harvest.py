from __future__ import annotations

from collections.abc import Sequence

import pytest

from tutelage.retrieval.harvest import harvest
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, Served, Trace, Trajectory

EPISODE = EpisodeRecord(
    id="e1", tenant="acme", goal="put a mug away", task_id="game-1", success=True, created_at_s=1.0
)
Row = tuple[str, str, Served]


def traces(rows: Sequence[Row]) -> list[Trace]:
    return [trace(index, *row) for index, row in enumerate(rows)]


def trace(
    index: int, observation: str, answer: str, served: Served, at_s: float | None = None
) -> Trace:
    return Trace(
        id=f"x{index}-{at_s}",
        tenant="acme",
        episode_id="e1",
        step_index=index,
        created_at_s=float(index) if at_s is None else at_s,
        model="agent",
        goal="the goal of the trace",
        observation=observation,
        answer=answer,
        decision=Decision(served=served, reason=Reason.ALWAYS),
    )


def shown(trajectory: Trajectory | None) -> list[Row]:
    assert trajectory is not None
    return [(t.observation, t.action, t.served or "teacher") for t in trajectory.turns]


TAUGHT: list[Row] = [("a room", "open box", "teacher"), ("a mug", " take mug \n", "teacher")]
REFUSED: list[Row] = [
    ("a room", "go to shelf 9", "student"),
    ("Nothing happens.", "go to shelf 8", "student"),
    ("nothing happens", "open box", "teacher"),
    ("a mug", "take mug", "teacher"),
]


def test_a_taught_success_becomes_a_trajectory() -> None:
    found = harvest(
        traces(TAUGHT)[::-1], EPISODE, source="gpt", category="put", plan="open, then take"
    )
    assert shown(found) == [("a room", "open box", "teacher"), ("a mug", "take mug", "teacher")]
    assert found is not None
    assert found.model_dump(exclude={"turns"}) == {
        "id": "e1",
        "tenant": "acme",
        "goal": "put a mug away",
        "success": True,
        "category": "put",
        "plan": "open, then take",
        "task_id": "game-1",
        "source": "gpt",
    }


def test_the_goal_of_the_traces_serves_where_the_episode_has_none() -> None:
    found = harvest(traces(TAUGHT), EPISODE.model_copy(update={"goal": None}), source="gpt")
    assert found is not None
    assert found.goal == "the goal of the trace"


@pytest.mark.parametrize("success", [False, None])
def test_an_episode_without_success_is_left_alone(success: bool | None) -> None:
    episode = EPISODE.model_copy(update={"success": success})
    assert harvest(traces(TAUGHT), episode, source="gpt") is None


def test_an_episode_with_a_gap_or_without_traces_is_left_alone() -> None:
    assert harvest([], EPISODE, source="gpt") is None
    assert harvest(traces([*TAUGHT, *TAUGHT])[1:], EPISODE, source="gpt") is None


def test_traces_of_others_are_not_looked_at() -> None:
    stranger = trace(2, "a secret", "tell", "teacher").model_copy(update={"tenant": "zeta"})
    earlier = trace(2, "another", "game", "teacher").model_copy(update={"episode_id": "e0"})
    found = harvest([*traces(TAUGHT), stranger, earlier], EPISODE, source="gpt")
    assert len(shown(found)) == 2


def test_the_latest_answer_counts_where_a_step_was_asked_twice() -> None:
    retried = [*traces(TAUGHT), trace(1, "a mug", "take the mug", "teacher", at_s=9.0)]
    assert shown(harvest(retried, EPISODE, source="gpt"))[1][1] == "take the mug"


def test_a_mixed_episode_is_taken_only_when_asked_and_says_who_acted() -> None:
    rows: list[Row] = [("a room", "open box", "student"), ("a mug", "take mug", "teacher")]
    assert harvest(traces(rows), EPISODE, source="gpt") is None
    assert shown(harvest(traces(rows), EPISODE, source="gpt", mixed=True)) == rows


def test_an_episode_of_the_student_alone_teaches_nothing() -> None:
    rows: list[Row] = [("a room", "open box", "student")]
    assert harvest(traces(rows), EPISODE, source="gpt", mixed=True) is None


def test_an_empty_answer_is_not_learned() -> None:
    rows: list[Row] = [("a room", "  ", "teacher")]
    assert harvest(traces(rows), EPISODE, source="gpt") is None


def test_refused_steps_are_cut_out() -> None:
    found = harvest(traces(REFUSED), EPISODE, source="gpt", mixed=True)
    assert shown(found) == [("a room", "open box", "teacher"), ("a mug", "take mug", "teacher")]


def test_the_step_back_from_a_refusal_is_kept_when_asked() -> None:
    found = harvest(traces(REFUSED), EPISODE, source="gpt", mixed=True, keep_recovery=True)
    assert shown(found) == [
        ("a room", "go to shelf 8", "student"),
        ("nothing happens", "open box", "teacher"),
        ("a mug", "take mug", "teacher"),
    ]


def test_a_teacher_is_not_shown_in_its_own_error() -> None:
    rows: list[Row] = [("a room", "fly", "teacher"), ("Nothing happens.", "open box", "teacher")]
    for keep in (True, False):
        found = harvest(traces(rows), EPISODE, source="gpt", keep_recovery=keep)
        assert shown(found) == [("a room", "open box", "teacher")]


def test_the_words_of_a_refusal_are_a_parameter() -> None:
    rows: list[Row] = [("a room", "fly", "teacher"), (" ERROR: no wings", "walk", "teacher")]
    assert len(shown(harvest(traces(rows), EPISODE, source="gpt"))) == 2
    assert len(shown(harvest(traces(rows), EPISODE, source="gpt", refusals=["error"]))) == 1
    assert len(shown(harvest(traces(REFUSED), EPISODE, source="g", mixed=True, refusals=()))) == 4


def test_how_an_action_is_read_from_a_trace_is_a_parameter() -> None:
    found = harvest(
        traces(TAUGHT), EPISODE, source="gpt", action=lambda trace: trace.answer.upper()
    )
    assert shown(found)[0][1] == "OPEN BOX"


def test_an_episode_that_may_not_be_learned_from_is_left_alone() -> None:
    forbidden = traces(TAUGHT)
    forbidden[1] = forbidden[1].model_copy(update={"no_train": True})
    assert harvest(forbidden, EPISODE, source="gpt") is None


def test_an_answer_that_broke_off_is_not_learned() -> None:
    partial = trace(1, "a mug", "take m", "teacher", at_s=9.0)
    partial = partial.model_copy(update={"finished": False})
    assert harvest([traces(TAUGHT)[0], partial], EPISODE, source="gpt") is None
    found = harvest([*traces(TAUGHT), partial], EPISODE, source="gpt")
    assert shown(found)[1] == ("a mug", "take mug", "teacher")
