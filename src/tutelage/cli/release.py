"""``tutelage release``: versions of the student, and who of them serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant, settings
from tutelage.cli.output import print_json, print_table, when
from tutelage.cli.stored import stored_config
from tutelage.runtime.errors import ConfigError, ReleaseRefused

if TYPE_CHECKING:
    from tutelage.runtime.config import Config
    from tutelage.runtime.release import Release
    from tutelage.runtime.store.releases import SqlReleaseStore

Result = TypeVar("Result")
Name = Annotated[str, typer.Argument(help="Name of the release, such as student@7.")]

app = typer.Typer(help="Versions of the student: list, compare, promote, roll back.")


@app.command()
def ls(
    tenant: Tenant = None, config: ConfigFile = None, setting: Setting = None, json: Json = False
) -> None:
    """List the releases of the tenant, the newest first."""

    async def found(store: SqlReleaseStore, chosen: Config, owner: str) -> list[Release]:
        return list(await asyncio.to_thread(store.releases, owner))

    releases = _with_store(config, setting, tenant, found)
    if json:
        print_json([_told(one) for one in releases])
        return
    rows = [
        (
            one.name,
            one.stage,
            "passed" if one.passed else "blocked" if one.evidence else "not judged",
            "yes" if one.policy else "no",
            one.kind,
            one.lineage.traces,
            one.lineage.recipe,
            when(one.created_at_s),
        )
        for one in releases
    ]
    columns = ("release", "stage", "gates", "calibrated", "kind", "traces", "recipe", "made")
    print_table(f"{len(rows)} releases", columns, rows)


@app.command()
def show(
    name: Name,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="Print a manifest instead: llm-d or production-stack.", show_default=False
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="Name of the served base model, for an adapter.", show_default=False),
    ] = None,
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Show what a release was made of, what its gates found, and what happened to it."""
    from tutelage.training.serving_manifest import STACKS
    from tutelage.training.serving_manifest import manifest as manifest_of

    stack = next((one for one in STACKS if one == manifest), None)
    if manifest is not None and stack is None:
        raise ConfigError(f"--manifest {manifest!r} is unknown: {' or '.join(STACKS)}")

    async def found(
        store: SqlReleaseStore, chosen: Config, owner: str
    ) -> tuple[Release, list[Any]]:
        release = await asyncio.to_thread(store.release, owner, name)
        return release, list(await asyncio.to_thread(store.events, owner, name))

    release, events = _with_store(config, setting, tenant, found)
    if stack is not None:
        typer.echo(manifest_of(release, stack, base), nl=False)
        return
    told = _told(release)
    if json:
        happened = [{"at_s": e.at_s, "event": e.event, "detail": e.detail} for e in events]
        print_json({**told, "events": happened})
        return
    plain = {key: value for key, value in told.items() if not isinstance(value, dict)}
    lineage = {f"lineage.{key}": value for key, value in told["lineage"].items()}
    print_table(name, ("field", "value"), list({**plain, **lineage}.items()))
    verdicts = (release.evidence or {}).get("verdicts") or ()
    if verdicts:
        rows = [
            (one["gate"], "passed" if one["passed"] else "failed", one.get("text", ""))
            for one in verdicts
        ]
        print_table("gates", ("gate", "verdict", "why"), rows)
    print_table(
        "events", ("at", "event", "detail"), [(when(e.at_s), e.event, e.detail) for e in events]
    )


@app.command()
def diff(
    one: Name,
    other: Annotated[str, typer.Argument(help="The release to compare with.")],
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Tell what differs between two releases: lineage, settings, gates, weights."""
    from tutelage.training.releases import differences

    async def found(
        store: SqlReleaseStore, chosen: Config, owner: str
    ) -> list[tuple[str, str, str]]:
        first = await asyncio.to_thread(store.release, owner, one)
        second = await asyncio.to_thread(store.release, owner, other)
        return list(differences(first, second))

    rows = _with_store(config, setting, tenant, found)
    if json:
        print_json([{"field": field, one: a, other: b} for field, a, b in rows])
        return
    print_table(f"{len(rows)} differences", ("field", one, other), rows)


@app.command()
def promote(
    name: Name,
    policy_file: Annotated[
        Path | None,
        typer.Option(help="Policy that was calibrated for it.", show_default=False),
    ] = None,
    because: Annotated[str, typer.Option(help="Why; kept with the release.")] = "by hand",
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Make a release the current one now, also without a canary; its gates must have passed it."""
    from tutelage.released import CALIBRATED, policy_for

    async def change(store: SqlReleaseStore, chosen: Config, owner: str) -> dict[str, Any]:
        release = await asyncio.to_thread(store.release, owner, name)
        needs = chosen.cascade.policy in CALIBRATED
        if policy_file is not None:
            policy, digest = policy_for(chosen, release, policy_file)
            await asyncio.to_thread(store.set_policy, owner, name, policy, digest)
        elif needs and release.policy is None:
            raise ReleaseRefused(
                f"{name} has no policy, and cascade.policy = {chosen.cascade.policy!r} needs one: "
                "calibrate it and give --policy-file"
            )
        await asyncio.to_thread(lambda: store.promote(owner, name, because, skips=True))
        return _reach(chosen, name)

    told = _with_store(config, setting, tenant, change)
    if json:
        print_json(told)
        return
    typer.echo(f"{name} is current; every worker has it within {told['reaches_all_within_s']:g} s")


@app.command()
def rollback(
    because: Annotated[str, typer.Option(help="Why; kept with the release.")] = "by hand",
    tenant: Tenant = None,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Take the canary back, or without one the current release, for the one before it."""

    async def change(store: SqlReleaseStore, chosen: Config, owner: str) -> dict[str, Any]:
        student = chosen.releases.student
        if student is None:
            raise ConfigError("releases.student is not set: no release serves")
        taken = await asyncio.to_thread(store.roll_back, student, owner, because)
        traffic = await asyncio.to_thread(store.traffic, student, owner)
        serves = traffic.current.name if traffic.current else None
        return {**_reach(chosen, str(taken)), "current": serves}

    told = _with_store(config, setting, tenant, change)
    if json:
        print_json(told)
        return
    typer.echo(
        f"{told['release']} serves no longer; {told['current'] or 'the configured student'} does, "
        f"at every worker within {told['reaches_all_within_s']:g} s"
    )


def _reach(config: Config, name: str) -> dict[str, Any]:
    limits = config.releases
    return {"release": name, "reaches_all_within_s": limits.refresh_s + limits.patience_s}


def _told(release: Release) -> dict[str, Any]:
    """A release as JSON values; the digests of single files are left to the database."""
    told = release.model_dump(mode="json", exclude={"files", "probe", "policy"})
    is_calibrated = release.policy is not None
    return {"name": release.name, **told, "passed": release.passed, "calibrated": is_calibrated}


def _with_store(
    config_file: Path | None,
    values: list[str] | None,
    tenant: str | None,
    use: Callable[[SqlReleaseStore, Config, str], Awaitable[Result]],
) -> Result:
    from tutelage.runtime.store.database import open_engine
    from tutelage.runtime.store.releases import SqlReleaseStore

    config = stored_config(config_file, settings(values))
    engine = open_engine(config.store.url)

    async def run() -> Result:
        return await use(SqlReleaseStore(engine, time.time), config, tenant or config.tenant)

    try:
        return asyncio.run(run())
    finally:
        engine.dispose()
