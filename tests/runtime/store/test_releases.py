from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, inspect
from tests.made_releases import BLOCKED, Clock, draft, serving

from tutelage.runtime.errors import ConfigError, ReleaseRefused
from tutelage.runtime.release import split_name
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.store.releases import SqlReleaseStore

TABLES = (
    schema.releases,
    schema.release_traffic,
    schema.release_events,
    schema.release_outcomes,
    schema.flywheel_runs,
    schema.flywheel_stages,
    schema.locks,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each of the databases, empty."""
    name = "url" if request.param == "sqlite" else "postgres_url"
    made = open_engine(request.getfixturevalue(name))
    yield made
    made.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> SqlReleaseStore:
    return SqlReleaseStore(engine, clock)


def stages(store: SqlReleaseStore, tenant: str = "acme") -> dict[str, str]:
    return {one.name: one.stage for one in store.releases(tenant)}


def test_the_migration_makes_the_tables_of_the_schema(engine: Engine) -> None:
    migrate(engine)
    found = inspect(engine)
    for table in TABLES:
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        assert columns.keys() == set(table.columns.keys())
        for name, column in columns.items():
            assert column["nullable"] == table.c[name].nullable, f"{table.name}.{name}"
        key = found.get_pk_constraint(table.name)["constrained_columns"]
        assert key == [column.name for column in table.primary_key.columns]
        made = {index["name"] for index in found.get_indexes(table.name)}
        assert made == {index.name for index in table.indexes}


def test_numbers_are_counted_over_all_tenants_of_a_student(store: SqlReleaseStore) -> None:
    names = [
        store.add(draft(tenant, student)).name
        for tenant, student in (("acme", "a"), ("other", "a"), ("acme", "b"), ("acme", "a"))
    ]
    assert names == ["a@1", "a@2", "b@1", "a@3"]
    assert [one.name for one in store.releases("acme", "a")] == ["a@3", "a@1"]


def test_a_release_comes_back_as_it_was(store: SqlReleaseStore, clock: Clock) -> None:
    made = store.add(draft(policy={"threshold": 0.5}, base_url="http://127.0.0.1:1/v1"))
    assert store.release("acme", made.name) == made
    assert (made.stage, made.created_at_s, made.passed) == ("candidate", clock.now_s, True)


def test_an_origin_makes_one_release_however_often_it_asks(store: SqlReleaseStore) -> None:
    first = store.add(draft(), "run-1")
    assert store.add(draft(), "run-1") == first
    assert store.made_by("acme", "run-1") == first
    assert store.made_by("acme", "run-2") is None
    assert len(store.releases("acme")) == 1


def test_a_tenant_does_not_see_the_releases_of_another(store: SqlReleaseStore) -> None:
    made = serving(store)
    assert store.releases("other") == []
    assert store.traffic("student", "other").current is None
    for use in (store.release, store.events):
        with pytest.raises(ReleaseRefused, match="does not exist"):
            use("other", made.name)
    with pytest.raises(ReleaseRefused, match="nothing to roll back"):
        store.roll_back("student", "other", "")


def test_a_swap_and_a_rollback_move_one_row(store: SqlReleaseStore) -> None:
    first = serving(store)
    assert store.traffic("student", "acme").current.name == first.name  # type: ignore[union-attr]
    second = serving(store)
    traffic = store.traffic("student", "acme")
    assert traffic.current is not None
    assert (traffic.current.name, traffic.previous) == (second.name, first.name)
    assert stages(store) == {first.name: "retired", second.name: "current"}
    assert store.roll_back("student", "acme", "worse") == second.name
    traffic = store.traffic("student", "acme")
    assert traffic.current is not None
    assert (traffic.current.name, traffic.previous) == (first.name, None)
    assert stages(store) == {first.name: "current", second.name: "rolled_back"}
    assert store.roll_back("student", "acme", "worse, too") == first.name
    assert store.traffic("student", "acme").current is None


def test_a_canary_is_rolled_back_before_the_current_one(store: SqlReleaseStore) -> None:
    first, canary = serving(store), serving(store, share=0.25)
    traffic = store.traffic("student", "acme")
    assert traffic.canary is not None
    assert (traffic.canary.name, traffic.canary_share) == (canary.name, 0.25)
    assert store.roll_back("student", "acme", "worse") == canary.name
    traffic = store.traffic("student", "acme")
    assert (traffic.canary, traffic.canary_share) == (None, 0.0)
    assert stages(store) == {first.name: "current", canary.name: "rolled_back"}


def test_what_happened_is_told_in_order(store: SqlReleaseStore, clock: Clock) -> None:
    made = serving(store)
    clock.now_s += 5
    store.set_policy("acme", made.name, {"threshold": 0.5}, "abc")
    store.set_base_url("acme", made.name, "http://127.0.0.1:1/v1")
    store.roll_back("student", "acme", "it lies")
    told = store.events("acme", made.name)
    assert [one.event for one in told] == [
        "made", "shadow", "canary", "current", "calibrated", "placed", "rolled_back",
    ]  # fmt: skip
    assert told[-1].detail == "it lies"
    assert told[-1].at_s == clock.now_s
    assert told[0].at_s == clock.now_s - 5


def test_traffic_tells_address_and_policy(store: SqlReleaseStore) -> None:
    made = serving(store)
    store.set_policy("acme", made.name, {"threshold": 0.5}, "abc")
    store.set_base_url("acme", made.name, "http://127.0.0.1:1/v1")
    served = store.all_traffic("student")["acme"].current
    assert served is not None
    assert served.policy == {"threshold": 0.5}
    assert served.base_url == "http://127.0.0.1:1/v1"
    assert served.weights_sha256 == made.weights_sha256


def test_a_release_that_its_gates_blocked_never_serves(store: SqlReleaseStore) -> None:
    for evidence, said in ((BLOCKED, "blocked"), (None, "none has judged")):
        made = store.add(draft(evidence=evidence))
        store.shadow("acme", made.name, "")
        with pytest.raises(ReleaseRefused, match=said):
            store.canary("acme", made.name, 0.1)
        with pytest.raises(ReleaseRefused, match=said):
            store.promote("acme", made.name, skips=True)
    assert store.traffic("student", "acme").current is None
    store.set_evidence("acme", "student@2", {"passed": True})
    store.canary("acme", "student@2", 0.1)
    assert stages(store)["student@2"] == "canary"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(store: SqlReleaseStore, share: float) -> None:
    made = store.add(draft())
    with pytest.raises(ReleaseRefused, match="share"):
        store.canary("acme", made.name, share)


def test_a_stage_is_not_skipped(store: SqlReleaseStore) -> None:
    made = store.add(draft())
    with pytest.raises(ReleaseRefused, match="is candidate"):
        store.canary("acme", made.name, 0.1)
    with pytest.raises(ReleaseRefused, match="is candidate"):
        store.promote("acme", made.name)
    current = serving(store)
    with pytest.raises(ReleaseRefused, match="is current"):
        store.shadow("acme", current.name, "")


def test_an_operator_may_skip_the_canary_and_takes_another_one_back(
    store: SqlReleaseStore,
) -> None:
    canary, chosen = serving(store, share=0.5), store.add(draft())
    store.promote("acme", chosen.name, "by hand", skips=True)
    store.promote("acme", chosen.name, "again", skips=True)
    assert stages(store) == {canary.name: "rolled_back", chosen.name: "current"}
    assert [one.event for one in store.events("acme", chosen.name)] == ["made", "current"]


def test_a_second_canary_is_refused(store: SqlReleaseStore) -> None:
    first, second = serving(store, share=0.5), store.add(draft())
    store.shadow("acme", second.name, "")
    with pytest.raises(ReleaseRefused, match=first.name):
        store.canary("acme", second.name, 0.1)


def test_an_outcome_counts_once_and_keeps_its_place(store: SqlReleaseStore) -> None:
    made = serving(store, share=0.5)
    assert store.count(made, [("e2", True, True), ("e1", False, False)]) == 2
    assert store.count(made, [("e1", False, True), ("e3", True, False), ("e2", True, False)]) == 1
    assert store.outcomes(made) == [(True, True), (False, False), (True, False)]


def test_concurrent_promotions_leave_one_current_release(store: SqlReleaseStore) -> None:
    made = [store.add(draft()) for _ in range(4)]

    def promote(name: str) -> None:
        store.promote("acme", name, skips=True)

    threads = [threading.Thread(target=promote, args=(one.name,)) for one in made]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(stages(store).values()) == ["current", "retired", "retired", "retired"]
    current = store.traffic("student", "acme").current
    assert current is not None
    assert stages(store)[current.name] == "current"


@pytest.mark.parametrize("name", ["student", "student@0", "@7", "a b@1", "student@x", "ü@1"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="student@7"):
        split_name(name)
    assert split_name("my-student.v2@17") == ("my-student.v2", 17)
