"""The upstream and the load generator in C, compiled once, where there is a compiler."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import BenchmarkError

FLAGS = ("-O2", "-Wall", "-Wextra")


def compiled(name: str, cache: Path) -> Path | None:
    """The program made from ``NAME.c`` of this folder; ``None`` if there is no C compiler.

    Args:
        name: ``upstream`` or ``load``.
        cache: Keeps the program for the next time, by a digest of its source.

    Raises:
        BenchmarkError: The compiler rejects the source.
    """
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if compiler is None:
        return None
    source = files("tutelage.overhead.gateway").joinpath(f"{name}.c").read_bytes()
    digest = hashlib.sha256(b"\0".join([source, *(flag.encode() for flag in FLAGS)])).hexdigest()
    program = cache / "overhead" / f"{name}-{digest[:16]}"
    if program.exists():
        return program
    with build_lock(program.with_suffix(".lock")):
        if not program.exists():
            _compile(compiler, source, program)
    return program


def _compile(compiler: str, source: bytes, program: Path) -> None:
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, "-x", "c", "-o", str(fresh), "-"]
    done = subprocess.run(command, input=source, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BenchmarkError(f"`{' '.join(command)}` ended with {done.returncode}: {lines[0]}")
    fresh.replace(program)
