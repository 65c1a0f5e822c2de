"""The figures of one run as JSON-ready values, and as a block for the log."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tutelage.overhead.figure import Figure, value_of

ASSUMED_STEP_S = 1.0
PACKAGES = ("numpy", "faiss-cpu", "onnxruntime", "sqlalchemy", "sentence-transformers", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were taken on."""

    processor: str
    cores: int
    load: float
    """Processes that ran or waited at the start, mean of a minute; above 1 the figures suffer."""
    python: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """This machine now."""
        return cls(
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            load=os.getloadavg()[0],
            python=platform.python_version(),
            packages={name: found for name in PACKAGES if (found := _version(name))},
        )


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One run."""

    command: str
    machine: Machine
    figures: tuple[Figure, ...]

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "command": self.command,
            "machine": asdict(self.machine),
            "figures": [asdict(figure) for figure in self.figures],
        }

    def markdown(self) -> str:
        """The report as a block of Markdown."""
        machine = self.machine
        packages = ", ".join(f"{name} {found}" for name, found in machine.packages.items())
        rows = [
            f"| {one.part} | {one.name} | {one.text} | {one.note} |".replace("  ", " ")
            for one in self.figures
        ]
        lines = [
            f"`{self.command}` on {machine.processor}, {machine.cores} cores, load "
            f"{machine.load:.1f} at the start; Python {machine.python}, {packages}.",
            "Times hold for this machine; ratios carry over.",
            "",
            "| part | measure | value | note |",
            "| --- | --- | ---: | --- |",
            *rows,
        ]
        return "\n".join([*lines, ""])


def share_of_step(figures: Sequence[Figure]) -> Figure:
    """Our own CPU over a whole step: the measured cascade call, else an assumed second."""
    own_s = (value_of(figures, "step", "total") or 0.0) / 1000
    embedding_s = (value_of(figures, "step", "embedding a step") or 0.0) / 1000
    call_s = value_of(figures, "layout", "cascade call")
    if call_s is None:
        call = f"call of {ASSUMED_STEP_S:g} s, assumed: no --student-url"
        call_s = ASSUMED_STEP_S
    else:
        call = f"call of {call_s:.3g} s"
    full_s = own_s + embedding_s
    note = f"{100 * full_s / (full_s + call_s):.3g} % with embedding; beside a student {call}"
    return Figure("step", "share of a step", 100 * own_s / (own_s + call_s), "%", note)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
