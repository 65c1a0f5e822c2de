"""The server of a diffusion student as a child process, handled as a vLLM server is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.runtime.models.vllm import HOST, VllmServer
from tutelage.runtime.models.vllm_environment import Device

SHAPE_FILE = "diffusion.json"
"""What the folder of a diffusion student has, and no other checkpoint."""


def is_diffusion(checkpoint: Path) -> bool:
    """Whether the folder of a checkpoint holds a diffusion student."""
    return (checkpoint / SHAPE_FILE).is_file()


class DiffusionStudentServer(VllmServer):
    """``tutelage student serve`` on the loopback interface, as a (sync or async) context.

    Args:
        checkpoint: Folder of a diffusion student.
        port: Port to listen on; 0 takes a free one at the start.
        served_name: Model name that requests use.
        rule: Of committing.
        threshold: Of the rule; its own if ``None``.
        threads: Of torch; ``None`` leaves one core free.
        log_path: File that gets the server's output; a temporary one if ``None``.
        device: ``cpu`` or ``cuda``; detected if ``None``.
        start_timeout_s: Longest wait for the server to be ready.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        port: int = 0,
        served_name: str = "student",
        rule: str = "entropy",
        threshold: float | None = None,
        threads: int | None = None,
        log_path: Path | None = None,
        device: Device | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        super().__init__(
            checkpoint,
            port=port,
            served_name=served_name,
            log_path=log_path,
            device=device,
            command=(sys.executable, "-m", "tutelage.cli.main"),
            start_timeout_s=start_timeout_s,
        )
        self._options = [
            *("--rule", rule),
            *(() if threshold is None else ("--threshold", str(threshold))),
            *(() if threads is None else ("--threads", str(threads))),
        ]

    def _arguments(self, device: Device) -> list[str]:
        return [
            *("student", "serve", "--diffusion", str(self.checkpoint)),
            *("--host", HOST, "--port", str(self.port), "--name", self.served_name),
            *("--device", device),
            *self._options,
        ]

    def _environ(self, device: Device) -> dict[str, str]:
        return dict(os.environ)


def server_of(
    checkpoint: Path,
    *,
    served_name: str = "student",
    extra_arguments: Sequence[str] = (),
    **more: Any,
) -> VllmServer:
    """The server that can serve a checkpoint: vLLM, or ours for a diffusion student.

    Args:
        checkpoint: Folder of it.
        served_name: Model name that requests use.
        extra_arguments: Further arguments of ``vllm serve``; a diffusion student has none.
        more: As ``VllmServer``; of these a diffusion student takes ``log_path``, ``port``,
            ``device`` and ``start_timeout_s``.
    """
    if not is_diffusion(checkpoint):
        return VllmServer(
            checkpoint, served_name=served_name, extra_arguments=extra_arguments, **more
        )
    taken = ("log_path", "port", "device", "start_timeout_s")
    fitting = {name: value for name, value in more.items() if name in taken}
    return DiffusionStudentServer(checkpoint, served_name=served_name, **fitting)
