"""Misleading demonstrations among ten thousand, with the defences and without them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.retrieval.poisoning import (
    PLAUSIBLE,
    STRANGE,
    TENANT,
    Attack,
    changed,
    decisions,
    gate,
    honest_offers,
    played,
    poisoned_offers,
    steps_of,
)

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import HashEmbedder
from tutelage.retrieval.origins import Origins
from tutelage.retrieval.rules import CurationRules
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.types import Step

WRITERS = 20
MOST_CHANGED = 0.05


@dataclass(frozen=True)
class Honest:
    """Two files with the same honest traffic: let in by the gate, and all of it."""

    defended: Path
    undefended: Path
    demonstrations: int
    steps: list[Step]
    actions: list[str]


@contextmanager
def opened(file: Path) -> Iterator[tuple[Engine, Bank]]:
    engine = open_engine(f"sqlite:///{file}")
    migrate(engine)
    yield engine, Bank(engine, HashEmbedder(), file.parent / f"{file.stem}-cache", lambda: 1000.0)
    engine.dispose()


async def grown(folder: Path, train: str, test: str) -> Honest:
    offers = honest_offers(played(train), WRITERS, seed=1)
    tested = played(test)
    made = Honest(
        folder / "defended.sqlite",
        folder / "undefended.sqlite",
        sum(len(one.trajectory.turns) for one in offers),
        steps_of(tested),
        [turn.action for one in tested for turn in one.turns],
    )
    with opened(made.defended) as (engine, bank):
        keeper = gate(bank, Origins(engine), CurationRules())
        await keeper.admit(TENANT, offers, cause="test")
    with opened(made.undefended) as (_, bank):
        await bank.add([one.trajectory for one in offers])
    return made


async def rates(honest: Honest, attack: Attack, folder: Path) -> tuple[float, float]:
    """Share of decisions that an attack changes: with the defences, and without."""
    offers = poisoned_offers(attack, honest.steps, seed=3)
    found = []
    for file in (honest.defended, honest.undefended):
        with opened(file) as (_, bank):
            before = await decisions(bank, honest.steps)
        copy = folder / f"{file.stem}-{hash(attack)}.sqlite"
        shutil.copy(file, copy)
        with opened(copy) as (engine, bank):
            if file == honest.defended:
                keeper = gate(bank, Origins(engine), CurationRules())
                await keeper.admit(TENANT, offers, cause="test")
            else:
                await bank.add([one.trajectory for one in offers])
            found.append(changed(before, await decisions(bank, honest.steps)))
    return found[0], found[1]


async def test_a_small_bank_is_not_misled(tmp_path: Path) -> None:
    honest = await grown(tmp_path, "train:120", "test:10")

    defended, undefended = await rates(honest, Attack(10, writers=3, copies=2), tmp_path)

    assert defended <= MOST_CHANGED
    assert undefended > 0


@pytest.mark.slow
async def test_among_ten_thousand_poison_changes_few_decisions(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    honest = await grown(tmp_path, "train:1350", "test:60")
    with opened(honest.defended) as (_, bank):
        kept = await bank.size(TENANT)
        right = 1 - changed(honest.actions, await decisions(bank, honest.steps))
    with opened(honest.undefended) as (_, bank):
        right_undefended = 1 - changed(honest.actions, await decisions(bank, honest.steps))
    print(f"{honest.demonstrations} demonstrations, {kept} kept by the gate")
    print(f"vote = oracle: {right:.3f} with the gate, {right_undefended:.3f} without")

    for count, copies, actions in (
        (1, 1, STRANGE),
        (10, 2, STRANGE),
        (10, 2, PLAUSIBLE),
        (100, 1, STRANGE),
        (100, 2, STRANGE),
        (100, 2, PLAUSIBLE),
    ):
        attack = Attack(count, writers=5, copies=copies, actions=actions)
        defended, undefended = await rates(honest, attack, tmp_path)
        kind = "strange" if actions == STRANGE else "plausible"
        print(f"{count} {kind}, {copies} a state: {defended:.4f}, undefended {undefended:.4f}")
        record_property(f"changed_{count}_{copies}_{kind}", (defended, undefended))
        assert defended <= MOST_CHANGED
        assert undefended >= defended
    assert honest.demonstrations >= 10_000
    # The gate must not cost what it protects.
    assert right >= right_undefended - 0.05
