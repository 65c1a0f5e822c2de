"""How many files a gateway may have open."""

from __future__ import annotations

import logging
import resource
import sys

import pytest

from tutelage.runtime.config import GatewayConfig, LimitConfig
from tutelage.runtime.gateway.connection import Connection
from tutelage.runtime.gateway.open_files import affordable_connections, raise_open_files
from tutelage.runtime.gateway.server import uvicorn_config

NO_END = resource.RLIM_INFINITY


class System:
    """Limits of a process that is not this one."""

    def __init__(self, soft: int, hard: int) -> None:
        self.limits = (soft, hard)
        self.error: Exception | None = None

    def getrlimit(self, kind: int) -> tuple[int, int]:
        assert kind == resource.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, kind: int, limits: tuple[int, int]) -> None:
        assert kind == resource.RLIMIT_NOFILE
        if self.error is not None:
            raise self.error
        self.limits = limits


def system(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> System:
    made = System(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", made.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", made.setrlimit)
    return made


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        (1024, 1_048_576, 16_000),
        (1024, 4096, 4096),
        (1024, 1024, 1024),
        (1024, NO_END, 16_000),
        (50_000, 1_048_576, 50_000),
        (NO_END, NO_END, NO_END),
    ],
)
def test_as_many_are_asked_for_as_the_system_grants(
    soft: int, hard: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = system(monkeypatch, soft, hard)
    raise_open_files(16_000)
    assert made.limits == (after, hard)


@pytest.mark.parametrize("error", [OSError("not permitted"), ValueError("not allowed")])
def test_a_system_that_grants_nothing_is_told_of(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = system(monkeypatch, 1024, 4096)
    made.error = error
    with caplog.at_level(logging.WARNING):
        raise_open_files(16_000)
    assert made.limits == (1024, 4096)
    assert "1024 files" in caplog.text


@pytest.mark.parametrize(
    ("soft", "most"), [(1024, 448), (65_536, 32_704), (100, 1), (NO_END, sys.maxsize)]
)
def test_no_more_clients_are_connected_than_have_an_upstream(
    soft: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch, soft, NO_END)
    assert affordable_connections() == most
    config = uvicorn_config(None, GatewayConfig(limits=LimitConfig(connections=2000)))
    assert isinstance(config.http, type)
    assert issubclass(config.http, Connection)
    assert config.http.crowd._most == min(most, 2000)
