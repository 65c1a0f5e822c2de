import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutelage.runtime.errors import ModelError
from tutelage.runtime.models.student_server import (
    start_student_server,
    stop_student_server,
    student_server_state,
)
from tutelage.runtime.models.vllm import (
    ServerMetrics,
    VllmServer,
    free_port,
    is_healthy,
    parse_metrics,
    read_metrics,
)

FAKE = [sys.executable, str(Path(__file__).with_name("fake_vllm.py"))]


def fake_server(checkpoint: Path, **settings: object) -> VllmServer:
    return VllmServer(checkpoint, device="cpu", command=FAKE, **settings)  # type: ignore[arg-type]


def child_of(log: Path) -> int:
    found = re.search(r"^child (\d+)$", log.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def wait_for_child(log: Path) -> None:
    while not (log.exists() and "child" in log.read_text()):
        time.sleep(0.02)


def has_ended(pid: int, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_server_answers_while_its_context_is_open(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with fake_server(tmp_path, log_path=log, max_model_len=512) as server:
        assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
        assert is_healthy(server.base_url)
        assert server.metrics() == ServerMetrics(1000, 256, 1200, 35)
    assert not is_healthy(server.base_url)
    assert server.pid is None
    assert has_ended(child_of(log))
    arguments = log.read_text().splitlines()[0]
    for expected in (
        f"serve {tmp_path}",
        "--host 127.0.0.1",
        "--served-model-name student",
        "--max-model-len 512",
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--enforce-eager",
        "--block-size 32",
    ):
        assert expected in arguments
    assert "VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=None HF_HUB_OFFLINE=1" in (
        log.read_text()
    )


async def test_a_server_is_an_async_context_too(tmp_path: Path) -> None:
    settings = {"prefix_caching": False, "all_cores": True, "extra_arguments": ["--seed", "7"]}
    async with fake_server(tmp_path, log_path=tmp_path / "log", **settings) as server:
        assert is_healthy(server.base_url)
    text = (tmp_path / "log").read_text()
    assert "--no-enable-prefix-caching" in text
    assert "--seed 7" in text
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    assert f"VLLM_CPU_OMP_THREADS_BIND={cores} " in text


def test_a_cuda_server_is_not_given_the_settings_of_cpus(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with VllmServer(tmp_path, device="cuda", command=FAKE, log_path=log):
        assert "--enforce-eager" not in log.read_text()
        assert "--block-size" not in log.read_text()
        assert "VLLM_CPU_KVCACHE_SPACE=None" in log.read_text()


def test_a_crash_at_the_start_shows_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "crash")
    server = fake_server(tmp_path)
    with pytest.raises(ModelError, match=r"(?s)ended with status 1;.*Frobnicator"):
        server.start()
    assert server.pid is None
    assert server.log_path is not None
    server.log_path.unlink()


def test_a_server_that_is_never_ready_is_ended_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "hang")
    server = fake_server(tmp_path, log_path=tmp_path / "log", start_timeout_s=3.0)
    with pytest.raises(ModelError, match="not ready after 3 s"):
        server.start()
    assert has_ended(child_of(tmp_path / "log"))


async def test_cancelling_a_start_ends_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "hang")
    log = tmp_path / "log"
    server = fake_server(tmp_path, log_path=log)
    task = asyncio.create_task(server.__aenter__())
    await asyncio.to_thread(wait_for_child, log)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(has_ended, child_of(log))


def test_a_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path\n"
            "from tutelage.runtime.models.vllm import VllmServer\n"
            "server = VllmServer(Path('.'), device='cpu', command=sys.argv[2:],"
            " log_path=Path(sys.argv[1]))\n"
            "server.start(); print(server.base_url, flush=True); time.sleep(600)",
            str(log),
            *FAKE,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent:
        base_url = parent.stdout.readline().strip()
        assert is_healthy(base_url)
        parent.kill()
    assert has_ended(child_of(log))
    assert not is_healthy(base_url)


def test_a_terminated_guard_ends_its_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with fake_server(tmp_path, log_path=log) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        assert has_ended(child_of(log))


def test_a_server_in_the_foreground_returns_its_exit_status(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def kill_it(server: VllmServer) -> None:
        fields = Path(f"/proc/{child_of(log)}/stat").read_text().rpartition(")")[2].split()
        os.kill(int(fields[1]), signal.SIGKILL)

    assert fake_server(tmp_path, log_path=log).serve_forever(kill_it) != 0
    assert has_ended(child_of(log))


def test_ctrl_c_ends_a_server_in_the_foreground(tmp_path: Path) -> None:
    def interrupt(server: VllmServer) -> None:
        raise KeyboardInterrupt

    log = tmp_path / "log"
    assert fake_server(tmp_path, log_path=log).serve_forever(interrupt) == 130
    assert has_ended(child_of(log))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with fake_server(tmp_path, log_path=tmp_path / "log") as server:
        with pytest.raises(ModelError, match=f"port {server.port} is in use"):
            fake_server(tmp_path, port=server.port).start()
        with pytest.raises(ModelError, match="already started"):
            server.start()


def test_a_missing_environment_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="make student"):
        VllmServer(tmp_path, device="cpu", log_path=tmp_path / "log").start()


def test_stopping_a_server_that_does_not_run_does_nothing(tmp_path: Path) -> None:
    server = fake_server(tmp_path)
    server.stop()
    assert server.pid is None


def test_metrics_of_a_dead_server_are_a_model_error() -> None:
    with pytest.raises(ModelError, match="does not answer"):
        read_metrics(f"http://127.0.0.1:{free_port()}/v1")


def test_metrics_skip_what_they_do_not_know() -> None:
    page = 'vllm:prompt_tokens_total{engine="0"} 5.0\nvllm:prompt_tokens_total nonsense\nother 3\n'
    assert parse_metrics(page) == ServerMetrics(0, 0, 5, 0)


def test_metrics_can_be_subtracted_and_give_a_hit_rate() -> None:
    grown = ServerMetrics(300, 90, 500, 50) - ServerMetrics(100, 40, 200, 20)
    assert grown == ServerMetrics(200, 50, 300, 30)
    assert grown.hit_rate == 0.25
    assert ServerMetrics(0, 0, 0, 0).hit_rate == 0.0


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_student_server(tmp_path)


def test_a_detached_server_is_found_kept_and_ended(cache: Path) -> None:
    checkpoint = cache / "checkpoint"
    started = start_student_server(cache, checkpoint, fake_server)
    assert started.ready
    assert student_server_state(cache) == started
    assert start_student_server(cache, checkpoint, fake_server) == started
    assert stop_student_server(cache)
    assert has_ended(child_of(Path(started.log_path)))
    assert student_server_state(cache) is None
    assert not stop_student_server(cache)


def test_a_detached_server_outlives_its_starter(cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tutelage.runtime.models.student_server import start_student_server\n"
        "from tutelage.runtime.models.vllm import VllmServer\n"
        "start_student_server(Path(sys.argv[1]), Path('checkpoint'), lambda checkpoint, log_path:"
        " VllmServer(checkpoint, log_path=log_path, device='cpu', command=sys.argv[2:]))"
    )
    subprocess.run([sys.executable, "-c", code, str(cache), *FAKE], check=True)
    state = student_server_state(cache)
    assert state is not None
    assert state.ready


def test_another_checkpoint_replaces_the_detached_server(cache: Path) -> None:
    first = start_student_server(cache, cache / "one", fake_server)
    second = start_student_server(cache, cache / "two", fake_server)
    assert has_ended(first.pid)
    assert second.ready
    assert student_server_state(cache) == second


def test_a_damaged_state_file_means_no_server(cache: Path) -> None:
    (cache / "student-server.json").write_text('{"pid": ')
    assert student_server_state(cache) is None
