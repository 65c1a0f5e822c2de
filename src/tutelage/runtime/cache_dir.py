"""Where tutelage keeps what it downloads or builds once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "TUTELAGE_CACHE"


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The cache folder: ``TUTELAGE_CACHE`` if set, else ``~/.cache/tutelage``; not created here.

    Args:
        environ: Environment to read; that of the process by default.
    """
    chosen = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "tutelage"


@contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Holds the lock file ``path``: one process builds a cache entry while others wait for it.

    The lock falls when its holder dies, so that a killed build blocks nobody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
