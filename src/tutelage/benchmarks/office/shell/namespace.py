"""What code in the shell can use without asking: builtins and modules that only compute."""

from __future__ import annotations

import builtins
import collections
import datetime
import functools
import heapq  # noqa: F401 - loaded late by Counter
import itertools
import json
import math
import re
import statistics
import string
import types
from collections.abc import Callable, Mapping
from typing import Any

_BUILTINS = (
    *("abs", "all", "any", "ascii", "bin", "bool", "bytes", "callable", "chr", "complex", "dict"),
    *("divmod", "enumerate", "filter", "float", "format", "frozenset", "hash", "hex", "int"),
    *("isinstance", "issubclass", "iter", "len", "list", "map", "max", "min", "next", "oct", "ord"),
    *("pow", "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum"),
    *("tuple", "zip", "True", "False", "None"),
    *("ArithmeticError", "AssertionError", "AttributeError", "BaseException", "Exception"),
    *("IndexError", "KeyError", "LookupError", "MemoryError", "NameError", "OverflowError"),
    *("RecursionError", "RuntimeError", "StopIteration", "TypeError", "ValueError"),
    "ZeroDivisionError",
)
_MODULES: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "collections": (collections, ("Counter", "OrderedDict", "defaultdict", "deque")),
    "datetime": (datetime, ("date", "datetime", "time", "timedelta")),
    "functools": (functools, ("cmp_to_key", "partial", "reduce")),
    "itertools": (
        itertools,
        ("accumulate", "chain", "combinations", "count", "groupby", "islice", "product"),
    ),
    "json": (json, ("JSONDecodeError", "dumps", "loads")),
    "math": (math, ("ceil", "floor", "fsum", "inf", "isclose", "nan", "prod", "sqrt", "trunc")),
    "re": (
        re,
        (
            *("DOTALL", "IGNORECASE", "MULTILINE", "compile", "escape", "findall", "finditer"),
            *("fullmatch", "match", "search", "split", "sub"),
        ),
    ),
    "statistics": (statistics, ("mean", "median", "mode")),
    "string": (string, ("ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits")),
}
"""Only these parts of a module are shown: modules hold other modules."""


def new_namespace(apis: object, write: Callable[[str], None]) -> dict[str, Any]:
    """The names that fresh code sees.

    Args:
        apis: What is called ``apis``.
        write: Gets what is printed.
    """
    allowed = {name: getattr(builtins, name) for name in _BUILTINS}
    allowed |= {"print": _printing(write), "type": _type_of, "__import__": _importing()}
    return {"__builtins__": allowed, "__name__": "shell", "apis": apis}


def warm_up() -> None:
    """Lets the modules load now what they would load at first use."""
    datetime.datetime.strptime("2026-01-02 +0000", "%Y-%m-%d %z")
    datetime.date(2026, 1, 2).strftime("%A %d %B %Y")
    statistics.median([1, 2])
    statistics.mean([1, 2.5])
    json.loads(json.dumps({"a": [1, 2.5, None]}))
    collections.Counter("warm").most_common(1)
    re.sub(r"\w+|(?i:x)", "", "warm")


def _printing(write: Callable[[str], None]) -> Callable[..., None]:
    def print(*values: object, sep: str = " ", end: str = "\n", **others: object) -> None:
        if others:
            raise TypeError("print takes only sep and end here")
        write(sep.join(map(str, values)) + end)

    return print


def _type_of(value: object) -> type:
    return type(value)


def _importing() -> Callable[..., object]:
    made = {
        name: types.SimpleNamespace(**{part: getattr(module, part) for part in parts})
        for name, (module, parts) in _MODULES.items()
    }

    def load(
        name: str,
        outer: object = None,
        inner: object = None,
        wanted: object = (),
        level: int = 0,
    ) -> object:
        if isinstance(wanted, list):
            # C code of a module asks for another one so, and takes it from elsewhere.
            return None
        if name not in made:
            raise ImportError(f"module {name!r} is not available, only {', '.join(made)}")
        return made[name]

    return load
