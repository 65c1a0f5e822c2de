from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.recorded_traffic import EASY, HARD, TAUGHT, request
from tests.small_household import household

from tutelage.assembly import Assembly, open_assembly
from tutelage.benchmarks.student_replay import StudentReplay, lines, to_json
from tutelage.recorded_student import reask_student
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, ConfigError, ModelError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import (
    ChatRequest,
    Decision,
    Message,
    Mode,
    Reason,
    Sample,
    Trace,
    Usage,
)

WRONG = "open drawer 1"
DRAWN = count()
Say = Callable[[ChatRequest], str]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def configured(folder: Path, **changes: Any) -> Config:
    given = {
        "retrieval__enabled": False,
        "cascade__guards": [],
        "teacher__price": {"input": 10.0, "output": 0.0},
        "student__price": {"input": 1.0, "output": 0.0},
        **changes,
    }
    return household(store__url=f"sqlite:///{folder}/t.sqlite", **given)


def knows_easy(asked: ChatRequest) -> str:
    """Right in easy steps, always wrong in hard ones, and sure of both."""
    return TAUGHT if EASY in asked.messages[-1].text else WRONG


def knows_all(asked: ChatRequest) -> str:
    return TAUGHT


def torn(asked: ChatRequest) -> str:
    """Differs from itself in hard steps, so that these go to the teacher."""
    if EASY in asked.messages[-1].text:
        return TAUGHT
    return f"open drawer {next(DRAWN) % 3}"


async def serve(
    assembly: Assembly, said: Say, seen: Sequence[Sequence[str]], mode: Mode = "cascade"
) -> None:
    """Serves episodes with these observations; those with an odd number are lost."""
    runtime = assembly.runtime(
        teacher=ScriptedModel(TAUGHT, usage=Usage(input_tokens=1000)),
        student=ScriptedModel(said, usage=Usage(input_tokens=1000)),
    )
    for number, observations in enumerate(seen):
        async with runtime.episode(
            goal="tidy the room.", tenant="default", task_id=None, id=f"e{number}"
        ) as episode:
            messages: list[Message] = []
            for observation in observations:
                asked = request(observation)
                messages += asked.messages
                sent = asked.model_copy(update={"messages": list(messages)})
                answer = await runtime.complete(sent, episode=episode, mode=mode)
                messages.append(Message(role="assistant", content=answer.text))
            await episode.feedback(success=number % 2 == 0)
    await runtime.aclose()


async def replayed(
    folder: Path,
    then: Say,
    now: Say,
    seen: Sequence[Sequence[str]],
    *,
    mode: Mode = "cascade",
    later: dict[str, Any] | None = None,
    p_teacher: float | None = None,
    **changes: Any,
) -> StudentReplay:
    """Traffic of one student, at whose prompts another one is asked."""
    async with open_assembly(configured(folder, **changes)) as assembly:
        await serve(assembly, then, seen, mode)
    async with open_assembly(configured(folder, **{**changes, **(later or {})})) as assembly:
        student = ScriptedModel(now, usage=Usage(input_tokens=500))
        return await reask_student(assembly, "default", student=student, p_teacher=p_teacher)


MIXED = [(EASY, HARD), (EASY, EASY), (EASY,), (HARD, EASY)]


async def test_a_student_that_says_the_same_is_replayed_exactly(tmp_path: Path) -> None:
    found = await replayed(tmp_path, knows_easy, knows_easy, MIXED)

    assert (found.episodes, found.steps, found.asked, found.same_steps) == (4, 7, 7, 7)
    assert (found.method, found.determined) == ("exact", 4)
    assert found.success_bounds == (0.5, 0.5)
    assert found.success is not None
    assert found.success.value == found.recorded_success == 0.5
    assert found.cached is not None
    # 7 calls of 500 tokens at 1 USD a million over 4 episodes.
    assert found.cached.value == pytest.approx(7 * 500e-6 / 4)
    assert set(found.rows) == {"e0", "e1", "e2", "e3"}


async def test_where_it_does_something_else_success_has_bounds(tmp_path: Path) -> None:
    found = await replayed(tmp_path, knows_easy, knows_all, MIXED)

    # e0 was won and e3 lost; nobody knows how they end now.
    assert (found.determined, found.first_differences) == (2, ("e0:1", "e3:0"))
    assert found.success_bounds == (0.25, 0.75)
    assert (found.method, found.success, found.cached) == (None, None, None)
    assert found.missing is not None
    assert "chance had no part" in found.missing
    assert set(found.rows) == {"e1", "e2"}


async def test_shadowed_traffic_says_how_often_each_student_is_right(tmp_path: Path) -> None:
    found = await replayed(tmp_path, knows_easy, knows_all, MIXED, mode="shadow")

    assert found.judged == 7
    assert found.right is not None
    assert found.was_right is not None
    assert found.better is not None
    assert found.right.value == 1.0
    assert found.was_right.value == pytest.approx(5 / 7)
    assert found.better.interval is not None
    assert found.better.interval.low <= 2 / 7 <= found.better.interval.high
    # What the teacher did is what this student does.
    assert (found.method, found.teacher_share, found.was_teacher_share) == ("exact", 0.0, 1.0)
    worse = await replayed(tmp_path / "worse", knows_all, knows_easy, MIXED, mode="shadow")
    assert worse.determined == 2


async def test_teacher_traffic_can_be_asked_without_demonstrations(tmp_path: Path) -> None:
    found = await replayed(
        tmp_path, knows_all, knows_easy, MIXED, cascade__policy="always-teacher",
        later={"cascade__policy": "always-student"},
    )  # fmt: skip

    assert (found.asked, found.same_steps, found.was_right) == (7, 5, None)
    assert found.success_bounds == (0.25, 0.75)


async def test_a_step_that_goes_to_the_teacher_needs_its_answer(tmp_path: Path) -> None:
    unaudited = await replayed(tmp_path, knows_all, torn, MIXED)
    audited = await replayed(tmp_path / "audited", knows_all, torn, MIXED, evidence__audits=1.0)

    assert (unaudited.determined, unaudited.same_steps) == (2, 5)
    assert unaudited.missing is not None
    assert "which was not asked" in unaudited.missing
    assert (audited.method, audited.determined) == ("exact", 4)
    assert audited.teacher_share == pytest.approx(2 / 7)
    assert audited.cached is not None
    # Seven calls of the student, and two of the teacher that audits have paid for.
    assert audited.cached.value == pytest.approx((7 * 500e-6 + 2 * 0.01) / 4)


async def test_tossed_steps_support_an_estimate(tmp_path: Path) -> None:
    seen = [(EASY, HARD) for _ in range(60)]
    options: dict[str, Any] = {"cascade__policy": "explore", "later": {"cascade__policy": "paper"}}

    found = await replayed(tmp_path, knows_easy, knows_all, seen, p_teacher=0.5, **options)

    assert found.method == "off-policy"
    assert found.cached is not None
    assert found.success is not None
    # Right in the easy step on the student's side of the coin, in the hard one on the teacher's.
    assert found.cached.value == pytest.approx(2 * 500e-6)
    assert 10 <= found.cached.effective == len(found.rows) < 30
    assert found.success.interval.low < 0.5 < found.success.interval.high
    refused = await replayed(tmp_path / "few", knows_easy, knows_all, seen[:8], **options)
    assert refused.method is None


async def test_what_neither_side_of_a_coin_did_is_not_supported(tmp_path: Path) -> None:
    options: dict[str, Any] = {"cascade__policy": "explore", "later": {"cascade__policy": "paper"}}

    found = await replayed(
        tmp_path, knows_all, lambda asked: "look", [(EASY,)] * 30, p_teacher=0.5, **options
    )

    assert (found.method, found.determined) == (None, 0)
    assert found.missing is not None
    assert "neither the recorded one nor the teacher did" in found.missing


async def test_held_out_episodes_are_left_out(tmp_path: Path) -> None:
    some = await replayed(tmp_path, knows_all, knows_all, [(EASY,)] * 40, evidence__holdout=0.4)

    assert 10 < some.episodes < 40
    with pytest.raises(BenchmarkError, match="all recorded episodes were held out"):
        await replayed(tmp_path / "all", knows_all, knows_all, MIXED, evidence__holdout=0.99999)


async def test_a_forced_step_stays_as_it_was(tmp_path: Path) -> None:
    async with open_assembly(configured(tmp_path)) as assembly:
        forced = Trace(
            id="t", tenant="default", episode_id="f", step_index=0, created_at_s=1.0, model="agent",
            goal="g", observation="o", answer="look",
            decision=Decision(served="teacher", reason=Reason.FORCED),
            usage={"teacher": Usage(input_tokens=100), "student": Usage(input_tokens=10)},
        )  # fmt: skip
        await assembly.traces.append(forced)
        await serve(assembly, knows_all, [(EASY,)])

        found = await reask_student(assembly, "default", student=ScriptedModel(TAUGHT))

    assert (found.asked, found.method) == (1, "exact")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt": ()}, "no prompt of a student was recorded"),
        ({"answer": '{"tool_calls":[{"name":"f","arguments":"{}"}]}'}, "it calls tools whose decl"),
    ],
)
async def test_a_step_that_cannot_be_asked_again_is_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    made = Trace(
        id="t", tenant="default", episode_id="f", step_index=3, created_at_s=1.0, model="agent",
        goal="g", observation="o", answer="look", samples=(Sample(text="look", action="look"),),
        prompt=({"role": "user", "content": "o"},),
        decision=Decision(served="student", reason=Reason.AGREED),
    )  # fmt: skip
    async with open_assembly(configured(tmp_path)) as assembly:
        await assembly.traces.append(made.model_copy(update=changes))

        with pytest.raises(BenchmarkError, match=f"episode f, step 3: {told}"):
            await reask_student(assembly, "default", student=ScriptedModel(TAUGHT))


async def test_steps_that_call_tools_are_asked_with_the_tools_that_were_offered(
    tmp_path: Path,
) -> None:
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "search", "parameters": parameters}}]

    def called(q: str) -> Message:
        function = {"name": "search", "arguments": json.dumps({"q": q})}
        calls = [{"id": "c", "type": "function", "function": function}]
        return Message(role="assistant", content=None, tool_calls=calls)

    async with open_assembly(configured(tmp_path, cascade__canonical="tools")) as assembly:
        runtime = assembly.runtime(
            teacher=ScriptedModel([[called("a")]] * 2), student=ScriptedModel([[called("a")]] * 2)
        )
        for number in range(2):
            async with runtime.episode(goal="g", tenant="default", id=f"e{number}") as episode:
                await runtime.complete(
                    request(EASY).model_copy(update={"tools": tools}), episode=episode
                )
        await runtime.aclose()
        same, other = ScriptedModel([[called("a")]] * 2), ScriptedModel([[called("b")]] * 2)

        found = await reask_student(assembly, "default", student=same)
        parted = await reask_student(assembly, "default", student=other)

    assert (found.method, found.same_steps) == ("exact", 2)
    assert (parted.determined, parted.same_steps) == (0, 0)
    assert [call.request.tools for call in same.calls] == [tools] * 2


async def test_a_student_that_fails_ends_the_replay(tmp_path: Path) -> None:
    async with open_assembly(configured(tmp_path)) as assembly:
        await serve(assembly, knows_all, MIXED)
        broken = ScriptedModel(TAUGHT, failures={0: ModelError("gone")})

        with pytest.raises(ModelError, match="gone"):
            await reask_student(assembly, "default", student=broken)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cascade__policy": "calibrated"}, "fitted to another student"),
        ({"routing__coverage": 0.5}, "which no trace keeps"),
    ],
)
async def test_policies_that_need_more_than_samples_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        await replayed(tmp_path, knows_all, knows_all, MIXED, later=changes)


async def test_guards_hand_steps_over_before_anybody_is_asked(tmp_path: Path) -> None:
    seen = [(EASY, *["Nothing happens."] * 4)]
    later = {"cascade__guards": ["rejection"]}

    found = await replayed(tmp_path, knows_all, knows_all, seen * 2, later=later)

    assert 0 < found.teacher_share < 1
    assert found.asked == round((1 - found.teacher_share) * found.steps)
    assert found.success_bounds == (0.0, 1.0)


async def test_a_chance_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="p_teacher = 0"):
        await replayed(tmp_path, knows_all, knows_all, MIXED, p_teacher=0)


async def test_lines_and_json_tell_the_same(tmp_path: Path) -> None:
    exact = await replayed(tmp_path, knows_easy, knows_easy, MIXED)
    refused = await replayed(tmp_path / "b", knows_easy, knows_all, MIXED, mode="shadow")
    parted = await replayed(tmp_path / "c", knows_easy, knows_all, MIXED)

    text = "\n".join(lines(exact))
    plain = json.loads(json.dumps(to_json(exact), allow_nan=False))

    assert "asked in 7 of 7 recorded steps of 4 episodes" in text
    assert "4 of 4 episodes are determined" in text
    assert "success: 0.500 (" in text
    assert "the teacher's action is known of no step" in text
    assert plain["success"]["value"] == 0.5
    assert plain["rows"] == ["e0", "e1", "e2", "e3"]
    assert "of 7 steps whose right action the teacher said it names 1.000" in "\n".join(
        lines(refused)
    )
    assert (
        "no estimate of cost and success: nothing recorded says what follows" in lines(parted)[-1]
    )
