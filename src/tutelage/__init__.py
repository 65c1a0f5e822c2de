"""A cheap student acts for an expensive teacher, at the teacher's success rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutelage.version import __version__

if TYPE_CHECKING:
    from tutelage.assembly import open_runtime, wrap
    from tutelage.runtime.config import Config, load_config
    from tutelage.runtime.errors import TutelageError
    from tutelage.runtime.pipeline import Runtime
    from tutelage.runtime.sync import SyncRuntime
    from tutelage.runtime.types import Answer, ChatRequest, Completion, Message, Usage

__all__ = [
    "Answer",
    "ChatRequest",
    "Completion",
    "Config",
    "Message",
    "Runtime",
    "SyncRuntime",
    "TutelageError",
    "Usage",
    "__version__",
    "load_config",
    "open_runtime",
    "wrap",
]

_HOMES = {
    "Answer": "tutelage.runtime.types",
    "ChatRequest": "tutelage.runtime.types",
    "Completion": "tutelage.runtime.types",
    "Config": "tutelage.runtime.config",
    "Message": "tutelage.runtime.types",
    "Runtime": "tutelage.runtime.pipeline",
    "SyncRuntime": "tutelage.runtime.sync",
    "TutelageError": "tutelage.runtime.errors",
    "Usage": "tutelage.runtime.types",
    "load_config": "tutelage.runtime.config",
    "open_runtime": "tutelage.assembly",
    "wrap": "tutelage.assembly",
}


def __getattr__(name: str) -> Any:
    # Names are loaded when they are used, so that `import tutelage` costs next to nothing.
    import importlib

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
