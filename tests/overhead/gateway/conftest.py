"""A scripted upstream and the raw reference, each started once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tutelage.overhead.gateway.contenders import Running, free_port, reference, running
from tutelage.overhead.gateway.upstream import Upstream, open_upstream
from tutelage.overhead.gateway.windows import Case, Window


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that keeps the compiled upstream for all tests."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session")
def upstream(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with open_upstream(tmp_path_factory.mktemp("upstream"), programs) as made:
        yield made


@pytest.fixture(scope="session")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The raw reference in front of the upstream."""
    with running(reference(upstream), tmp_path_factory.mktemp("reference")) as made:
        yield made


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens at."""
    return free_port()


def given_window(
    contender: str,
    case: Case,
    round: int = 0,
    *,
    rps: float = 100.0,
    cpu_us: float | None = 100.0,
    p50_ms: float = 1.0,
    first_ms: float = 1.0,
    completed: int = 10,
    failed: int = 0,
) -> Window:
    return Window(
        contender=contender,
        case=case,
        round=round,
        sent=completed + failed,
        completed=completed,
        failed=failed,
        elapsed_s=1.0,
        rps=rps,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        first_p50_ms=first_ms,
        first_p99_ms=2 * first_ms,
        events=23.0,
        cpu_us=cpu_us,
        rss_mb=50.0,
        statuses={200: completed, 500: failed} if failed else {200: completed},
    )


@pytest.fixture
def window() -> Callable[..., Window]:
    """Makes a window with given figures."""
    return given_window


def end_of(pids: Iterable[int]) -> list[int]:
    left, end = list(pids), time.monotonic() + 10
    while (left := [pid for pid in left if _is_running(pid)]) and time.monotonic() < end:
        time.sleep(0.01)
    return left


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def still_running() -> Callable[[Iterable[int]], list[int]]:
    """Those of some processes that have not ended ten seconds later."""
    return end_of
