from __future__ import annotations

import pytest

from tutelage.training.data.growth import Candidate, TaskRecord, assess, goes_on, plan_round


def record(id: str, family: str, teacher: int, student: int, runs: int = 4) -> TaskRecord:
    return TaskRecord(id, family, teacher, runs, student, runs)


MIXED = assess(
    [
        record("h1", "heat", 4, 0),
        record("h2", "heat", 4, 4),
        record("c1", "cool", 4, 1),
        record("p1", "put", 4, 4),
        record("p2", "put", 0, 4),
    ]
)
POOL = [Candidate(f"{family}-{i}", family) for family in ("heat", "cool", "put") for i in range(20)]


def ids(found: object) -> list[str]:
    return [one.task_id for one in found.tasks]  # type: ignore[attr-defined]


def test_a_task_is_difficult_where_the_teacher_wins_by_the_margin() -> None:
    assert MIXED.difficult == ("c1", "h1")
    assert MIXED.easy == ("h2", "p1", "p2")
    assert MIXED.families == {"cool": 1.0, "heat": 0.5}
    assert MIXED.difficult_share == pytest.approx(0.4)


@pytest.mark.parametrize(("margin", "is_difficult"), [(0.25, True), (0.26, False), (0.0, True)])
def test_the_margin_is_a_setting(margin: float, is_difficult: bool) -> None:
    assert bool(assess([record("a", "f", 4, 3)], margin).difficult) is is_difficult


def test_where_both_do_alike_nothing_is_difficult_and_nothing_is_collected() -> None:
    equal = assess([record("a", "f", 3, 3), record("b", "f", 0, 0)], margin=0.0)
    assert equal.difficult == ()
    assert equal.difficult_share == 0
    found = plan_round(equal, POOL, known=(), evaluation=(), episode_usd=0.1, budget_usd=9, seed=0)
    assert found.tasks == ()


def test_what_one_of_them_never_played_is_passed_over() -> None:
    unplayed = assess([TaskRecord("a", "f", 4, 4, 0, 0)])
    assert (unplayed.difficult, unplayed.easy, unplayed.difficult_share) == ((), (), 0)


def test_half_of_a_round_is_like_the_difficult_and_half_like_the_easy() -> None:
    found = plan_round(MIXED, POOL, known=(), evaluation=(), episode_usd=0.5, budget_usd=10, seed=1)
    families = [one.family for one in found.tasks]
    assert len(families) == 20
    assert families.count("put") == 10
    assert found.expected_usd == pytest.approx(10)


def test_harder_families_get_more_places() -> None:
    counts = [0, 0]
    for seed in range(40):
        found = plan_round(
            MIXED, POOL, known=(), evaluation=(), episode_usd=1, budget_usd=12, seed=seed
        )
        families = [one.family for one in found.tasks]
        counts[0] += families.count("cool")
        counts[1] += families.count("heat")
    assert counts[0] > 1.3 * counts[1]


def test_neither_known_nor_evaluation_tasks_are_collected_and_none_twice() -> None:
    known = {f"heat-{i}" for i in range(10)}
    held = {f"cool-{i}" for i in range(20)}
    found = plan_round(
        MIXED, [*POOL, *POOL], known=known, evaluation=held, episode_usd=0, budget_usd=1, seed=2
    )
    chosen = ids(found)
    assert not {*known, *held} & set(chosen)
    assert len(set(chosen)) == len(chosen) == 30


def test_the_budget_bounds_a_round() -> None:
    found = plan_round(MIXED, POOL, known=(), evaluation=(), episode_usd=0.3, budget_usd=1, seed=0)
    assert len(found.tasks) == 3
    assert found.expected_usd <= 1
    nothing = plan_round(MIXED, POOL, known=(), evaluation=(), episode_usd=2, budget_usd=1, seed=0)
    assert nothing.tasks == ()


@pytest.mark.parametrize("cap", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_written_tasks_is_capped(cap: float) -> None:
    pool = [
        Candidate(f"{family}-{i}", family, is_synthetic=i % 4 > 0)
        for family in ("heat", "put")
        for i in range(40)
    ]
    found = plan_round(
        MIXED,
        pool,
        known=(),
        evaluation=(),
        episode_usd=1,
        budget_usd=40,
        seed=5,
        most_synthetic=cap,
    )
    written = sum(one.is_synthetic for one in found.tasks)
    assert found.tasks
    assert written <= cap * len(found.tasks)
    assert (written == 0) is (cap == 0)


def test_a_round_depends_on_its_seed_and_not_on_the_order() -> None:
    def plan(pool: list[Candidate], seed: int) -> list[str]:
        return ids(
            plan_round(MIXED, pool, known=(), evaluation=(), episode_usd=1, budget_usd=9, seed=seed)
        )

    assert plan(POOL, 1) == plan(POOL[::-1], 1)
    assert plan(POOL, 1) != plan(POOL, 2)


@pytest.mark.parametrize(
    ("shares", "more"),
    [([], False), ([0.4], True), ([0.4, 0.3], True), ([0.3, 0.29], False), ([0.3, 0.0], False)],
)
def test_rounds_end_when_the_difficult_share_stops_falling(shares: list[float], more: bool) -> None:
    assert goes_on(shares) is more
