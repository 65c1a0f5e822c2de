"""Runs a command and ends it, with all its children, when whoever started it is gone.

``python vllm_guard.py COMMAND…`` holds its standard input open: end of file there means that the
starter stopped it or died, even by SIGKILL. It imports nothing of tutelage, so that it starts fast.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

GRACE_S = 15.0


def end_group(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> int:
    """Asks the process group of ``process`` to end, kills it after ``grace_s``; its exit status."""
    for stop_signal in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, stop_signal)
        except ProcessLookupError:
            break
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


def main(command: list[str]) -> int:
    """Runs ``command`` in a process group of its own until it ends or standard input does."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # The starter decides when to end; a Ctrl-C in its terminal must not race with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = os.pidfd_open(process.pid)
    try:
        select.select([sys.stdin.fileno(), ended], [], [])
    finally:
        status = process.poll()
        end_group(process, GRACE_S if status is None else 0.0)
    return process.returncode if status is None else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
