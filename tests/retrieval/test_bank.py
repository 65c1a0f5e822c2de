from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import Engine, delete, select, update

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import HashEmbedder, Vectors
from tutelage.retrieval.keys import StateKey
from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.errors import EmbedderMismatch, StoreError
from tutelage.runtime.store import schema
from tutelage.runtime.store.database import open_engine

if TYPE_CHECKING:
    from tests.retrieval.conftest import CountingEmbedder, MakeBank, MakeStep, MakeTrajectory


def index_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("index-*"))


async def test_an_unknown_tenant_has_an_empty_bank(bank: Bank) -> None:
    await bank.open()
    assert await bank.size("nobody") == 0
    assert await bank.trajectories("nobody") == ()
    assert await bank.demonstrations("nobody") == []
    assert await bank.demonstration("nobody", "t1:0") is None


async def test_what_is_added_is_found_by_this_bank_and_by_the_next(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    bank = make_bank()
    admissions = await bank.add([trajectory("b", category="put"), trajectory("a", plan="think")])
    assert [(a.trajectory_id, a.outcome) for a in admissions] == [("b", "added"), ("a", "added")]
    for each in (bank, make_bank()):
        await each.open()
        assert [t.id for t in await each.trajectories("acme")] == ["a", "b"]
        assert await each.size("acme") == 10
        assert len(await each.demonstrations("acme", trajectory_id="a")) == 5
        assert len(await each.demonstrations("acme", category="put", before=0)) == 5
        found = await each.demonstration("acme", "a:2", before=1)
        assert found is not None
        assert found.action == "take mug 1 from fridge 1"
        assert [turn.action for turn in found.window] == ["open fridge 1", found.action]
        for wrong in ("a:5", "a:x", "a", "c:1", ""):
            assert await each.demonstration("acme", wrong) is None


async def test_offering_a_trajectory_again_changes_nothing(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory
) -> None:
    await bank.add([trajectory()])
    version, calls = await bank.version("acme"), len(embedder.calls)
    twice = await bank.add([trajectory(), trajectory()])
    assert [a.outcome for a in twice] == ["duplicate", "duplicate"]
    assert (await bank.version("acme"), len(embedder.calls)) == (version, calls)
    assert await bank.size("acme") == 5


async def test_one_offer_may_hold_a_trajectory_twice(
    bank: Bank, trajectory: MakeTrajectory
) -> None:
    outcomes = [a.outcome for a in await bank.add([trajectory(), trajectory()])]
    assert outcomes == ["added", "duplicate"]


async def test_unfit_trajectories_are_rejected_with_the_reason(
    bank: Bank, trajectory: MakeTrajectory
) -> None:
    await bank.add([trajectory("taken")])
    admissions = await bank.add(
        [
            trajectory("failed", success=False),
            trajectory("silent", goal="  "),
            trajectory("alone", served=["student"] * 5),
            trajectory("taken", goal="another goal"),
        ]
    )
    assert {a.outcome for a in admissions} == {"rejected"}
    assert [a.reason for a in admissions] == [
        "the episode did not succeed",
        "it has no goal",
        "it has no step of a teacher",
        "another trajectory has this id",
    ]
    assert await bank.size("acme") == 5


async def test_a_student_turn_is_no_demonstration(bank: Bank, trajectory: MakeTrajectory) -> None:
    await bank.add([trajectory(served=["teacher", "student", "teacher", "teacher", "student"])])
    assert [d.step_index for d in await bank.demonstrations("acme")] == [0, 2, 3]
    assert await bank.demonstration("acme", "t1:1") is None


async def test_a_retired_trajectory_is_gone_for_good(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    bank = make_bank()
    await bank.add([trajectory("a"), trajectory("b")])
    assert await bank.retire("acme", "a")
    assert not await bank.retire("acme", "a")
    assert not await bank.retire("other", "b")
    assert [a.outcome for a in await bank.add([trajectory("a")])] == ["duplicate"]
    for each in (bank, make_bank()):
        assert [t.id for t in await each.trajectories("acme")] == ["b"]


async def test_the_version_follows_the_contents_and_not_their_order(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    bank = make_bank()
    await bank.add([trajectory("b", tenant="x"), trajectory("a", tenant="x")])
    both = await bank.version("x")
    await bank.add([trajectory("c", tenant="x")])
    assert await bank.version("x") != both
    await bank.retire("x", "c")
    assert await bank.version("x") == both
    assert await make_bank().version("x") == both
    assert await bank.version("acme") != both


async def test_a_text_is_embedded_once_in_the_life_of_the_database(
    make_bank: MakeBank, embedder: CountingEmbedder, trajectory: MakeTrajectory
) -> None:
    await make_bank().add([trajectory("a"), trajectory("b")])
    assert len(embedder.calls) == 1
    assert len(set(embedder.calls[0])) == len(embedder.calls[0]) == 6
    bank = make_bank()
    await bank.add([trajectory("c", goal="heat an egg")])
    assert embedder.calls[1:] == [["heat an egg"]]


async def test_bank_rows_point_to_the_vectors_of_their_texts(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory
) -> None:
    await bank.add([trajectory("a", category="put_it", plan="look first"), trajectory("b")])
    shard = await bank.shard("acme")
    first = await embedder.embed(["put a mug on the shelf", "put it", "look first"])
    np.testing.assert_allclose([shard.goals[0], shard.categories[0], shard.plans[0]], first)
    assert not shard.categories[1].any()
    assert not shard.plans[1].any()
    state = await embedder.embed([bank.state_key.of_turn(shard.trajectories[1], 3)])
    np.testing.assert_allclose(shard.states[shard.starts[1] + 3], state[0])
    assert shard.steps.tolist() == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
async def test_a_damaged_index_is_built_anew_with_one_warning(
    make_bank: MakeBank,
    embedder: CountingEmbedder,
    trajectory: MakeTrajectory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    await make_bank().add([trajectory(f"t{i}", goal=f"goal {i}") for i in range(4)])
    (file,) = index_files(tmp_path)
    original = file.read_bytes()
    if damage == "flip":
        file.write_bytes(original[:-3] + bytes([original[-3] ^ 0xFF]) + original[-2:])
    elif damage == "truncate":
        file.write_bytes(original[: len(original) // 2])
    elif damage == "delete":
        file.unlink()
    else:
        (file.parent / "manifest.json").write_text("{")
    calls = len(embedder.calls)
    with caplog.at_level(logging.WARNING):
        bank = make_bank()
        await bank.open()
        await bank.size("acme")
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "built anew" in caplog.text
    assert len(embedder.calls) == calls
    (file,) = index_files(tmp_path)
    assert file.read_bytes() == original
    caplog.clear()
    await make_bank().open()
    assert not caplog.records


async def test_a_missing_cache_is_built_without_a_word(
    make_bank: MakeBank,
    trajectory: MakeTrajectory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await make_bank().add([trajectory()])
    (file,) = index_files(tmp_path)
    for path in file.parent.iterdir():
        path.unlink()
    await make_bank().open()
    assert index_files(tmp_path) == [file]
    assert not caplog.records


async def test_a_cache_that_lacks_the_newest_rows_is_completed(
    make_bank: MakeBank, trajectory: MakeTrajectory, tmp_path: Path
) -> None:
    bank = make_bank()
    await bank.add([trajectory(f"a{i:02}", goal=f"goal {i}") for i in range(20)])
    (old,) = index_files(tmp_path)
    await bank.add([trajectory("b", goal="the newest goal")])
    assert index_files(tmp_path) == [old]
    shard = await make_bank().shard("acme")
    assert shard.index.size == 21
    assert shard.index.search(shard.goals, 1).ids.ravel().tolist() == list(range(21))
    assert index_files(tmp_path) != [old]


async def test_a_cache_that_cannot_be_written_does_not_stop_the_bank(
    database: Engine,
    embedder: CountingEmbedder,
    clock: Callable[[], float],
    trajectory: MakeTrajectory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    bank = Bank(database, embedder, tmp_path / "cache", clock)
    await bank.add([trajectory()])
    assert await bank.size("acme") == 5
    assert "cannot be written" in caplog.text


async def test_another_embedder_is_refused_until_the_bank_is_reindexed(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    await make_bank().add([trajectory("a"), trajectory("b", tenant="zeta")])
    other = make_bank(HashEmbedder(32))
    with pytest.raises(EmbedderMismatch) as caught:
        await other.open()
    for word in ("'acme'", "'counting'", "'hash-32'", "tutelage demos reindex"):
        assert word in str(caught.value)
    assert await other.reindex() == 2
    assert await other.size("zeta") == 5
    await make_bank(HashEmbedder(32)).open()
    with pytest.raises(EmbedderMismatch, match=r"'hash-32'.*'counting'"):
        await make_bank().open()


async def test_a_mismatch_is_noticed_without_the_cache_too(
    make_bank: MakeBank, trajectory: MakeTrajectory, tmp_path: Path
) -> None:
    await make_bank().add([trajectory()])
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(EmbedderMismatch):
        await make_bank(HashEmbedder(32)).add([trajectory("b")])


async def test_another_state_key_needs_no_reindexing(
    make_bank: MakeBank, embedder: CountingEmbedder, trajectory: MakeTrajectory
) -> None:
    await make_bank().add([trajectory()])
    bank = make_bank(state_key=StateKey(numbers=False))
    await bank.open()
    assert len(embedder.calls[-1]) == 4
    assert not any(char.isdigit() for text in embedder.calls[-1] for char in text)


async def test_lost_or_damaged_vectors_are_computed_again(
    make_bank: MakeBank, database: Engine, embedder: CountingEmbedder, trajectory: MakeTrajectory
) -> None:
    await make_bank().add([trajectory()])
    texts = embedder.calls[0]
    with database.begin() as connection:
        connection.execute(delete(schema.embeddings))
    await make_bank().open()
    assert embedder.calls[1] == texts
    with database.begin() as connection:
        connection.execute(update(schema.embeddings).values(vector=b"short"))
    await make_bank().open()
    assert embedder.calls[2] == texts
    calls = len(embedder.calls)
    await make_bank().open()
    assert len(embedder.calls) == calls


async def test_a_row_that_another_process_added_is_seen_after_a_refresh(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    serving, collecting = make_bank(), make_bank()
    await serving.add([trajectory("a")])
    await collecting.add([trajectory("b")])
    assert [t.id for t in await serving.trajectories("acme")] == ["a"]
    await serving.refresh("acme")
    assert [t.id for t in await serving.trajectories("acme")] == ["a", "b"]
    assert [a.outcome for a in await serving.add([trajectory("b")])] == ["duplicate"]


async def test_a_damaged_row_is_named(
    make_bank: MakeBank, database: Engine, trajectory: MakeTrajectory
) -> None:
    await make_bank().add([trajectory()])
    with database.begin() as connection:
        connection.execute(update(schema.trajectories).values(turns=[{"action": 3}]))
    with pytest.raises(StoreError, match="trajectory 't1' of tenant 'acme' is damaged"):
        await make_bank().open()


async def test_a_database_without_tables_gives_one_clear_line(
    embedder: CountingEmbedder, clock: Callable[[], float], tmp_path: Path
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    with pytest.raises(StoreError, match="no such table: trajectories"):
        await Bank(engine, embedder, tmp_path, clock).open()
    engine.dispose()


async def test_nothing_is_stored_when_the_embedder_fails(
    make_bank: MakeBank, database: Engine, trajectory: MakeTrajectory
) -> None:
    class Failing(HashEmbedder):
        async def embed(self, texts: Sequence[str]) -> Vectors:
            raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match="no weights"):
        await make_bank(Failing()).add([trajectory()])
    with database.begin() as connection:
        assert connection.scalars(select(schema.trajectories.c.id)).all() == []


async def test_concurrent_adds_and_searches_keep_the_rows_together(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    retriever = KeyedRetriever(bank)
    offers = [bank.add([trajectory(f"t{i}", goal=f"goal {i}")]) for i in range(12)]
    searches = [retriever.search(step()) for _ in range(12)]
    await asyncio.gather(*(call for pair in zip(offers, searches, strict=True) for call in pair))
    shard = await bank.shard("acme")
    assert sorted(t.id for t in shard.trajectories) == sorted(f"t{i}" for i in range(12))
    assert len(shard.goals) == len(shard.starts) - 1 == shard.index.size == 12


async def test_what_another_process_changed_is_taken_over(
    make_bank: MakeBank, trajectory: MakeTrajectory
) -> None:
    ours, theirs = make_bank(), make_bank()
    assert not await ours.catch_up("acme")
    await ours.add([trajectory("a")])
    await theirs.add([trajectory("b")])

    assert [t.id for t in await ours.trajectories("acme")] == ["a"]
    assert await ours.catch_up("acme")
    assert [t.id for t in await ours.trajectories("acme")] == ["a", "b"]
    assert not await ours.catch_up("acme")
    await ours.add([trajectory("c")])
    assert not await ours.catch_up("acme")

    await theirs.change("acme", {"a": "quarantined", "nobody": "retired"}, "test", cause="test")
    assert await ours.catch_up("acme")
    assert [t.id for t in await ours.trajectories("acme")] == ["b", "c"]
    assert await ours.version("acme") == await make_bank().version("acme")
