from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.retrieval.traffic import SOLVED, Row, Traffic

from tutelage.retrieval.curation import Curated
from tutelage.retrieval.exposures import Exposure, SqlExposureLog
from tutelage.retrieval.rules import DAY_S, CurationRules
from tutelage.runtime.errors import RetrievalError
from tutelage.runtime.types import EpisodeRecord

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory

MIXED: list[Row] = [
    ("You are in a kitchen.", "go to fridge 9", "student"),
    ("Nothing happens.", "go to fridge 1", "teacher"),
    ("The fridge 1 is closed.", "open fridge 1", "student"),
    ("In it you see a mug 1.", "take mug 1", "teacher"),
]


async def states(traffic: Traffic, episode_id: str) -> list[tuple[int, str, str]]:
    found = traffic.curator().candidates.of_episode("acme", episode_id)
    return [(one.step_index, one.state, one.reason) for one in found]


async def test_an_answer_waits_for_the_outcome_of_its_episode(traffic: Traffic) -> None:
    await traffic.play("e", success=None)

    first = await traffic.curator().curate("acme")

    assert (first.candidates, first.promoted) == (2, 0)
    assert await traffic.shown() == []
    assert {state for _, state, _ in await states(traffic, "e")} == {"quarantined"}

    await traffic.judge("e", True)
    late = await traffic.curator().curate("acme")

    assert (late.candidates, late.promoted) == (0, 2)
    assert await traffic.shown() == ["e"]
    assert {state for _, state, _ in await states(traffic, "e")} == {"promoted"}


async def test_curating_again_changes_nothing(traffic: Traffic) -> None:
    await traffic.play("e", MIXED)
    await traffic.play("f", success=False)
    await traffic.curator().curate("acme")
    version = await traffic.bank.version("acme")
    versions = await traffic.bank.versions("acme")

    again = await traffic.curator().curate("acme")

    assert again == Curated(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert await traffic.bank.version("acme") == version
    assert await traffic.bank.versions("acme") == versions


async def test_a_failed_episode_gives_nothing(traffic: Traffic) -> None:
    await traffic.play("e", success=False)

    promotion = await traffic.curator().promote("acme", "e")

    assert (promotion.promoted, promotion.rejected) == (0, 2)
    assert promotion.reason == "its episode did not succeed"
    assert await traffic.shown() == []


async def test_the_output_of_a_student_is_never_promoted(traffic: Traffic) -> None:
    await traffic.play("own", [(o, a, "student") for o, a, _ in SOLVED])
    await traffic.play("mixed", MIXED)

    await traffic.curator().curate("acme")

    assert await states(traffic, "own") == []
    assert await traffic.shown() == ["mixed"]
    shown = await traffic.bank.demonstrations("acme")
    assert [one.action for one in shown] == ["go to fridge 1", "take mug 1"]
    assert all(one.window[one.target].served == "teacher" for one in shown)


async def test_a_teachers_step_after_a_students_error_is_kept_with_the_error(
    traffic: Traffic,
) -> None:
    await traffic.play("e", MIXED)

    await traffic.curator().promote("acme", "e")

    recovery, _ = await traffic.bank.demonstrations("acme")
    assert [(turn.action, turn.served) for turn in recovery.window] == [
        ("go to fridge 9", "student"),
        ("go to fridge 1", "teacher"),
    ]


async def test_a_step_that_did_not_help_has_no_credit(traffic: Traffic) -> None:
    rows: list[Row] = [
        ("You are in a kitchen.", "look", "teacher"),
        ("You are in a kitchen.", "fly", "teacher"),
        ("Nothing happens.", "go to fridge 1", "teacher"),
        ("The fridge 1 is open.", "take mug 1", "teacher"),
    ]
    await traffic.play("e", rows)

    await traffic.curator().promote("acme", "e")

    assert await states(traffic, "e") == [
        (0, "rejected", "it changed nothing"),
        (1, "rejected", "the environment refused it"),
        (2, "promoted", ""),
        (3, "promoted", ""),
    ]
    actions = [one.action for one in await traffic.bank.demonstrations("acme")]
    assert actions == ["go to fridge 1", "take mug 1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"no_train": True}, "it has no answer of a teacher to learn from"),
        ({"goal": " "}, "it has no goal"),
    ],
)
async def test_what_is_not_fit_is_refused_with_the_reason(
    traffic: Traffic, change: dict[str, Any], reason: str
) -> None:
    await traffic.play("e", **change)

    promotion = await traffic.curator().promote("acme", "e")

    assert (promotion.promoted, promotion.reason) == (0, reason)
    assert await traffic.shown() == []


async def test_one_step_that_forbids_learning_forbids_it_for_its_episode(traffic: Traffic) -> None:
    first, *_ = await traffic.play("e", SOLVED[:1], success=None)
    more = {"id": "e-1", "step_index": 1, "no_train": True}
    await traffic.store.append(first.model_copy(update=more))
    await traffic.judge("e", True)

    promotion = await traffic.curator().promote("acme", "e")

    assert promotion.reason == "the client forbade to learn from a step of its episode"


async def test_a_missing_step_is_waited_for_but_not_for_ever(traffic: Traffic) -> None:
    first, second = await traffic.play("whole", success=None)
    await traffic.store.append(second.model_copy(update={"id": "x", "episode_id": "torn"}))
    await traffic.judge("torn", True)

    soon = await traffic.curator().promote("acme", "torn")
    late = await traffic.curator(clock=lambda: 10_000.0).promote("acme", "torn")
    await traffic.store.append(first.model_copy(update={"id": "y", "episode_id": "torn"}))
    mended = await traffic.curator().promote("acme", "torn")

    assert (soon.quarantined, soon.reason) == (1, "a step of its episode is not stored yet")
    assert (late.rejected, late.quarantined) == (1, 0)
    assert mended.promoted == 2


async def test_an_answer_that_was_given_anew_does_not_count(traffic: Traffic) -> None:
    first, _ = await traffic.play("e")
    again = {"id": "anew", "created_at_s": first.created_at_s + 1, "answer": "go to fridge 2"}
    await traffic.store.append(first.model_copy(update=again))

    promotion = await traffic.curator().promote("acme", "e")

    assert (promotion.promoted, promotion.rejected) == (2, 1)
    assert (0, "rejected", "another answer took its place") in await states(traffic, "e")


async def test_episodes_that_measure_are_left_out(traffic: Traffic) -> None:
    async def measures(episode: EpisodeRecord) -> bool:
        return episode.id == "e"

    await traffic.play("e")
    keeper = traffic.curator()
    keeper._leave_out = measures

    promotion = await keeper.promote("acme", "e")

    assert (promotion.promoted, promotion.rejected) == (0, 2)


async def test_an_outcome_that_is_taken_back_takes_the_demonstration_with_it(
    traffic: Traffic,
) -> None:
    await traffic.play("e")
    await traffic.curator().curate("acme")
    await traffic.judge("e", False)

    done = await traffic.curator().curate("acme")

    assert done.overturned == 1
    assert await traffic.shown() == []
    assert {state for _, state, _ in await states(traffic, "e")} == {"rejected"}


async def test_what_a_revoked_key_wrote_goes_and_nothing_of_it_comes_back(
    traffic: Traffic,
) -> None:
    await traffic.play("theirs", key="k1", goal="boil an egg")
    await traffic.play("ours", key="k2")
    keeper = traffic.curator()
    await keeper.curate("acme")
    await traffic.play("later", key="k1", goal="find the key", success=None)
    await keeper.look("acme")

    retired, rejected = await keeper.revoke("acme", "k1")

    assert (retired, rejected) == (1, 4)
    assert await traffic.shown() == ["ours"]
    await traffic.judge("later", True)
    promotion = await keeper.promote("acme", "later")
    assert (promotion.promoted, promotion.reason) == (0, "its writer k1 was revoked")
    await traffic.bank.rollback("acme", 0)
    await traffic.bank.rollback("acme", 2)
    assert await traffic.shown() == ["ours"]
    assert await keeper.revoke("acme", "k1") == (0, 0)
    assert await keeper.revoke("zeta", "k2") == (0, 0)


async def test_a_bank_version_is_restored(traffic: Traffic) -> None:
    keeper = traffic.curator()
    await traffic.play("a")
    await keeper.curate("acme")
    await traffic.play("b", goal="boil an egg")
    await keeper.curate("acme")
    await traffic.bank.retire("acme", "a")

    assert await traffic.bank.rollback("acme", 1) == 2

    assert await traffic.shown() == ["a"]
    rows = [(v.number, v.cause, v.trajectories) for v in await traffic.bank.versions("acme")]
    assert rows == [
        (4, "rolled back to version 1", 1),
        (3, "retired a", 1),
        (2, "harvested", 2),
        (1, "harvested", 1),
    ]
    assert await traffic.bank.rollback("acme", 3) == 2
    assert await traffic.shown() == ["b"]
    assert await traffic.bank.rollback("acme", 5) == 0
    with pytest.raises(RetrievalError, match="no version 9: `tutelage demos versions`"):
        await traffic.bank.rollback("acme", 9)


async def test_what_is_not_shown_for_long_is_retired(traffic: Traffic) -> None:
    await traffic.play("used")
    await traffic.play("unused", goal="boil an egg")
    rules = CurationRules(idle_s=30 * DAY_S)
    await traffic.curator(rules).curate("acme")
    traffic.now_s += 20 * DAY_S
    await traffic.play("next", goal="fill the kettle", success=None, shown=("used:0",))
    traffic.now_s += 15 * DAY_S

    done = await traffic.curator(rules).curate("acme")

    assert done.idle == 1
    assert await traffic.shown() == ["used"]
    (gone,) = traffic.curator().origins.held("acme", "retired")
    assert (gone.trajectory_id, gone.reason) == ("unused", "it was not shown for 30 days")
    assert (await traffic.curator(replace(rules, idle_s=None)).curate("acme")).idle == 0


CALL = '{"tool_calls":[{"name":"find","arguments":"{\\"what\\":\\"key\\"}"}]}'


async def test_demonstrations_of_a_tool_that_changed_are_retired(traffic: Traffic) -> None:
    log = SqlExposureLog(traffic.engine)

    def offered(episode: str, tools: dict[str, str]) -> None:
        log.post(Exposure("acme", episode, 0, "step", traffic.now_s, 0.0, tools=tools))

    offered("calls", {"find": "old", "other": "1"})
    await log.flush()
    await traffic.play("calls", [("A room.", CALL, "teacher")])
    await traffic.play("speaks", goal="boil an egg")
    await traffic.curator().curate("acme")
    traffic.now_s += 0.5 * DAY_S
    offered("both", {"find": "new"})
    await log.flush()
    assert (await traffic.curator().curate("acme")).outdated == 0
    traffic.now_s += 1.5 * DAY_S
    offered("after", {"find": "new", "other": "2"})
    await log.aclose()

    done = await traffic.curator().curate("acme")

    assert done.outdated == 1
    assert await traffic.shown() == ["speaks"]
    (gone,) = traffic.curator().origins.held("acme", "retired")
    assert gone.reason == "the schema of its tool find has changed"


async def test_what_does_harm_is_quarantined(traffic: Traffic) -> None:
    await traffic.play("bad")
    await traffic.play("good", goal="boil an egg")
    await traffic.curator().curate("acme")
    log = SqlExposureLog(traffic.engine)
    for number in range(60):
        left_out = number % 4 == 0
        shown = ("good",) if left_out else ("good", "bad")
        log.post(
            Exposure(
                tenant="acme",
                episode_id=f"n{number}",
                step_index=0,
                layer="step",
                at_s=traffic.now_s,
                share=0.25,
                shown=shown,
                left_out=("bad",) if left_out else (),
            )
        )
        await traffic.judge(f"n{number}", left_out or number % 8 == 1)
    await log.aclose()

    done = await traffic.curator().curate("acme")

    assert done.harmful == 1
    assert await traffic.shown() == ["good"]
    (held,) = await traffic.curator().quarantined("acme")
    assert held.reason == "episodes succeed less often with it than without it"
    worst, other = await traffic.curator().worth("acme")
    assert worst.trajectory_id == "bad"
    assert worst.episodes is not None
    assert (worst.episodes.shown, worst.episodes.left_out) == (45, 15)
    assert other.episodes is not None
    assert not other.episodes.is_harmful


async def test_agreement_with_the_teacher_is_measured_where_it_was_heard(traffic: Traffic) -> None:
    log = SqlExposureLog(traffic.engine)
    for id, samples in (("right", ("go",)), ("wrong", ("stay", "stay", "go")), ("silent", ())):
        await traffic.play(id, [("A room.", "go", "teacher")], samples=samples, success=None)
        log.post(Exposure("acme", id, 0, "step", traffic.now_s, 0.1, shown=("t",)))
    await traffic.play("alone", [("A room.", "go", "student")], samples=("go",), success=None)
    log.post(Exposure("acme", "alone", 0, "step", traffic.now_s, 0.1, shown=("t",)))
    await log.aclose()

    (worth,) = await traffic.curator().worth("acme")

    assert worth.episodes is None
    assert worth.steps is not None
    assert (worth.steps.shown, worth.steps.rate) == (2, 0.5)


async def test_a_bank_of_an_earlier_release_is_completed(
    traffic: Traffic, trajectory: MakeTrajectory
) -> None:
    from sqlalchemy import delete

    from tutelage.runtime.store.schema import demonstration_origins

    await traffic.bank.add([trajectory("old")])
    with traffic.engine.begin() as connection:
        connection.execute(delete(demonstration_origins))
    keeper = traffic.curator()
    assert not keeper.origins.is_complete("acme")

    await keeper.curate("acme")

    assert keeper.origins.is_complete("acme")
    assert keeper.origins.same(trajectory("new")) == "old"


async def test_contradictions_are_found_later_and_forgiven_when_they_end(
    traffic: Traffic, trajectory: MakeTrajectory
) -> None:
    rows: list[Row] = [(turn.observation, "smash it", "teacher") for turn in trajectory().turns]
    await traffic.play("bad", rows, key="k")
    keeper = traffic.curator()
    assert (await keeper.curate("acme")).contradicting == 0
    others = [trajectory(f"t{i}") for i in range(8)]
    await traffic.bank.add(others)

    found = await keeper.curate("acme")
    assert found.contradicting == 1
    assert "bad" not in await traffic.shown()
    assert (await keeper.curate("acme")) == Curated(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    for one in others[1:]:
        await traffic.bank.retire("acme", one.id)
    forgiven = await keeper.curate("acme")

    assert forgiven.restored == 1
    assert await traffic.shown() == ["bad", "t0"]


async def test_a_held_answer_is_promoted_once_its_trajectory_is(
    traffic: Traffic, trajectory: MakeTrajectory
) -> None:
    others = [trajectory(f"t{i}") for i in range(8)]
    await traffic.bank.add(others)
    rows: list[Row] = [(turn.observation, "smash it", "teacher") for turn in trajectory().turns]
    await traffic.play("bad", rows, key="k")
    keeper = traffic.curator()

    held = await keeper.promote("acme", "bad")
    for one in others:
        await traffic.bank.retire("acme", one.id)
    await keeper.curate("acme")
    await keeper.curate("acme")

    assert (held.quarantined, held.promoted) == (5, 0)
    assert {state for _, state, _ in await states(traffic, "bad")} == {"promoted"}


async def test_a_held_episode_that_failed_after_all_stays_out(
    traffic: Traffic, trajectory: MakeTrajectory
) -> None:
    others = [trajectory(f"t{i}") for i in range(8)]
    await traffic.bank.add(others)
    rows: list[Row] = [(turn.observation, "smash it", "teacher") for turn in trajectory().turns]
    await traffic.play("bad", rows, key="k")
    keeper = traffic.curator()
    await keeper.promote("acme", "bad")
    await traffic.judge("bad", False)
    for one in others:
        await traffic.bank.retire("acme", one.id)

    done = await keeper.curate("acme")

    assert (done.rejected, done.restored) == (5, 0)
    assert await traffic.shown() == []
