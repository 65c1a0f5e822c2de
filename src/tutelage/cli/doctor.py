"""``tutelage doctor``: what is ready, what is not, and the command that mends it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import typer

from tutelage.cli.options import ConfigFile, Json, Setting, settings
from tutelage.cli.output import print_json


def doctor(config: ConfigFile = None, setting: Setting = None, json: Json = False) -> None:
    """Check configuration, prices, store, embedder, bank, student and teacher."""
    from tutelage.checkup import examine
    from tutelage.runtime.config import load_config

    found = asyncio.run(examine(load_config(config, overrides=settings(setting))))
    if json:
        print_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            mark = typer.style("ok  ", "green") if finding.ok else typer.style("FAIL", "red")
            typer.echo(f"{mark} {finding.part:<10} {finding.text}")
    if not all(finding.ok for finding in found):
        raise typer.Exit(3)
