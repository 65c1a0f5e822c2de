"""Commands that only read or change what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tutelage.cli.options import settings

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.runtime.config import Config

Result = TypeVar("Result")


def stored_config(config_file: Path | None, overrides: dict[str, Any]) -> Config:
    """The configuration; models are not asked, so that their prices may be unknown.

    Nobody plays by the policy file, so a stale one does not stand in the way.

    Raises:
        ConfigError: The file or a value is not usable.
    """
    from tutelage.runtime.config import load_config

    free = {"input": 0.0, "output": 0.0}
    return without_policy_file(
        load_config(
            config_file, overrides={**overrides, "teacher.price": free, "student.price": free}
        )
    )


def without_policy_file(config: Config) -> Config:
    """A configuration that is opened also where its policy file was made for another one."""
    cascade = config.cascade.model_copy(update={"policy_file": None})
    return config.model_copy(update={"cascade": cascade})


def with_assembly(
    config_file: Path | None,
    values: list[str] | None,
    tenant: str | None,
    use: Callable[[Assembly, str], Awaitable[Result]],
    *,
    open_bank: bool = True,
    priced: bool = False,
) -> Result:
    """Opens the store, and the bank where it is needed, and hands them over with the tenant.

    With ``priced`` models are asked, and their prices must be known.

    Raises:
        TutelageError: Store or bank cannot be opened, or ``use`` failed.
    """
    from tutelage.assembly import open_assembly
    from tutelage.runtime.config import load_config

    if priced:
        config = without_policy_file(load_config(config_file, overrides=settings(values)))
    else:
        config = stored_config(config_file, settings(values))

    async def run() -> Result:
        async with open_assembly(config, open_bank=open_bank) as assembly:
            return await use(assembly, tenant or config.tenant)

    return asyncio.run(run())
