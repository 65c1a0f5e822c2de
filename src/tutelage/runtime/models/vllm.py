"""A vLLM server as a child process: started, waited for, measured and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tutelage.runtime.cache_dir import cache_dir
from tutelage.runtime.errors import ModelError
from tutelage.runtime.models import vllm_guard
from tutelage.runtime.models.vllm_environment import (
    Device,
    detect_device,
    is_installed,
    vllm_folder,
)

HOST = "127.0.0.1"
POLL_S = 0.2
CPU_BLOCK_SIZE = 32
TAIL_LINES = 8

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """Counters of a vLLM server since its start; two readings can be subtracted."""

    prefix_cache_queries: int
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_cache_hits: int
    """Prompt tokens that were found there."""
    prompt_tokens: int
    generation_tokens: int

    @property
    def hit_rate(self) -> float:
        """Hits over queries, in [0, 1]; 0 without queries."""
        queries = self.prefix_cache_queries
        return self.prefix_cache_hits / queries if queries else 0.0

    def __sub__(self, earlier: ServerMetrics) -> ServerMetrics:
        return ServerMetrics(
            self.prefix_cache_queries - earlier.prefix_cache_queries,
            self.prefix_cache_hits - earlier.prefix_cache_hits,
            self.prompt_tokens - earlier.prompt_tokens,
            self.generation_tokens - earlier.generation_tokens,
        )


def parse_metrics(text: str) -> ServerMetrics:
    """Reads the counters from a Prometheus page, summed over engines; absent ones are 0."""
    totals = dict.fromkeys(
        ("prefix_cache_queries", "prefix_cache_hits", "prompt_tokens", "generation_tokens"), 0.0
    )
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0].removeprefix("vllm:").removesuffix("_total")
        if name in totals and series.startswith("vllm:"):
            with contextlib.suppress(ValueError):
                totals[name] += float(value)
    return ServerMetrics(**{name: int(total) for name, total in totals.items()})


def read_metrics(base_url: str, timeout_s: float = 10.0) -> ServerMetrics:
    """The counters of the server at ``base_url``, which may end in ``/v1``.

    Raises:
        ModelError: The server does not answer.
    """
    url = base_url.rstrip("/").removesuffix("/v1") + "/metrics"
    try:
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return parse_metrics(answer.read().decode())
    except (OSError, urllib.error.URLError) as error:
        raise ModelError(f"{url} does not answer: {error}") from error


def is_healthy(base_url: str, timeout_s: float = 2.0) -> bool:
    """Whether the server at ``base_url``, which may end in ``/v1``, says that it is ready."""
    try:
        url = base_url.rstrip("/").removesuffix("/v1") + "/health"
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class VllmServer:
    """A vLLM server on the loopback interface, as a (sync or async) context.

    It ends with the process that started it, also when that is killed.

    Args:
        checkpoint: Folder of a Hugging Face checkpoint.
        port: Port to listen on; 0 takes a free one at the start.
        served_name: Model name that requests use.
        max_model_len: Longest prompt plus answer in tokens.
        max_num_seqs: Most sequences decoded at a time.
        prefix_caching: Whether prompts share the cache of a common prefix.
        kv_cache_gib: Size of the cache of keys and values; used on CPUs only.
        block_size: Tokens in a block of that cache, the grain of its sharing; ``None`` is 32 on
            CPUs, where vLLM's own 128 leaves much of a short prompt unshared, else vLLM's.
        all_cores: On CPUs, compute on every core, which speeds prefill if nothing else runs there;
            else vLLM keeps one free. Its threads spin at barriers, so neighbours slow it a lot.
        extra_arguments: Further arguments of ``vllm serve``.
        log_path: File that gets the server's output; a temporary one if ``None``.
        device: ``cpu`` or ``cuda``; detected if ``None``.
        command: What to run in place of ``vllm`` from the environment in the cache.
        start_timeout_s: Longest wait for the server to be ready.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        port: int = 0,
        served_name: str = "student",
        max_model_len: int = 2048,
        max_num_seqs: int = 16,
        prefix_caching: bool = True,
        kv_cache_gib: int = 2,
        block_size: int | None = None,
        all_cores: bool = False,
        extra_arguments: Sequence[str] = (),
        log_path: Path | None = None,
        device: Device | None = None,
        command: Sequence[str] | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        self.checkpoint = checkpoint
        self.port = port
        self.served_name = served_name
        self.log_path = log_path
        self._max_model_len = max_model_len
        self._max_num_seqs = max_num_seqs
        self._prefix_caching = prefix_caching
        self._kv_cache_gib = kv_cache_gib
        self._block_size = block_size
        self._all_cores = all_cores
        self._extra_arguments = tuple(extra_arguments)
        self._device = device
        self._command = command
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = threading.Event()

    @property
    def base_url(self) -> str:
        """The OpenAI-compatible root, ending in ``/v1``."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def pid(self) -> int | None:
        """Id of the child, which leads a process group of its own; ``None`` if not started."""
        return self._process.pid if self._process else None

    def start(self, *, detached: bool = False) -> None:
        """Starts the server and waits until it is ready.

        Args:
            detached: Let the server outlive this process.

        Raises:
            ModelError: vLLM is not installed, the server ended, or it was not ready in time; the
                text ends with the last lines of its log.
        """
        if self._process is not None:
            raise ModelError(f"the vLLM server on port {self.port} is already started")
        device = self._device or detect_device()
        self._abandoned.clear()
        self.port = self.port or free_port()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, self.port)) == 0:
                raise ModelError(f"port {self.port} is in use: stop what listens there, or use 0")
        if self.log_path is None:
            handle, name = tempfile.mkstemp(prefix="vllm-", suffix=".log")
            os.close(handle)
            self.log_path = Path(name)
        command = [*self._executable(device), *self._arguments(device)]
        if not detached:
            command = [sys.executable, vllm_guard.__file__, *command]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environ(device),
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end()
            raise

    def let_go(self) -> int:
        """Gives up a server that was started detached, so that it runs on, and returns its pid."""
        process, self._process = self._process, None
        assert process is not None
        # Popen warns when it is dropped with its child alive, which is what is wanted here.
        process.returncode = 0
        return process.pid

    def stop(self) -> None:
        """Ends the server and its children; does nothing if it is not running."""
        self._abandoned.set()
        self._end()

    def metrics(self) -> ServerMetrics:
        """The server's counters since its start.

        Raises:
            ModelError: The server does not answer.
        """
        return read_metrics(self.base_url)

    def serve_forever(self, ready: Callable[[VllmServer], None] | None = None) -> int:
        """Starts the server, stays until it ends or Ctrl-C, and returns its exit status.

        Args:
            ready: Called once the server answers.

        Raises:
            ModelError: As ``start``.
        """
        try:
            self.start()
            process = self._process
            assert process is not None
            if ready is not None:
                ready(self)
            return process.wait()
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            self.stop()

    def __enter__(self) -> VllmServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> VllmServer:
        try:
            await asyncio.to_thread(self.start)
        except asyncio.CancelledError:
            self._abandoned.set()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _executable(self, device: Device) -> list[str]:
        if self._command is not None:
            return list(self._command)
        folder = vllm_folder(cache_dir(), device)
        if not is_installed(folder):
            raise ModelError(f"vLLM is not installed in {folder}: run `make student`")
        return [str(folder / "bin" / "vllm")]

    def _arguments(self, device: Device) -> list[str]:
        caching = "" if self._prefix_caching else "no-"
        block_size = self._block_size or (CPU_BLOCK_SIZE if device == "cpu" else None)
        return [
            "serve",
            str(self.checkpoint),
            *("--host", HOST),
            *("--port", str(self.port)),
            *("--served-model-name", self.served_name),
            *("--max-model-len", str(self._max_model_len)),
            *("--max-num-seqs", str(self._max_num_seqs)),
            f"--{caching}enable-prefix-caching",
            # Without it the usage of an answer does not tell cached prompt tokens apart.
            "--enable-prompt-tokens-details",
            *(("--enforce-eager",) if device == "cpu" else ()),
            *(("--block-size", str(block_size)) if block_size else ()),
            *self._extra_arguments,
        ]

    def _environ(self, device: Device) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if device == "cpu":
            environ["VLLM_CPU_KVCACHE_SPACE"] = str(self._kv_cache_gib)
            if self._all_cores:
                cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
                environ["VLLM_CPU_OMP_THREADS_BIND"] = cores
                openmp = vllm_folder(cache_dir(), device) / "lib" / "libiomp5.so"
                if openmp.exists():
                    # Several threads decode several times faster with it than with GNU's OpenMP.
                    environ["LD_PRELOAD"] = str(openmp)
        return environ

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            if process.poll() is not None:
                self._fail(f"the vLLM server ended with status {process.returncode}")
            if is_healthy(self.base_url):
                return
            if self._abandoned.wait(POLL_S):
                self._fail("the start of the vLLM server was given up")
            if time.monotonic() > deadline:
                self._fail(f"the vLLM server was not ready after {self._start_timeout_s:g} s")

    def _fail(self, what: str) -> None:
        assert self.log_path is not None
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        tail = "\n".join(lines[-TAIL_LINES:]) or "(empty)"
        raise ModelError(f"{what}; end of its log {self.log_path}:\n{tail}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is None:
            vllm_guard.end_group(process)
            return
        process.stdin.close()
        process.wait()
