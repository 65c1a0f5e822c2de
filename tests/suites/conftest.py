"""Real gateways for the suites, in every mode, before a scripted model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fault_upstream import ThreadedUpstream, threaded_upstream
from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.gateways import RunningGateway, lose_database, serving, write_config
from tests.suites.house import House, open_house

MODES = ("passthrough", "teacher", "translated", "student", "refused", "spooled")
"""``passthrough``: relayed unread; ``teacher``: through the runtime, in the client's wire;
``translated``: the teacher speaks the chat wire alone; ``student``: its samples agree;
``refused``: they do not, and the teacher serves; ``spooled``: ``student`` without a database."""
GATEWAYS = {"refused": "wavers", "spooled": "adrift"}
"""Which of the gateways a mode is served by; absent: ``agrees``."""
WIRES = ("chat", "responses", "messages")
TEACHER = "clever-1"


@dataclass(frozen=True)
class Door:
    """Where a client comes in, and the model it asks for."""

    mode: str
    gateway: RunningGateway

    @property
    def url(self) -> str:
        """For Anthropic clients."""
        return self.gateway.url

    @property
    def openai_url(self) -> str:
        return self.gateway.openai_url

    @property
    def model(self) -> str:
        return self.mode

    @property
    def served_by(self) -> str:
        """Who serves, as the header ``x-tutelage-served`` begins."""
        served = {"student": "student", "spooled": "student", "translated": "chat-only"}
        return served.get(self.mode, "teacher")


@pytest.fixture(scope="session")
def clever() -> Iterator[tuple[CleverUpstream, str]]:
    """The scripted model, and its base URL."""
    upstream = CleverUpstream()
    with served(upstream) as base_url:
        yield upstream, base_url


@pytest.fixture(scope="session")
def faulty() -> Iterator[ThreadedUpstream]:
    """The upstream of every model that is not configured; it fails as the model's name says."""
    with threaded_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateways(
    clever: tuple[CleverUpstream, str],
    faulty: ThreadedUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, RunningGateway]]:
    """``agrees`` and ``wavers``, by what their student does; ``keyed``; ``adrift`` has lost its
    database."""
    folder = tmp_path_factory.mktemp("gateways")
    with ExitStack() as stack:
        configs = {
            name: suite_config(folder / name, clever[1], faulty.base_url, student)
            for name, student in {
                "agrees": "obliging",
                "wavers": "wavering-obliging",
                "keyed": "obliging",
                "adrift": "obliging",
            }.items()
        }
        started = stack.enter_context(serving(configs, keyed=frozenset({"keyed"})))
        lose_database(started["adrift"], "spooled")
        yield started


def suite_config(folder: Path, clever_url: str, faulty_url: str, student: str) -> Path:
    """A gateway with an alias for every mode, and upstreams that fail for any other model."""
    endpoint = {"base_url": clever_url, "priced_as": "gpt-4.1", "attempts": 1}
    teacher = {**endpoint, "model": TEACHER}
    faulty = {**endpoint, "base_url": faulty_url, "wires": WIRES, "break_after": 10_000}
    taught = {"policy": "always-teacher"}
    return write_config(
        folder,
        {
            "teacher": {**teacher, "wires": WIRES},
            "upstreams.chat-only": {**teacher, "wires": ("chat",)},
            "upstreams.faulty": faulty,
            "student": {
                "base_url": clever_url,
                "model": student,
                "price": {"input": 0.1, "output": 0.2},
            },
            "retrieval": {"embedder": "hash"},
            # Suites repeat themselves, which is not what is tested here.
            "cascade": {"guards": ()},
            "aliases.passthrough": {"mode": "passthrough"},
            "aliases.teacher": taught,
            "aliases.translated": {**taught, "upstreams": ("chat-only",)},
            "aliases.student": {},
            "aliases.refused": {},
            "aliases.spooled": {},
            'aliases."*"': {"mode": "passthrough", "upstreams": ("faulty",)},
        },
    )


@pytest.fixture(scope="session", params=MODES)
def door(request: pytest.FixtureRequest, gateways: dict[str, RunningGateway]) -> Door:
    """A gateway in each mode."""
    mode = request.param
    return Door(mode, gateways[GATEWAYS.get(mode, "agrees")])


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Gateways that a household is played through."""
    with open_house(tmp_path_factory.mktemp("household")) as opened:
        yield opened
