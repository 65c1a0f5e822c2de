from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.overhead.gateway.calls import chat_call, step_calls
from tutelage.overhead.gateway.contenders import Running
from tutelage.overhead.gateway.load import (
    RECORD,
    Load,
    Loaded,
    call_bytes,
    joined,
    read_calls,
    send_load,
    write_calls,
)
from tutelage.runtime.errors import BenchmarkError


@pytest.mark.parametrize("connections", [1, 16])
@pytest.mark.parametrize("stream", [False, True])
async def test_counts_add_up_and_percentiles_are_ordered(
    proxy: Running, stream: bool, connections: int
) -> None:
    loaded = await send_load(
        proxy.port, [chat_call({}, stream=stream)], Load(connections, seconds=0.3)
    )

    assert loaded.sent == loaded.completed > connections
    assert loaded.statuses == {200: loaded.sent}
    assert loaded.events == (23 if stream else 0)
    assert 0 < loaded.first_ms(50) <= loaded.latency_ms(50)
    assert loaded.latency_ms(50) <= loaded.latency_ms(90) <= loaded.latency_ms(99)
    assert loaded.elapsed_s > 0.15


async def test_a_file_of_calls_may_be_sent(proxy: Running, tmp_path: Path) -> None:
    write_calls(tmp_path / "calls", step_calls({}, 7))

    loaded = await send_load(proxy.port, tmp_path / "calls", Load(2, requests=9))

    assert loaded.completed == 9


async def test_nobody_listening_is_told(closed_port: int) -> None:
    with pytest.raises(BenchmarkError, match=f"failed: nobody listens at {closed_port}"):
        await send_load(closed_port, [call_bytes("/", None)], Load(requests=1))


def test_nothing_has_no_percentiles() -> None:
    nothing = Loaded(np.empty(0, RECORD), 0.0)

    assert (nothing.sent, nothing.failed, nothing.rps, nothing.events) == (0, 0, 0.0, 0.0)
    assert np.isnan(nothing.latency_ms(50))


def test_loads_are_joined() -> None:
    rows = [(0, 1_000_000, 0, -1, 0, 200, 1, 0), (0, 3_000_000, 0, -1, 0, 0, 0, 0)]
    piece = Loaded(np.array(rows, RECORD), 1.5)

    both = joined([piece, piece])

    assert (both.sent, both.completed, both.elapsed_s) == (4, 2, 3.0)
    assert both.latency_ms(100) == 1.0
    assert joined([]).sent == 0


@given(st.lists(st.binary(min_size=1)))
def test_calls_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, calls: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("calls") / "calls"

    write_calls(path, calls)

    assert read_calls(path) == calls


def test_a_call_is_a_whole_request() -> None:
    assert call_bytes("/x", b"{}", {"A": "b"}).split(b"\r\n") == [
        b"POST /x HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Accept: */*",
        b"A: b",
        b"Content-Type: application/json",
        b"Content-Length: 2",
        b"",
        b"{}",
    ]
    assert call_bytes("/x", None).startswith(b"GET /x HTTP/1.1\r\n")


def test_no_two_steps_are_alike() -> None:
    calls = list(step_calls({"Authorization": "Bearer k"}, 50))

    assert len(set(calls)) == len(calls) == 50
    assert all(b"Authorization: Bearer k\r\n" in call for call in calls)
