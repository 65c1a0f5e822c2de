from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tutelage.benchmarks.accuracy import (
    AccuracyArm,
    ExpertStep,
    ScoreFile,
    StepScore,
    drawn,
    expert_steps,
    score_step,
    summarise,
)
from tutelage.runtime.errors import BenchmarkError
from tutelage.runtime.types import (
    Answer,
    ChatRequest,
    Choice,
    Completion,
    Decision,
    Message,
    Reason,
    Sample,
    Served,
    Trace,
    Usage,
)


def trace(
    episode: str = "e1", index: int = 0, served: Served = "teacher", answer: str = "look"
) -> Trace:
    return Trace(
        id=f"{episode}-{index}",
        tenant="default",
        episode_id=episode,
        step_index=index,
        created_at_s=float(index),
        model="agent",
        goal="tidy",
        observation="A room.",
        answer=answer,
        decision=Decision(served=served, reason=Reason.ALWAYS),
        prompt=({"role": "user", "content": f"step {index}"},),
    )


def step(index: int = 0, action: str = "look") -> ExpertStep:
    (made,) = expert_steps([trace(index=index, answer=action)], {"e1": "task-1"})
    return made


def answer(text: str, samples: Sequence[str | None] = (), error: str | None = None) -> Answer:
    made = trace(answer=text).model_copy(
        update={
            "samples": tuple(Sample(text=str(one), action=one) for one in samples),
            "usage": {"student": Usage(input_tokens=40, cache_read_tokens=2)},
            "latency_s": {"student": 0.25},
            "error": error,
        }
    )
    message = Message(role="assistant", content=text)
    completion = Completion(id="c", model="m", choices=[Choice(index=0, message=message)])
    return Answer(completion, made.decision, made.id, made)


def arm(greedy: Answer, sampled: Answer | None = None) -> AccuracyArm:
    async def first(step: ExpertStep) -> Answer:
        return greedy

    async def second(step: ExpertStep) -> Answer:
        assert sampled is not None
        return sampled

    return AccuracyArm("student", first, second if sampled is not None else None)


def canonical(text: str) -> str | None:
    return text.strip().lower() or None


def score(
    expected: str = "look",
    named: str | None = "look",
    *,
    arm: str = "student",
    index: int = 0,
    agreed: bool | None = None,
    voted: str | None = None,
) -> StepScore:
    return StepScore(
        arm=arm,
        episode_id="e1",
        index=index,
        expected=expected,
        named=named,
        agreed=agreed,
        voted=voted,
        prompt_tokens=100,
        latency_s=0.5,
    )


def test_the_teachers_steps_are_read_in_the_order_of_the_episode() -> None:
    traces = [trace(index=2, served="student"), trace(index=1), trace("e0", 0), trace(index=0)]

    steps = expert_steps(traces, {"e0": "task-0", "e1": "task-1"})

    assert [(one.episode_id, one.index, one.task_id) for one in steps] == [
        ("e0", 0, "task-0"),
        ("e1", 0, "task-1"),
        ("e1", 1, "task-1"),
    ]
    assert steps[1].request.wire() == {
        "model": "agent",
        "messages": [{"role": "user", "content": "step 0"}],
        "stop": ["\n"],
        "max_tokens": 24,
    }
    assert isinstance(steps[0].request, ChatRequest)


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    steps = [step(index) for index in range(50)]

    few, more = drawn(steps, 10, seed=3), drawn(steps, 20, seed=3)

    assert [one.index for one in few] == sorted(one.index for one in few)
    assert {one.index for one in few} < {one.index for one in more}
    assert drawn(steps, 10, seed=4) != few
    assert drawn(steps, 99, seed=0) == steps


@pytest.mark.parametrize(
    ("samples", "agreed", "voted"),
    [
        (["look", "look", "look"], True, "look"),
        (["look", "open", "look"], False, None),
        ([None, None, None], False, None),
        (["look", None, "look"], False, None),
        ([], False, None),
    ],
)
async def test_samples_agree_if_all_name_one_action(
    samples: list[str | None], agreed: bool, voted: str | None
) -> None:
    scored = await score_step(arm(answer(" LOOK "), answer("x", samples)), step(), canonical)

    assert scored.exact
    assert (scored.agreed, scored.voted) == (agreed, voted)
    assert (scored.prompt_tokens, scored.latency_s) == (42, 0.25)


async def test_an_arm_that_cannot_be_sampled_has_no_agreement() -> None:
    scored = await score_step(arm(answer("")), step(), canonical)

    assert (scored.named, scored.agreed, scored.exact) == (None, None, False)


async def test_an_action_outside_the_grammar_is_expected_as_it_is() -> None:
    scored = await score_step(arm(answer("look")), step(action=" "), canonical)

    assert (scored.expected, scored.exact) == (" ", False)


async def test_a_broken_part_is_no_score_but_a_prompt_too_long_is() -> None:
    broken = answer("", error="BadResponse: http://h answered 500")
    long = answer("", error="ContextTooLong: the step needs 2000 tokens")

    for failing in (arm(broken), arm(answer("look"), broken)):
        with pytest.raises(BenchmarkError, match=r"^arm student, task task-1, step 0: BadResponse"):
            await score_step(failing, step(), canonical)

    assert not (await score_step(arm(long, long), step(), canonical)).exact


def test_scores_survive_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    written = ScoreFile(path)
    for index in range(3):
        written.append(score(index=index))
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[: random.Random(0).randrange(1, 40)])

    read = ScoreFile(path)

    assert read.scores == written.scores
    assert path.read_bytes() == whole
    assert read.has("student", step(2))
    assert not read.has("student", step(3))
    assert not read.has("demos", step(2))


def test_a_line_that_is_no_score_is_named(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text(f"{score().model_dump_json()}\n{{}}\n")

    with pytest.raises(BenchmarkError, match=r"steps.jsonl line 2 is not a step score: remove it"):
        ScoreFile(path)


def test_a_file_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert ScoreFile(tmp_path / "none.jsonl").scores == []


def test_scores_add_up_by_arm_and_kind() -> None:
    scores = [
        score("go to desk 1", "go to desk 1", agreed=True, voted="go to desk 1"),
        score("go to bed 1", "look", agreed=False),
        score("take mug 1 from desk 1", "take mug 1 from desk 1", agreed=False),
        score("look", None, agreed=True, voted="open desk 1"),
        score("look", "look", arm="recall"),
    ]

    student, recall = summarise(scores)

    assert (student.arm, student.steps, student.exact) == ("student", 4, 0.5)
    assert student.exact_low < 0.5 < student.exact_high
    assert student.exact_by_kind == {"go": (1, 2), "handle": (1, 1), "other": (0, 1)}
    assert student.agreed_share == 0.5
    assert student.exact_if_agreed == (1, 2)
    assert student.exact_if_split == (1, 2)
    assert (student.prompt_tokens, student.latency_s) == (100, 0.5)
    assert (recall.agreed_share, recall.exact_if_agreed, recall.exact_if_split) == (
        None,
        None,
        None,
    )


def test_no_scores_make_no_rows() -> None:
    assert summarise([]) == []
