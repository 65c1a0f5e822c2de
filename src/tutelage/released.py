"""Releases of the student in the runtime: what acts for each, and by which policy."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tutelage.assembly import teacher_cost, teacher_of
from tutelage.endpoints import endpoint
from tutelage.runtime.config import Config
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.protocols import ActingStudent, Model
from tutelage.runtime.release import Release, Served, Traffic

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tutelage.cascade.watch import ReleaseWatches
    from tutelage.policies import Choice, Policies
    from tutelage.runtime.released_student import ReleasedStudents

logger = logging.getLogger(__name__)

CALIBRATED = frozenset({"calibrated", "benefit"})
"""Policies that decide by a policy file."""


class Releases:
    """Makes what acts for the releases that the database says serve.

    Args:
        config: The configuration, with ``releases.student`` set.
        engine: The database.
        bank_version: Tells the version of the demonstrations.
        watches: Where the watch over the policy of each release is kept.
        timer: A monotonic clock in seconds.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        bank_version: Callable[[], Awaitable[str]],
        watches: ReleaseWatches | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        from tutelage.runtime.released_student import CurrentTraffic
        from tutelage.runtime.store.releases import SqlReleaseStore

        self._config = config
        self._bank_version = bank_version
        self._watches = watches
        self._student = config.releases.student or ""
        self._store = SqlReleaseStore(engine, time.time)
        # A slow database may hold this thread; it must hold no other work up.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tutelage-releases")
        self._stack = AsyncExitStack()
        self._models: dict[tuple[str, str], Model] = {}
        self._refused: dict[str, str] = {}
        chosen = config.releases
        self._traffic = CurrentTraffic(
            self._read, refresh_s=chosen.refresh_s, patience_s=chosen.patience_s, timer=timer
        )

    @property
    def serving(self) -> frozenset[str]:
        """Names of the releases that serve, as far as this process knows."""
        return self._traffic.serving

    @property
    def refused(self) -> frozenset[str]:
        """Those of them whose policy was refused, so that the safe one decides."""
        return self.serving & self._refused.keys()

    def students(self, choice: Choice, teacher_only_tools: Sequence[str]) -> ReleasedStudents:
        """Chooses among the releases, with the policies of one alias."""
        from tutelage.runtime.released_student import ReleasedStudents

        async def make(served: Served) -> ActingStudent:
            return await self._acting(served, choice, teacher_only_tools)

        return ReleasedStudents(self._traffic, make)

    async def aclose(self) -> None:
        """Closes the models and ends the thread."""
        await self._stack.aclose()
        await asyncio.to_thread(self._thread.shutdown)

    async def _read(self) -> Mapping[str, Traffic]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._store.all_traffic, self._student)

    async def _acting(
        self, served: Served, choice: Choice, teacher_only_tools: Sequence[str]
    ) -> ActingStudent:
        from tutelage.policies import Policies

        config = released_config(self._config, served)
        name = choice.policy or config.cascade.policy
        if name in CALIBRATED:
            policies, refusal = await self._calibrated(config, served)
            if refusal is None:
                self._refused.pop(served.name, None)
            else:
                self._refused[served.name] = refusal
                choice = replace(choice, policy=config.releases.safe_policy)
                logger.warning(
                    "the policy of %s is refused, and %s decides instead: %s",
                    served.name,
                    choice.policy,
                    refusal,
                )
        else:
            policies = Policies(_without_file(config), teacher_cost(config))
        policy = policies.policy(choice, tuple(teacher_only_tools), prepare=True)
        logger.info("the student %s acts, policy %s", served.name, choice.policy or name)
        return ActingStudent(
            self._model(config, served), policy, policies.describer(choice.options), served.name
        )

    async def _calibrated(self, config: Config, served: Served) -> tuple[Policies, str | None]:
        """The policies of a release, and why its policy file does not hold where it does not."""
        from tutelage.policies import Policies

        unfit = Policies(_without_file(config), teacher_cost(config))
        if served.policy is None:
            return unfit, "none was calibrated for it: run `tutelage calibrate`"
        try:
            path = _written(folder_of(config), served)
            cascade = config.cascade.model_copy(update={"policy_file": str(path)})
            fitted = Policies(config.model_copy(update={"cascade": cascade}), teacher_cost(config))
            file = fitted.file
            assert file is not None
            teacher = teacher_of(config, file.conditions.teacher)
            file.check(fitted.conditions(await self._bank_version(), teacher), path)
            if self._watches is not None:
                # One for all aliases, so that each decides by all that is known.
                fitted.watch = self._watches.joined(served.name, str(path), fitted.watch)
        except ConfigError as error:
            return unfit, str(error)
        return fitted, None

    def _model(self, config: Config, served: Served) -> Model:
        key = (served.name, config.student.base_url or "")
        if key not in self._models:
            made = endpoint(config.student, "student")
            self._stack.push_async_callback(made.aclose)
            self._models[key] = made
        return self._models[key]


def released_config(config: Config, served: Served) -> Config:
    """The configuration in which a release is the student; its policy file is not set."""
    student = config.student.model_copy(
        update={
            "model": served.name,
            "weights": served.weights_sha256,
            "base_url": served.base_url or config.student.base_url,
        }
    )
    return _without_file(config.model_copy(update={"student": student}))


def policy_for(config: Config, release: Release, path: Path) -> tuple[dict[str, Any], str]:
    """A policy file as it is kept with a release, and its SHA-256.

    Raises:
        ConfigError: The file cannot be read, or was calibrated for another student.
    """
    from tutelage.cascade.policy_file import PolicyFile
    from tutelage.policies import student_identity

    file = PolicyFile.read(path)
    served = Served(release.name, release.weights_sha256, release.base_url)
    wanted = student_identity(released_config(config, served))
    if file.conditions.student != wanted:
        raise ConfigError(
            f"{path} was calibrated for {file.conditions.student!r}, and {release.name} is "
            f"{wanted!r}: calibrate with --set student.model={release.name} "
            f"--set student.weights={release.weights_sha256}"
        )
    told = file.model_dump(mode="json")
    return told, policy_digest(told)


def policy_digest(policy: Mapping[str, Any]) -> str:
    """SHA-256 of a policy, whatever the order of its fields."""
    return hashlib.sha256(orjson.dumps(policy, option=orjson.OPT_SORT_KEYS)).hexdigest()


def folder_of(config: Config) -> Path:
    """Where the files of releases are."""
    from tutelage.runtime.cache_dir import cache_dir

    chosen = config.releases.folder
    return Path(chosen).expanduser() if chosen else cache_dir() / "releases"


def _without_file(config: Config) -> Config:
    cascade = config.cascade.model_copy(update={"policy_file": None})
    return config.model_copy(update={"cascade": cascade})


def _written(folder: Path, served: Served) -> Path:
    """The policy of a release as a file, beside which its alarm is kept."""
    from tutelage.cascade.policy_file import PolicyFile

    digest = policy_digest(served.policy or {})[:16]
    path = folder / "policies" / f"{served.name}-{digest}.json"
    if not path.is_file():
        try:
            file = PolicyFile.model_validate(served.policy)
        except ValueError as error:
            raise ConfigError(f"the policy of {served.name} cannot be read: {error}") from None
        file.write(path)
    return path
