"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Configuration file (default: tutelage.toml here, if any).",
        show_default=False,
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="One configuration value, as key=value; repeatable.",
        metavar="KEY=VALUE",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Tenant = Annotated[
    str | None,
    typer.Option("--tenant", help="Whose (default: the configured tenant).", show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the world's games (default: ALFWORLD_DATA, then the cache).",
        show_default=False,
    ),
]

Teacher = Annotated[
    str, typer.Option("--teacher", help="oracle, or model: the configured teacher.")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Episodes at once.")]
MaxSteps = Annotated[int, typer.Option("--max-steps", min=1, help="Steps an episode.")]
MaxUsd = Annotated[
    float | None,
    typer.Option("--max-usd", min=0, help="Spending cap of the folder.", show_default=False),
]
World = Annotated[
    str, typer.Argument(help="household, alfworld, office, office-tools, or module:attribute.")
]


def settings(values: list[str] | None) -> dict[str, Any]:
    """``["cascade.samples=5"]`` as dotted overrides; values are read as TOML, else as text.

    Raises:
        ConfigError: An item has no ``=``.
    """
    from tutelage.runtime.config import literal
    from tutelage.runtime.errors import ConfigError

    overrides: dict[str, Any] = {}
    for item in values or ():
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"--set {item!r} is not key=value, for example cascade.samples=5")
        overrides[key.strip()] = literal(value.strip())
    return overrides
