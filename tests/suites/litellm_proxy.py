"""LiteLLM's proxy as a process of its own, before and behind a gateway."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tutelage.overhead.gateway.contenders import Missing
from tutelage.overhead.gateway.installed import LITELLM_VERSION, litellm_environment
from tutelage.runtime.cache_dir import cache_dir

STARTS_WITHIN_S = 120.0


def environment() -> Path:
    """Where the proxy is installed; the test is skipped if it is not."""
    found = litellm_environment(cache_dir(), install=False)
    if isinstance(found, Missing):
        # Not ``absent``: 800 MB, which `make bench` installs.
        pytest.skip(
            f"LiteLLM's proxy {LITELLM_VERSION} is not installed in "
            f"{cache_dir() / 'litellm-proxy'}: `make bench` installs it"
        )
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


@contextmanager
def proxy(folder: Path, config: str, port: int, keys: dict[str, str]) -> Iterator[str]:
    """A proxy that answers; the value is its URL, without ``/v1``.

    Args:
        folder: For its configuration and its log.
        config: The configuration, in YAML.
        port: Where it listens.
        keys: Variables of its environment.
    """
    program = environment() / "bin" / "litellm"
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "litellm.yaml", folder / "litellm.log"
    file.write_text(config, encoding="utf-8")
    command = [str(program), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **quiet, **keys},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, f"{url}/health/liveliness", log)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            said = log.read_text("utf-8", "replace")[-2000:]
            assert process.poll() is None, f"LiteLLM's proxy ended: {said}"
            assert time.monotonic() < deadline_s, f"LiteLLM's proxy does not answer: {said}"
            time.sleep(0.1)
