"""``tutelage replay --recorded``: recorded traffic with another policy, prices, bank or student."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from tutelage.cli.options import settings
from tutelage.cli.output import print_json

if TYPE_CHECKING:
    from tutelage.runtime.config import Config

Rerun = Literal["policy", "prices", "both", "bank", "student"]
Told = tuple[dict[str, Any], list[str]]
"""A result as JSON values, and as lines for a person."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is asked of recorded traffic."""

    tenant: str | None
    since_s: float
    rerun: Rerun
    p_teacher: float | None
    bank: str | None
    """Database of the other bank; ``None``: the one of the traffic."""
    jobs: int


def run_recorded(
    asked: Recorded, config: Path | None, setting: list[str] | None, as_json: bool
) -> None:
    """Replays the store and prints the result.

    Raises:
        TutelageError: The record does not support it, or a part cannot be opened.
    """
    from tutelage.cli.stored import without_policy_file
    from tutelage.runtime.config import load_config

    if asked.bank is not None and asked.rerun != "bank":
        raise typer.BadParameter("--bank names another bank: give --rerun bank with it")
    given = settings(setting)
    if asked.rerun in ("policy", "bank"):
        # Costs are those of the record, so that prices may be unknown.
        free = {"input": 0.0, "output": 0.0}
        given = {**given, "teacher.price": free, "student.price": free}
    chosen = load_config(config, overrides=given)
    if asked.rerun in ("prices", "bank", "student"):
        chosen = without_policy_file(chosen)
    plain, lines = asyncio.run(_told(asked, chosen))
    if as_json:
        print_json(plain)
        return
    for line in lines:
        typer.echo(line)


async def _told(asked: Recorded, config: Config) -> Told:
    if asked.rerun == "bank":
        return await _bank(asked, config)
    from tutelage.assembly import open_assembly

    tenant = asked.tenant or config.tenant
    async with open_assembly(config, open_bank=False) as assembly:
        if asked.rerun == "student":
            from tutelage.benchmarks import student_replay
            from tutelage.recorded_student import reask_student

            reasked = await reask_student(
                assembly,
                tenant,
                since_s=asked.since_s,
                p_teacher=asked.p_teacher,
                jobs=asked.jobs,
            )
            return student_replay.to_json(reasked), student_replay.lines(reasked)
        from tutelage.benchmarks import recorded_replay
        from tutelage.recorded import replay_recorded

        found = await replay_recorded(
            assembly,
            tenant,
            since_s=asked.since_s,
            rerun=asked.rerun,
            p_teacher=asked.p_teacher,
        )
        return recorded_replay.to_json(found), recorded_replay.lines(found)


async def _bank(asked: Recorded, config: Config) -> Told:
    from tutelage.assembly import open_assembly
    from tutelage.benchmarks import bank_replay
    from tutelage.recorded_bank import replay_bank

    store = config.store.model_copy(update={"url": asked.bank or config.store.url})
    other = config.model_copy(update={"store": store})
    tenant = asked.tenant or config.tenant
    async with (
        open_assembly(config, open_bank=False) as assembly,
        open_assembly(other, open_bank=True) as searched,
    ):
        found = await replay_bank(assembly, tenant, bank=searched, since_s=asked.since_s)
    return bank_replay.to_json(found), bank_replay.lines(found)
