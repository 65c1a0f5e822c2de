"""``tutelage serve``: the gateway."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, settings
from tutelage.cli.output import print_json


def serve(
    open_door: Annotated[
        bool,
        typer.Option("--open", help="Ask for no key; on the loopback interface only."),
    ] = False,
    config: ConfigFile = None,
    setting: Setting = None,
    json: Json = False,
) -> None:
    """Serve the OpenAI and Anthropic APIs: clients set their base URL to this address.

    SIGHUP reads the configuration again; SIGTERM and Ctrl-C finish what is in flight.
    """
    from tutelage.runtime.config import load_config
    from tutelage.serve_process import log_to_stderr
    from tutelage.serve_process import serve as serve_gateway

    log_to_stderr()
    overrides = settings(setting)

    def ready(address: str, admin_address: str | None) -> None:
        if json:
            print_json({"base_url": f"{address}/v1", "admin_url": admin_address})
            return
        typer.echo(f"OpenAI clients:     base_url = {address}/v1")
        typer.echo(f"Anthropic clients:  ANTHROPIC_BASE_URL = {address}")
        if admin_address is not None:
            typer.echo(f"admin API:          {admin_address}/admin")
        if open_door:
            typer.echo("keys:               none asked for (--open)")

    read = functools.partial(load_config, config, None, overrides)
    serve_gateway(read, is_open=open_door, ready=ready)
