"""The student's vLLM server that outlives the command that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.models.vllm import VllmServer, is_healthy
from tutelage.runtime.models.vllm_guard import GRACE_S

STATE = "student-server.json"
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class StudentServer:
    """A running server, as its state file tells."""

    pid: int
    """Leader of the server's process group."""
    started_ticks: int
    """Start of that process in clock ticks since boot; tells it from a later one of the same id."""
    base_url: str
    """The OpenAI-compatible root, ending in ``/v1``."""
    model: str
    checkpoint: str
    log_path: str

    @property
    def ready(self) -> bool:
        """Whether the server answers now."""
        return is_healthy(self.base_url)


def student_server_state(cache: Path) -> StudentServer | None:
    """The server that ``start_student_server`` left running; ``None`` if there is none."""
    try:
        state = StudentServer(**json.loads((cache / STATE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _started_ticks(state.pid) == state.started_ticks else None


def start_student_server(
    cache: Path, checkpoint: Path, make_server: Callable[..., VllmServer] = VllmServer
) -> StudentServer:
    """Leaves a server running in the background and returns its state; one that runs is kept.

    Args:
        cache: Cache folder; gets the state file and the log.
        checkpoint: Folder of the checkpoint to serve.
        make_server: Called with the checkpoint and ``log_path``.

    Raises:
        ModelError: The server could not be started.
    """
    with build_lock(cache / f"{STATE}.lock"):
        running = student_server_state(cache)
        if running is not None and running.ready and running.checkpoint == str(checkpoint):
            return running
        _stop(cache)
        log_path = cache / "student-server.log"
        server = make_server(checkpoint, log_path=log_path)
        server.start(detached=True)
        pid = server.let_go()
        state = StudentServer(
            pid=pid,
            started_ticks=_started_ticks(pid) or 0,
            base_url=server.base_url,
            model=server.served_name,
            checkpoint=str(checkpoint),
            log_path=str(log_path),
        )
        fresh = cache / f"{STATE}.{os.getpid()}"
        fresh.write_text(json.dumps(asdict(state), indent=1) + "\n")
        fresh.replace(cache / STATE)
        return state


def stop_student_server(cache: Path) -> bool:
    """Ends the server that was left running; whether there was one."""
    with build_lock(cache / f"{STATE}.lock"):
        return _stop(cache)


def _stop(cache: Path) -> bool:
    state = student_server_state(cache)
    if state is not None:
        deadline = time.monotonic() + GRACE_S
        os.killpg(state.pid, signal.SIGTERM)
        while time.monotonic() < deadline and _started_ticks(state.pid) == state.started_ticks:
            time.sleep(POLL_S)
        # Workers may be left behind when their leader has gone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(state.pid, signal.SIGKILL)
    (cache / STATE).unlink(missing_ok=True)
    return state is not None


def _started_ticks(pid: int) -> int | None:
    """Field 22 of ``/proc/<pid>/stat``; ``None`` if the process has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
