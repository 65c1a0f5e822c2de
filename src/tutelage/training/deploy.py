"""Brings a release up on every server of the student, proves that it answers, and takes it down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from tutelage.runtime.errors import ReleaseRefused, TrainingError
from tutelage.runtime.models.student_server import start_student_server, stop_student_server
from tutelage.runtime.models.vllm import VllmServer
from tutelage.runtime.release import Release
from tutelage.training.probe import recognised
from tutelage.training.releases import verify
from tutelage.training.replica import Replica, answers_on_all

logger = logging.getLogger(__name__)

Open = Callable[[str], Replica]
"""Opens the replica at an address."""


class Deployment(Protocol):
    """A way to have a release served."""

    async def up(self, release: Release) -> str | None:
        """Has it served everywhere under its name; doing it again changes nothing.

        Returns:
            The address where it answers, if that is not the student's.

        Raises:
            TrainingError: It is not served, or other weights answer under its name.
            ModelError: A server does not answer.
        """
        ...

    async def down(self, release: Release) -> None:
        """Has it served no longer.

        Raises:
            ModelError: A server does not answer.
        """
        ...


class AdapterDeployment:
    """Servers of the base weights load the adapter of a release while they run.

    Args:
        addresses: Of all replicas, each ending in ``/v1``.
        open_replica: Opens one.
    """

    def __init__(self, addresses: Sequence[str], open_replica: Open = Replica) -> None:
        self._addresses = tuple(addresses)
        self._open = open_replica

    async def up(self, release: Release) -> str | None:
        """As ``Deployment.up``; each replica is asked by itself, no balancer in between."""
        if release.kind != "adapter":
            raise ReleaseRefused(
                f"{release.name} is merged weights: set releases.serve = 'server' or 'elsewhere'"
            )
        verify(release)
        for address in self._addresses:
            async with self._open(address) as replica:
                await replica.load_adapter(release.name, release.folder)
                await check_weights(replica, release)
        return None

    async def down(self, release: Release) -> None:
        """Unloads the adapter everywhere."""
        for address in self._addresses:
            async with self._open(address) as replica:
                await replica.unload_adapter(release.name)


class ServerDeployment:
    """Merged weights in a vLLM server of their own on this machine.

    Args:
        folder: Gets the state and the log of each server.
        make_server: Called with a checkpoint, ``log_path`` and ``served_name``.
        open_replica: Opens the replica at an address.
    """

    def __init__(
        self,
        folder: Path,
        make_server: Callable[..., VllmServer] = VllmServer,
        open_replica: Open = Replica,
    ) -> None:
        self._folder = folder
        self._make_server = make_server
        self._open = open_replica

    async def up(self, release: Release) -> str | None:
        """As ``Deployment.up``; a server that runs already is kept."""
        if release.kind != "full":
            raise ReleaseRefused(f"{release.name} is an adapter: set releases.serve = 'adapter'")
        verify(release)
        make = partial(self._make_server, served_name=release.name)
        place = self._folder / release.name
        state = await asyncio.to_thread(start_student_server, place, Path(release.folder), make)
        async with self._open(state.base_url) as replica:
            await check_weights(replica, release)
        return state.base_url

    async def down(self, release: Release) -> None:
        """Ends the server."""
        await asyncio.to_thread(stop_student_server, self._folder / release.name)


class ElsewhereDeployment:
    """Something else has the release served; here it is waited for and proven.

    Args:
        addresses: Of all replicas, each ending in ``/v1``.
        wait_s: Longest wait.
        open_replica: Opens one.
    """

    def __init__(
        self, addresses: Sequence[str], wait_s: float, open_replica: Open = Replica
    ) -> None:
        self._addresses = tuple(addresses)
        self._wait_s = wait_s
        self._open = open_replica

    async def up(self, release: Release) -> str | None:
        """As ``Deployment.up``."""
        for address in self._addresses:
            async with self._open(address) as replica:
                await answers_on_all([replica], release.name, wait_s=self._wait_s)
                await check_weights(replica, release)
        return None

    async def down(self, release: Release) -> None:
        """Says that it may be removed: that is somebody else's to do."""
        logger.info("%s serves no longer: its servers may go", release.name)


async def check_weights(replica: Replica, release: Release) -> None:
    """Proves that a replica answers with the weights of a release.

    Source: a name that is listed proves nothing, as servers were seen to answer with the base
    weights, or from a prefix cache of older ones; hence immutable names, and this probe.

    Raises:
        TrainingError: Other weights answer, or the release has no probe.
        ModelError: The replica does not answer.
    """
    probe = release.probe
    if probe is None:
        raise TrainingError(f"{release.name} has no probe: its weights cannot be recognised")
    told = await replica.logprob(release.name, probe)
    if not recognised(probe, told):
        raise TrainingError(
            f"{replica.base_url} answers to {release.name} with other weights: log-probability "
            f"{told:.3f}, while the release has {probe.logprob:.3f} and its parent "
            f"{probe.parent_logprob:.3f}; restart that server"
        )


async def drain(
    deployment: Deployment,
    release: Release,
    drain_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Takes a release down after what it has begun had time to finish.

    Args:
        deployment: How it is served.
        release: Which; nobody may be sent to it any more.
        drain_s: At least what workers need to hear of it, plus the student's deadline.
        sleep: Waits.
    """
    await sleep(drain_s)
    await deployment.down(release)
