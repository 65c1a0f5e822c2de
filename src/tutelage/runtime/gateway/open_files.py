"""How many files, sockets among them, the system lets this process have open."""

from __future__ import annotations

import logging
import resource
import sys

logger = logging.getLogger(__name__)

# Databases, the spool, the log, and sockets that are no client's and no upstream's.
_OTHER_FILES = 128


def raise_open_files(wanted: int) -> None:
    """Lets this process have so many files open, or as many as the system grants it.

    Args:
        wanted: Sockets and files together.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < granted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        except (OSError, ValueError) as error:
            logger.warning("at most %d files may be open, as it was: %s", soft, error)


def affordable_connections() -> int:
    """Clients that can be connected at once so that each also gets an upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, (soft - _OTHER_FILES) // 2)
