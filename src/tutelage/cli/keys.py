"""``tutelage keys``: keys of the gateway and of its administration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, Tenant
from tutelage.cli.output import print_json, print_table, when

if TYPE_CHECKING:
    from tutelage.runtime.gateway.key_store import IssuedKey, Operator
    from tutelage.runtime.gateway.keyring import Keyring
    from tutelage.runtime.gateway.keys import Key

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate or revoke keys of the gateway.")

Result = TypeVar("Result")
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Of the key: `tutelage keys list`.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Tenant = None,
    admin: Annotated[
        bool,
        typer.Option("--admin", help="A key of the administration; of all tenants by default."),
    ] = False,
    alias: Annotated[
        list[str] | None,
        typer.Option(help="A model it may ask for; repeatable (default: all).", show_default=False),
    ] = None,
    expires_in_s: Annotated[
        float | None, typer.Option(help="Seconds until it expires.", show_default=False)
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests a minute.", show_default=False)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Tokens a minute.", show_default=False)
    ] = None,
    parallel_requests: Annotated[
        int | None, typer.Option(help="Requests at once.", show_default=False)
    ] = None,
    budget_usd: Annotated[
        float | None, typer.Option(help="What may be spent in a period.", show_default=False)
    ] = None,
    budget_period_s: Annotated[
        float | None,
        typer.Option(help="Seconds in a period (default: it never ends).", show_default=False),
    ] = None,
    writer: Annotated[
        bool,
        typer.Option(
            "--writer/--no-writer", help="Whether demonstrations may be made of what it asks."
        ),
    ] = True,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Make a key; its text is printed this once, and stored nowhere."""
    values = {
        "name": name,
        "kind": "admin" if admin else "client",
        "aliases": alias or None,
        "expires_in_s": expires_in_s,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "parallel_requests": parallel_requests,
        "budget_usd": budget_usd,
        "budget_period_s": budget_period_s,
        "writer": writer,
    }

    async def make(keyring: Keyring, by: Operator, configured: str) -> IssuedKey:
        from pydantic import ValidationError

        from tutelage.runtime.errors import ConfigError
        from tutelage.runtime.gateway.orders import KeyOrder

        whose = tenant or (None if admin else configured)
        try:
            order = KeyOrder.model_validate({**values, "tenant": whose})
        except ValidationError as error:
            first = error.errors()[0]
            option = str(first["loc"][0]).replace("_", "-")
            raise ConfigError(f"{option} = {first['input']!r}: {first['msg']}") from None
        return await keyring.create(order, by)

    _print_issued(_with_keyring(config, setting, make), json=json)


@app.command("list")
def list_keys(
    tenant: Tenant = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also keys that are revoked or expired.")
    ] = False,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """List keys, of one tenant with --tenant, the newest first."""
    import time

    from tutelage.runtime.gateway.keys import shown_key

    async def read(keyring: Keyring, by: Operator, configured: str) -> list[Key]:
        return await keyring.keys(by, tenant)

    now_s = time.time()
    found = [
        key for key in _with_keyring(config, setting, read) if everything or key.is_usable(now_s)
    ]
    if json:
        print_json([shown_key(key) for key in found])
        return
    if not found:
        typer.echo("no keys yet: `tutelage keys create NAME` makes one")
        return
    print_table(
        f"{len(found)} keys",
        ["key", "begins", "kind", "tenant", "name", "limits", "created", "state"],
        [
            [
                key.id,
                " ".join(f"{prefix}…" for prefix in key.prefixes),
                key.kind,
                key.tenant or "all",
                key.name,
                _limits(key),
                when(key.created_at_s),
                _state(key, now_s),
            ]
            for key in found
        ],
    )


@app.command("rotate")
def rotate(
    id: KeyId,
    overlap_s: Annotated[
        float, typer.Option(min=0, help="Seconds for which the old text still works.")
    ] = 3600.0,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Give a key a new text, printed this once; its limits and what it has spent stay."""

    async def change(keyring: Keyring, by: Operator, configured: str) -> IssuedKey | None:
        return await keyring.rotate(id, overlap_s, by)

    _print_issued(_found(id, _with_keyring(config, setting, change)), json=json)


@app.command("revoke")
def revoke(
    id: KeyId,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """End a key for good; gateways that remember it follow within gateway.key_cache_s."""

    async def change(keyring: Keyring, by: Operator, configured: str) -> Key | None:
        return await keyring.revoke(id, by)

    key = _found(id, _with_keyring(config, setting, change))
    if json:
        from tutelage.runtime.gateway.keys import shown_key

        print_json(shown_key(key))
        return
    typer.echo(f"revoked {id}")


def _with_keyring(
    config_file: Path | None,
    values: list[str] | None,
    use: Callable[[Keyring, Operator, str], Awaitable[Result]],
) -> Result:
    """Opens the keys, and hands them over with who is here and the configured tenant."""
    import os

    from tutelage.cli.options import settings
    from tutelage.cli.stored import stored_config
    from tutelage.runtime.gateway.key_store import Operator
    from tutelage.runtime.gateway.keyring import Keyring
    from tutelage.runtime.gateway.keys import read_pepper
    from tutelage.runtime.store.database import open_engine

    config = stored_config(config_file, settings(values))
    pepper = read_pepper(os.environ, config.gateway.pepper_env)
    engine = open_engine(config.store.url)

    async def run() -> Result:
        async with Keyring(engine, pepper) as keyring:
            return await use(keyring, Operator(_user()), config.tenant)

    try:
        return asyncio.run(run())
    finally:
        engine.dispose()


def _user() -> str:
    """Who is noted in the audit log."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # Containers run under ids that no passwd file names.
        return f"uid-{os.getuid()}"


def _found(id: str, item: Result | None) -> Result:
    from tutelage.runtime.errors import StoreError

    if item is None:
        raise StoreError(f"there is no key {id!r}: `tutelage keys list --all`")
    return item


def _print_issued(issued: IssuedKey, *, json: bool) -> None:
    if json:
        from tutelage.runtime.gateway.keys import shown_key

        print_json({**shown_key(issued.key), "key": issued.text.reveal()})
        return
    key = issued.key
    typer.echo(f"{key.id}: {key.name}, {_limits(key)}")
    typer.echo(issued.text.reveal())
    typer.echo("keep it now: it is shown this once", err=True)


def _limits(key: Key) -> str:
    rights = key.rights
    period = "" if rights.budget_period_s is None else f" in {rights.budget_period_s:g} s"
    texts: list[tuple[Any, str]] = [
        (rights.requests_per_minute, "{} requests a minute"),
        (rights.tokens_per_minute, "{} tokens a minute"),
        (rights.parallel_requests, "{} at once"),
        (rights.budget_usd, "{:g} USD" + period),
    ]
    parts = [text.format(value) for value, text in texts if value is not None]
    if rights.aliases is not None:
        parts.append("models " + " ".join(sorted(rights.aliases)))
    return ", ".join(parts) or "no limits"


def _state(key: Key, now_s: float) -> str:
    if key.revoked_at_s is not None:
        return f"revoked {when(key.revoked_at_s)}"
    if key.expires_at_s is None:
        return "active"
    return f"{'active until' if key.is_usable(now_s) else 'expired'} {when(key.expires_at_s)}"
