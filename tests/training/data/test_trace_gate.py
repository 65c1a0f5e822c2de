from __future__ import annotations

import pytest
from tests.training.data.episodes import MIXED, TAUGHT, Row, offering, played, record

from tutelage.training.data.recorded import RecordedEpisode
from tutelage.training.data.reject import Reject, RejectReason
from tutelage.training.data.trace_gate import TraceGate, TraceRules, odd_unicode_share

RULES = TraceRules(tenants=frozenset({"acme"}))


def reasons(recorded: RecordedEpisode, gate: TraceGate | None = None) -> dict[str, str]:
    verdicts = (gate or TraceGate(RULES)).judge([recorded])
    found = {one.id: one.reason.value for one in verdicts.rejects}
    assert found.keys() | verdicts.teachable == {trace.id for trace in recorded.traces}
    assert verdicts.seen == len(recorded.traces)
    return found


def test_a_taught_success_passes() -> None:
    assert reasons(played(TAUGHT)) == {}


def test_the_students_text_does_not_pass_unless_the_teacher_said_otherwise() -> None:
    assert reasons(played(MIXED)) == {"e1-1": "student_text", "e1-3": "student_text"}
    audited = played(MIXED, audits=[(1, "take mug", False), (3, "go to shelf", True)])
    assert reasons(audited) == {"e1-3": "student_text"}


def test_the_teachers_refused_action_does_not_pass() -> None:
    rows: list[Row] = [*TAUGHT[:2], ("Nothing happens.", "look", "teacher")]
    assert reasons(played(rows)) == {"e1-1": "refused_action"}


def test_an_answer_asked_again_is_superseded() -> None:
    recorded = played(TAUGHT)
    again = recorded.traces[1].model_copy(update={"id": "again", "created_at_s": 9.0})
    both = RecordedEpisode(recorded.episode, (*recorded.traces, again))
    assert reasons(both) == {"e1-1": "superseded"}


def test_a_gap_spoils_the_episode() -> None:
    recorded = played(TAUGHT)
    torn = recorded.traces[1].model_copy(update={"finished": False})
    gap = RecordedEpisode(recorded.episode, (recorded.traces[0], torn, recorded.traces[2]))
    assert reasons(gap) == {"e1-0": "incomplete", "e1-1": "unfinished", "e1-2": "incomplete"}


def test_one_forbidden_step_forbids_the_episode() -> None:
    recorded = played(TAUGHT)
    forbidden = recorded.traces[1].model_copy(update={"no_train": True})
    mixed = RecordedEpisode(recorded.episode, (*recorded.traces[:1], forbidden))
    assert reasons(mixed) == {"e1-0": "no_train", "e1-1": "no_train"}


def test_nothing_is_learnt_from_an_episode_in_which_a_revoked_key_wrote() -> None:
    recorded = played(TAUGHT)
    keyed = [
        trace.model_copy(update={"key_id": key})
        for trace, key in zip(recorded.traces, ("good", "bad", None), strict=True)
    ]
    mixed = RecordedEpisode(recorded.episode, tuple(keyed))
    revoking = TraceRules(RULES.tenants, revoked_writers=frozenset({"bad"}))
    assert reasons(mixed) == {}
    assert set(reasons(mixed, TraceGate(revoking)).values()) == {"revoked_writer"}
    assert len(reasons(mixed, TraceGate(revoking))) == 3
    others = TraceRules(RULES.tenants, revoked_writers=frozenset({"another"}))
    assert reasons(mixed, TraceGate(others)) == {}


def test_a_step_whose_tools_are_not_stored_does_not_pass() -> None:
    recorded = offering(played(TAUGHT), "open", "open", "open")
    lost = recorded.traces[1].model_copy(update={"tools": ()})
    traces = (recorded.traces[0], lost, recorded.traces[2])
    assert reasons(recorded) == {}
    assert reasons(RecordedEpisode(recorded.episode, traces)) == {"e1-1": "unknown_tools"}


def test_a_strangers_trace_in_an_episode_is_left_alone() -> None:
    recorded = played(TAUGHT)
    stranger = recorded.traces[0].model_copy(update={"id": "s", "tenant": "zeta"})
    both = RecordedEpisode(recorded.episode, (*recorded.traces, stranger))
    gate = TraceGate(TraceRules(tenants=frozenset({"acme", "zeta"})))
    assert reasons(both, gate) == {"s": "tenant"}


def test_a_failed_episode_teaches_nothing_unless_corrections_are_taken_unverified() -> None:
    recorded = played(MIXED, record(success=False))
    assert set(reasons(recorded).values()) == {"not_successful"}
    gate = TraceGate(TraceRules(tenants=frozenset({"acme"}), unverified_corrections=True))
    assert reasons(recorded, gate) == {
        "e1-0": "not_successful",
        "e1-1": "student_text",
        "e1-3": "student_text",
    }


def test_an_answer_without_an_action_does_not_pass() -> None:
    gate = TraceGate(RULES, key=lambda text: None if text == "take mug" else text)
    assert reasons(played(TAUGHT), gate) == {"e1-1": "empty_action"}


def test_an_observation_may_be_odd_too() -> None:
    rows: list[Row] = [("\ufffd\ufffd\ufffd box", "open box", "teacher")]
    assert reasons(played(rows)) == {"e1-0": "odd_unicode"}


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("open box", 0.0),
        ("line\n\ttab\r", 0.0),
        ("打开盒子 für שָׁלוֹם", 0.0),
        ("می\u200cروم", 0.0),
        ("ab\x00\ufffd", 0.5),
        ("\ue000\u202e", 1.0),
    ],
)
def test_only_characters_that_no_script_writes_are_odd(text: str, share: float) -> None:
    assert odd_unicode_share(text) == share


def test_rejects_are_sorted() -> None:
    verdicts = TraceGate(RULES).judge([played(MIXED, record("z")), played(MIXED)])
    assert list(verdicts.rejects) == sorted(verdicts.rejects)
    assert verdicts.rejects[0] == Reject("e1-1", RejectReason.STUDENT_TEXT)
