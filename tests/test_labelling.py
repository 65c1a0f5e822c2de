from __future__ import annotations

import dataclasses
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.small_household import with_bank

from tutelage.assembly import Assembly
from tutelage.cascade.canonical.registry import canonicalizer_named
from tutelage.cascade.scores import IsotonicScore
from tutelage.cascade.step_scores import StepCosts, StepScores
from tutelage.labelling import (
    Fitted,
    LabelledStep,
    begun_since,
    check_extra,
    first_is_modal,
    fit_labelled,
    labelled_steps,
    prompt_features,
    recorded_steps,
)
from tutelage.runtime.errors import BenchmarkError, MissingExtra
from tutelage.runtime.types import (
    ChatRequest,
    Decision,
    EpisodeRecord,
    Reason,
    Sample,
    StepAudit,
    Trace,
)

STUDENT = Decision(served="student", reason=Reason.AGREED)
TEACHER = Decision(served="teacher", reason=Reason.DISAGREED)
FORM = canonicalizer_named("text")


def key(text: str) -> str | None:
    action = FORM.past(text)
    return None if action is None else action.key


def traced(episode: str, index: int, *said: str, **changes: Any) -> Trace:
    """A step whose samples said this, served by the student unless told otherwise."""
    made: dict[str, Any] = {
        "id": f"{episode}-{index}",
        "tenant": "default",
        "episode_id": episode,
        "step_index": index,
        "created_at_s": 100.0 + index,
        "model": "agent",
        "goal": "tidy",
        "observation": f"Room {index}.",
        "answer": said[0] if said else "look",
        "decision": STUDENT,
        "samples": tuple(Sample(text=text, action=key(text)) for text in said),
        "features": {"agreement": 1.0, "step_index": float(index)} if said else {},
        "cost_usd": {"student": 0.001},
        **changes,
    }
    return Trace(**made)


def audited(trace: Trace, *, agrees: bool | None, cost_usd: float = 0.02) -> dict[str, StepAudit]:
    audit = StepAudit(
        trace_id=trace.id,
        tenant="default",
        episode_id=trace.episode_id,
        step_index=trace.step_index,
        created_at_s=trace.created_at_s,
        propensity=1.0,
        agrees=agrees,
        cost_usd=cost_usd,
    )
    return {trace.id: audit}


def labelled(
    *traces: Trace, audits: Mapping[str, StepAudit] | None = None
) -> tuple[list[LabelledStep], list[str]]:
    return labelled_steps(traces, audits or {}, key)


# Labels.


@pytest.mark.parametrize(
    ("answer", "said", "right"),
    [
        ("open drawer 1", ("Open the drawer 1.", "open drawer 1", "look"), True),
        ("look", ("open drawer 1", "open drawer 1", "look"), False),
        ("", ("look",), False),
    ],
)
def test_what_the_teacher_did_in_its_place_is_the_label(
    answer: str, said: tuple[str, ...], right: bool
) -> None:
    trace = traced("e", 0, *said, decision=TEACHER, answer=answer, cost_usd={"teacher": 0.03})

    (step,), lacking = labelled(trace)

    assert (step.right, step.teacher_usd, step.student_usd, lacking) == (right, 0.03, 0.0, [])


def test_samples_without_an_action_are_wrong_whatever_the_teacher_did() -> None:
    unusable = (Sample(text="hm", action=None),)
    for answer in ("look", ""):
        trace = traced("e", 0, "hm", decision=TEACHER, answer=answer, samples=unusable)
        (step,), _ = labelled(trace)
        assert not step.right


def test_tool_calls_are_the_same_where_only_the_tools_of_the_step_tell_that() -> None:
    # In the step a left-out argument equals its default; the trace holds the answer's key, too.
    call = '{"tool_calls":[{"name":"walk","arguments":{"to":"a"}}]}'
    sample = Sample(text=call, action='walk({"speed":1,"to":"a"})')
    trace = traced("e", 0, call, decision=TEACHER, answer=call, samples=(sample,))

    (step,), _ = labelled(trace.model_copy(update={"action": sample.action}))

    assert step.right


@pytest.mark.parametrize("agrees", [True, False])
def test_what_an_audit_says_is_the_label_of_a_step_of_the_student(agrees: bool) -> None:
    trace = traced("e", 0, "look")

    (step,), lacking = labelled(trace, audits=audited(trace, agrees=agrees))

    assert (step.right, step.teacher_usd, step.student_usd, lacking) == (agrees, 0.02, 0.001, [])


def test_the_action_before_a_step_is_as_the_transcript_has_it() -> None:
    def prompt(*said: str) -> tuple[dict[str, Any], ...]:
        return tuple({"role": "assistant", "content": text} for text in said)

    second = traced("e", 1, "open drawer 1", decision=TEACHER, prompt=prompt("a", "Go there."))
    first = traced("e", 0, "Go to the desk 1.", decision=TEACHER, prompt=prompt("shown"))
    held_out = traced("e", 2, decision=TEACHER, answer="Close it.")
    last = traced("e", 3, "look", decision=TEACHER, prompt=prompt("Close it."))

    steps, _ = labelled(second, last, first, held_out)

    assert [step.previous for step in steps] == [None, "Go there.", "Close it."]
    assert {step.episode_id for step in steps} == {"e"}


# Episodes that lack one.


def test_an_episode_with_one_unlabelled_step_is_left_out_whole() -> None:
    kept, first, second = traced("a", 0, "look"), traced("b", 0, "look"), traced("b", 1, "look")

    steps, lacking = labelled(
        kept,
        first,
        second,
        audits=audited(kept, agrees=True) | audited(first, agrees=False),
    )

    assert ([step.trace.id for step in steps], lacking) == (["a-0"], ["b"])


@pytest.mark.parametrize(
    "changes",
    [
        {"finished": False, "decision": TEACHER},
        {"decision": Decision(served="teacher", reason=Reason.UNLIKELY), "samples": ()},
        {
            "decision": Decision(served="teacher", reason=Reason.SHADOW),
            "shadow": Decision(served="teacher", reason=Reason.UNLIKELY),
            "samples": (),
        },
    ],
    ids=["broke off", "kept from being sampled", "the same in shadow"],
)
def test_what_cannot_be_a_label_leaves_its_episode_out(changes: dict[str, Any]) -> None:
    steps, lacking = labelled(
        traced("e", 0, "look", decision=TEACHER), traced("e", 1, "look", **changes)
    )

    assert (steps, lacking) == ([], ["e"])


def test_an_episode_from_which_nothing_may_be_learnt_is_passed_over() -> None:
    silent = traced("e", 1, "look", no_train=True, decision=TEACHER)

    assert labelled(traced("e", 0, "look", decision=TEACHER), silent) == ([], [])


def test_an_audit_whose_question_failed_is_no_label() -> None:
    trace = traced("e", 0, "look")

    assert labelled(trace, audits=audited(trace, agrees=None)) == ([], ["e"])


def test_steps_that_nobody_sampled_need_no_label() -> None:
    guarded = traced("e", 1, decision=Decision(served="teacher", reason=Reason.REJECTED))

    steps, lacking = labelled(traced("e", 0, "look", decision=TEACHER), guarded)

    assert ([step.trace.id for step in steps], lacking) == (["e-0"], [])


def test_an_episode_that_began_too_early_is_left_out_whole() -> None:
    old, older = traced("a", 0, "look"), traced("b", 0, "look", created_at_s=99.0)
    later = traced("b", 1, "look")

    assert begun_since([old, later, older], 100.0) == [old]
    assert begun_since([old, later, older], 0.0) == [old, later, older]


# Routing.


@pytest.mark.parametrize(
    ("reason", "said", "routed"),
    [
        (Reason.RECALLED, ("look",), True),
        (Reason.AGREED, ("look",), True),
        (Reason.AGREED, ("look", "look"), False),
        (Reason.CERTIFIED, ("look",), False),
    ],
)
def test_what_routing_alone_serves_is_told_apart(
    reason: Reason, said: tuple[str, ...], routed: bool
) -> None:
    trace = traced("e", 0, *said, decision=Decision(served="student", reason=reason))

    (step,), _ = labelled(trace, audits=audited(trace, agrees=True))

    assert step.is_routed is routed


# Fitting.


@pytest.fixture
async def assembly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Assembly]:
    isolate(monkeypatch, tmp_path)
    async with with_bank(tmp_path, "train:2") as opened:
        yield opened


def learnable(count: int = 60, *, shown: bool = True) -> list[LabelledStep]:
    """Steps in which the student is right where its samples agree."""
    steps = []
    for place in range(count):
        right = place % 2 == 0
        trace = traced(
            f"e{place // 3}",
            place % 3,
            "look",
            decision=TEACHER,
            answer="look" if right else "open drawer 1",
            features={"agreement": 0.9 if right else 0.3, **({"similarity": 0.5} if shown else {})},
            cost_usd={"teacher": 0.02, "student": 0.002},
        )
        steps += labelled(trace)[0]
    return steps


async def test_scores_are_fitted_with_what_calls_cost(assembly: Assembly) -> None:
    pytest.importorskip("sklearn")

    fitted = await fit_labelled(assembly, learnable(), "logistic")

    assert fitted.right_share == 0.5
    assert dataclasses.astuple(fitted.costs) == pytest.approx((0.02, 0.002, 0.02))
    late = fitted.late()
    assert min(one for one, right in zip(late, fitted.right, strict=True) if right) > 0.7
    assert max(one for one, right in zip(late, fitted.right, strict=True) if not right) < 0.3
    assert len(fitted.prior()) == 60
    assert fitted.floor(0.5) >= 0.0
    assert all("prompt" in row for row in fitted.rows)


async def test_nothing_to_fit_on_is_said(assembly: Assembly) -> None:
    with pytest.raises(BenchmarkError, match="no step of the student is labelled"):
        await fit_labelled(assembly, [], "logistic")


async def test_a_step_that_was_shown_nothing_has_no_vector(assembly: Assembly) -> None:
    pytest.importorskip("sklearn")

    fitted = await fit_labelled(assembly, learnable(), "logistic")
    (row, *_) = await prompt_features(assembly, learnable(shown=False), fitted.scores)

    assert fitted.scores.prompt is not None
    assert "prompt" not in row


async def test_without_demonstrations_there_are_no_vectors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    isolate(monkeypatch, tmp_path)
    async with with_bank(tmp_path, "train:1", retrieval__enabled=False) as plain:
        fitted = await fit_labelled(plain, learnable(), "isotonic")
        rows = await prompt_features(plain, learnable(), fitted.scores)

    assert fitted.scores.prompt is None
    assert all("prompt" not in row for row in [*rows, *fitted.rows])


async def test_the_feature_of_the_prompt_is_what_a_runtime_finds(assembly: Assembly) -> None:
    pytest.importorskip("sklearn")
    from tutelage.benchmarks.copying_student import CopyingStudent
    from tutelage.policies import Choice
    from tutelage.runtime.models.scripted import ScriptedModel

    fitted = await fit_labelled(assembly, learnable(), "logistic")
    scores = {"scores": fitted.scores.to_json(), "threshold": 0.0}
    runtime = assembly.runtime(
        teacher=ScriptedModel("look"),
        student=CopyingStudent(),
        choice=Choice(policy="calibrated", guards=(), options=scores, bare=True),
    )
    messages = [{"role": "user", "content": "Task: tidy\nA room with a desk 1."}]
    async with runtime.episode(goal="tidy", tenant="default", task_id=None, id="e") as episode:
        for observation in ("You are at desk 1.", "It is open."):
            request = ChatRequest.model_validate({"model": "agent", "messages": messages})
            answer = await episode.complete(request)
            text = key(answer.text) or ""
            messages += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": observation},
            ]
    traces = await assembly.traces.traces("default", episode_id="e")
    audits = {id: one for trace in traces for id, one in audited(trace, agrees=True).items()}
    steps, _ = labelled(*traces, audits=audits)

    found = await prompt_features(assembly, steps, fitted.scores)

    assert len(found) == 2
    for row, step in zip(found, steps, strict=True):
        assert row["prompt"] == pytest.approx(step.features["prompt"], abs=1e-5)


async def test_recorded_traffic_is_read_from_the_store(assembly: Assembly) -> None:
    for trace in (
        traced("a", 0, "look", decision=TEACHER),
        traced("a", 1, "look", decision=TEACHER),
        traced("b", 0, "look"),
        traced("c", 0, "look", decision=TEACHER, created_at_s=5.0),
        traced("c", 1, "look", decision=TEACHER),
    ):
        await assembly.traces.append(trace)

    steps, lacking = await recorded_steps(assembly, "default", 50.0)

    assert (len(steps), lacking) == (2, ["b"])
    assert (await recorded_steps(assembly, "other", 0.0)) == ([], [])


def test_a_missing_extra_shows_before_anything_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    with pytest.raises(MissingExtra, match=r"pip install 'tutelage\[calibrate\]'"):
        check_extra()


# One sample or all.


def fitted_on(rows: list[dict[str, float]], firsts: list[bool | None]) -> Fitted:
    late = IsotonicScore("agreement", (0.0, 1.0), (0.0, 1.0), 0.5)
    prior = IsotonicScore("similarity", (0.0, 1.0), (0.0, 1.0), 0.5)
    episodes = [f"e{place % 100}" for place in range(len(rows))]
    costs = StepCosts(0.01, 0.001, 0.01)
    return Fitted(StepScores(None, prior, late), rows, [True] * len(rows), costs, episodes, firsts)


def test_a_first_sample_decides_alike_where_it_names_what_most_name() -> None:
    rows = [{"agreement": share} for share in (1.0, 0.6, 0.6, 1.0, 0.2)]

    fitted = fitted_on(rows, [True, True, False, False, None])

    assert fitted.same(0.9) == [True, False, False, False, True]
    assert fitted.same(0.5) == [True, True, False, False, True]


def test_one_sample_is_enough_from_the_prior_on_that_the_steps_show() -> None:
    similar = [0.9] * 400 + [0.1] * 400
    rows = [{"agreement": 1.0 if prior > 0.5 else 0.6, "similarity": prior} for prior in similar]

    assert fitted_on(rows, [True] * 800).sure(0.9, 0.05, 0.05) == pytest.approx(0.9)
    assert fitted_on(rows, [False] * 800).sure(0.9, 0.05, 0.05) is None


def test_whether_the_first_sample_names_what_most_name() -> None:
    said = [("a", "a", "b"), ("b", "a", "a"), ("", "a", "a"), ("a", "b")]

    assert [first_is_modal(traced("e", 0, *one)) for one in said] == [True, False, None, True]


# Traffic and replays.


async def test_what_a_replay_played_into_the_store_is_no_traffic(assembly: Assembly) -> None:
    replayed = f"calibrated-0.45-{'0' * 32}"
    for id, task in ((replayed, "test-1"), (f"agent-{'1' * 32}", None), ("mine", "test-1")):
        await assembly.traces.record_episode(
            EpisodeRecord(id=id, tenant="default", task_id=task, created_at_s=1.0)
        )
        await assembly.traces.append(traced(id, 0, "look", decision=TEACHER, answer="look"))

    steps, lacking = await recorded_steps(assembly, "default", 0.0)

    assert {step.episode_id for step in steps} == {f"agent-{'1' * 32}", "mine"}
    assert lacking == []
