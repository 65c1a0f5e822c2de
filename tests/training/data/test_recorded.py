from __future__ import annotations

from tests.training.data.episodes import TAUGHT, played, record

from tutelage.runtime.types import StepAudit
from tutelage.training.data.recorded import RecordedEpisode, is_refusal, record_episodes


def test_the_latest_finished_answer_counts_for_a_step() -> None:
    recorded = played(TAUGHT)
    again = recorded.traces[1].model_copy(
        update={"id": "again", "created_at_s": 9.0, "answer": "take the mug"}
    )
    torn = again.model_copy(update={"id": "torn", "created_at_s": 10.0, "finished": False})
    both = RecordedEpisode(recorded.episode, (torn, again, *recorded.traces))
    assert [trace.id for trace in both.steps()] == ["e1-0", "again", "e1-2"]


def test_a_step_that_only_broke_off_is_a_gap() -> None:
    recorded = played(TAUGHT)
    torn = recorded.traces[1].model_copy(update={"finished": False})
    assert RecordedEpisode(recorded.episode, (recorded.traces[0], torn)).steps() == ()


def test_stores_are_joined_by_tenant_and_episode() -> None:
    ours, theirs = played(TAUGHT), played(TAUGHT, record(tenant="zeta", task_id=None))
    lost = played(TAUGHT[:1], record("e9"))
    audit = StepAudit(
        trace_id="e1-1", tenant="acme", episode_id="e1", step_index=1, created_at_s=1, propensity=1
    )
    joined = record_episodes(
        [*theirs.traces, *lost.traces, *ours.traces],
        [theirs.episode, ours.episode],
        [audit],
        {"game-1": "put"},
    )
    assert [(one.episode.tenant, one.episode.id) for one in joined] == [
        ("acme", "e1"),
        ("acme", "e9"),
        ("zeta", "e1"),
    ]
    assert joined[0].audits == {"e1-1": audit}
    assert [one.family for one in joined] == ["put", "", ""]
    assert joined[1].episode.success is None
    assert joined[2].audits == {}


def test_a_refusal_is_known_by_its_opening() -> None:
    assert is_refusal("  NOTHING happens.")
    assert not is_refusal("You see that nothing happens")
    assert is_refusal("Error: no", ("error",))
