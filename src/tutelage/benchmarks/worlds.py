"""The worlds by name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tutelage.benchmarks.environment import Environment
from tutelage.benchmarks.manner import Manner
from tutelage.runtime.errors import BenchmarkError

WorldFactory = Callable[[Path | None], Environment]
"""Makes a world from its data folder; a world without data takes no notice of it."""

ENTRY_POINT_GROUP = "tutelage.worlds"


def _alfworld(data: Path | None) -> Environment:
    from tutelage.benchmarks.alfworld.games import find_data
    from tutelage.benchmarks.alfworld.world import AlfworldWorld
    from tutelage.runtime.cache_dir import cache_dir

    return AlfworldWorld(find_data(data, os.environ, cache_dir()))


def _appworld(data: Path | None) -> Environment:
    from tutelage.benchmarks.appworld.world import AppWorldAdapter, find_root

    return AppWorldAdapter(find_root(data, os.environ))


def _bfcl(data: Path | None) -> Environment:
    from tutelage.benchmarks.bfcl.world import BfclWorld

    return BfclWorld()


def _household(data: Path | None) -> Environment:
    from tutelage.benchmarks.household.world import HouseholdWorld

    return HouseholdWorld()


def _office(data: Path | None) -> Environment:
    from tutelage.benchmarks.office.world import OfficeWorld

    return OfficeWorld()


def _office_tools(data: Path | None) -> Environment:
    from tutelage.benchmarks.office.tools_world import OfficeToolsWorld

    return OfficeToolsWorld()


def _scienceworld(data: Path | None) -> Environment:
    from tutelage.benchmarks.scienceworld.world import ScienceWorld

    return ScienceWorld()


def _textworld(data: Path | None) -> Environment:
    from tutelage.benchmarks.textworld.world import TextWorld
    from tutelage.runtime.cache_dir import cache_dir

    return TextWorld(data or cache_dir() / "textworld")


WORLDS: Mapping[str, WorldFactory] = MappingProxyType(
    {
        "alfworld": _alfworld,
        "appworld": _appworld,
        "bfcl": _bfcl,
        "household": _household,
        "office": _office,
        "office-tools": _office_tools,
        "scienceworld": _scienceworld,
        "textworld": _textworld,
    }
)


def _office_manner() -> Manner:
    from tutelage.benchmarks.office.world import office_manner

    return office_manner()


def _office_tools_manner() -> Manner:
    from tutelage.benchmarks.office.tools_world import office_tools_manner

    return office_tools_manner()


def _appworld_manner() -> Manner:
    from tutelage.benchmarks.appworld.world import appworld_manner

    return appworld_manner()


def _bfcl_manner() -> Manner:
    from tutelage.benchmarks.bfcl.world import bfcl_manner

    return bfcl_manner()


def _scienceworld_manner() -> Manner:
    from tutelage.benchmarks.scienceworld.world import scienceworld_manner

    return scienceworld_manner()


def _textworld_manner() -> Manner:
    from tutelage.benchmarks.textworld.world import textworld_manner

    return textworld_manner()


MANNERS: Mapping[str, Callable[[], Manner]] = MappingProxyType(
    {
        "appworld": _appworld_manner,
        "bfcl": _bfcl_manner,
        "office": _office_manner,
        "office-tools": _office_tools_manner,
        "scienceworld": _scienceworld_manner,
        "textworld": _textworld_manner,
    }
)
"""How built-in worlds are played whose actions are not one line of text."""


def world_names() -> tuple[str, ...]:
    """Names of the worlds that come with tutelage or with an installed package, sorted."""
    return tuple(sorted({*WORLDS, *entry_points(group=ENTRY_POINT_GROUP).names}))


def create_world(name: str, data: Path | None = None) -> Environment:
    """Makes a world.

    Args:
        name: A built-in name, one of the entry-point group ``tutelage.worlds``, or
            ``module:attribute``; the latter two name a ``WorldFactory``.
        data: The folder of the world's data, where it needs one.

    Raises:
        BenchmarkError: No world has this name.
        WorldMissing: The data is not there.
        MissingExtra: The world's extra is not installed.
    """
    world: Environment = _factory(name)(data)
    return world


def manner_of(name: str) -> Manner:
    """How a world is played; nothing of it is started.

    A factory that is not built in says it by an attribute ``manner``.

    Raises:
        BenchmarkError: No world has this name.
    """
    if name in WORLDS:
        return MANNERS[name]() if name in MANNERS else Manner()
    manner: Manner = getattr(_factory(name), "manner", Manner())
    return manner


def _factory(name: str) -> Any:
    factory: Any = WORLDS.get(name)
    if factory is None and ":" in name:
        factory = _imported(name)
    if factory is None:
        for found in entry_points(group=ENTRY_POINT_GROUP, name=name):
            factory = found.load()
    if factory is None:
        raise BenchmarkError(
            f"unknown world {name!r}: use one of {', '.join(world_names())}, or module:attribute"
        )
    return factory


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BenchmarkError(f"world {name!r} cannot be imported: {error}") from error
