"""Gateways of others, each installed into a folder of its own in the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.overhead.gateway.contenders import LITELLM, PORTKEY, Missing
from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import BenchmarkError

LITELLM_VERSION = "1.106.2"
PORTKEY_VERSION = "1.15.2"
INSTALL_S = 1200.0


def litellm_environment(cache: Path, *, install: bool = True) -> Path | Missing:
    """The virtual environment with LiteLLM's proxy, made at first use; about 800 MB.

    Args:
        cache: Cache folder.
        install: Whether it may be made.
    """
    folder = cache / "litellm-proxy"
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
    steps = (
        (sys.executable, "-m", "venv", str(folder)),
        (*pip, f"litellm[proxy]=={LITELLM_VERSION}"),
    )
    return _made(LITELLM, folder, litellm_version, steps, install=install)


def litellm_version(folder: Path) -> str | None:
    """The version in an environment; ``None`` if it is not there or not complete."""
    if not (folder / "bin" / "litellm").exists():
        return None
    names = [path.name for path in folder.glob("lib/python*/site-packages/litellm-*.dist-info")]
    return names[0].removeprefix("litellm-").removesuffix(".dist-info") if names else None


def portkey_environment(cache: Path, *, install: bool = True) -> Path | Missing:
    """The folder with Portkey's gateway, made at first use with npm; 25 MB.

    Args:
        cache: Cache folder.
        install: Whether it may be made.
    """
    folder = cache / "portkey"
    package = f"@portkey-ai/gateway@{PORTKEY_VERSION}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return Missing(PORTKEY, "skipped: node and npm are not installed")
    npm = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
    steps = ((*npm, "--prefix", str(folder), package),)
    return _made(PORTKEY, folder, portkey_version, steps, install=install)


def portkey_version(folder: Path) -> str | None:
    """The version in a folder; ``None`` if it is not there."""
    package = folder / "node_modules/@portkey-ai/gateway/package.json"
    try:
        return str(json.loads(package.read_text())["version"])
    except (OSError, ValueError, KeyError):
        return None


def _made(
    name: str,
    folder: Path,
    version_in: Callable[[Path], str | None],
    steps: Sequence[Sequence[str]],
    *,
    install: bool,
) -> Path | Missing:
    if version_in(folder) is not None:
        return folder
    if not install:
        return Missing(name, f"skipped: not installed in {folder}")
    with build_lock(folder.with_name(folder.name + ".lock")):
        if version_in(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for step in steps:
                    _run(step)
            except BenchmarkError as error:
                return Missing(name, f"skipped: {error}")
    return folder


def _run(command: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INSTALL_S,
            check=False,
            env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"`{' '.join(command)}`: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BenchmarkError(f"`{' '.join(command)}` ended with {done.returncode}: {lines[-1]}")
