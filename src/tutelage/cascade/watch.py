"""The watch over a certified policy: what is measured in traffic tightens it, or ends it."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from pathlib import Path

import orjson

from tutelage.cascade.alarm import Alarm, alarm_for, alarm_from_json
from tutelage.runtime.errors import ConfigError

logger = logging.getLogger(__name__)

AUDITS = "audits"
FAILURES = "failures"
_MOST_EPISODES = 50_000


class PolicyWatch:
    """Feeds an alarm with one loss an episode, and remembers its level beside the policy file.

    The first audited step of an episode counts as its disagreement, and its outcome as its failure:
    the steps of one episode depend on each other, so more of them would ring false alarms. The
    level is written when it rises, and read when a policy is opened, so a restart does not forget
    it; it falls when the policy is calibrated anew or the file is removed.

    Args:
        alarm: The detectors and their level.
        path: Where the level is kept; ``None``: in this process only.
    """

    def __init__(self, alarm: Alarm, path: Path | None = None) -> None:
        self._alarm = alarm
        self._path = path
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def level(self) -> str:
        """``normal``, ``tightened`` or ``teacher-only``."""
        return self._alarm.level

    def threshold(self, certified: float) -> float:
        """The threshold in force; infinite where only the teacher may act."""
        return self._alarm.threshold(certified)

    def audited(self, episode_id: str, agrees: bool) -> None:
        """Takes note of what the teacher said of a step that the student served."""
        self._observe(AUDITS, episode_id, not agrees)

    def ended(self, episode_id: str, success: bool) -> None:
        """Takes note of how an episode of the cascade ended."""
        self._observe(FAILURES, episode_id, not success)

    def _observe(self, stream: str, episode_id: str, is_loss: bool) -> None:
        key = (stream, episode_id)
        if stream not in self._alarm.detectors or key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > _MOST_EPISODES:
            self._seen.popitem(last=False)
        before = self._alarm.level
        self._alarm = self._alarm.observe(stream, float(is_loss))
        if self._alarm.level != before:
            logger.warning(
                "the calibrated policy is %s: its %s have drifted; calibrate again",
                self._alarm.level,
                stream,
            )
            self._keep()

    def _keep(self) -> None:
        if self._path is None:
            return
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            part.write_bytes(orjson.dumps(self._alarm.to_json()))
            part.replace(self._path)
        except OSError as error:
            logger.error("the alarm's level cannot be kept: %s", error.strerror)


class ReleaseWatches:
    """Leads what is heard of a release to the watch over its own policy.

    So the statistics of a release start anew when it takes over, and those of the one before it
    stay with that one. A release whose policy needs no watch is not watched.

    Args:
        configured: The watch over the policy of the configured student, if there is one.
    """

    def __init__(self, configured: PolicyWatch | None = None) -> None:
        self._configured = configured
        self._released: dict[str, tuple[str, PolicyWatch]] = {}

    def joined(self, release: str, policy: str, watch: PolicyWatch | None) -> PolicyWatch | None:
        """The watch over a policy of a release, one for all that decide by it.

        Args:
            release: Name of the release.
            policy: Names its policy; another one is watched anew.
            watch: What is taken where that policy has no watch yet.
        """
        if watch is None:
            self._released.pop(release, None)
            return None
        known = self._released.get(release)
        if known is None or known[0] != policy:
            known = self._released[release] = (policy, watch)
        return known[1]

    def audited(self, episode_id: str, agrees: bool, release: str | None = None) -> None:
        """Takes note of what the teacher said of a step that a release served."""
        watch = self._of(release)
        if watch is not None:
            watch.audited(episode_id, agrees)

    def ended(self, episode_id: str, success: bool, release: str | None = None) -> None:
        """Takes note of how an episode ended in which a release served."""
        watch = self._of(release)
        if watch is not None:
            watch.ended(episode_id, success)

    def _of(self, release: str | None) -> PolicyWatch | None:
        if release is None:
            return self._configured
        return self._released[release][1] if release in self._released else None


def alarm_path(policy_file: Path) -> Path:
    """Where the level of a policy's alarm is kept."""
    return policy_file.with_name(f"{policy_file.name}.alarm")


def open_watch(
    policy_file: Path, disagreement: float | None, failures: float | None, delta: float
) -> PolicyWatch | None:
    """The watch over a policy file, at the level that was kept.

    Args:
        policy_file: The policy.
        disagreement: Share of served steps that the teacher would have taken otherwise, in the
            calibration; audits may show a quarter and five points more. ``None``: not watched.
        failures: Share of failed episodes that is allowed. ``None``: not watched.
        delta: Allowed probability that it ever rings without cause.

    Returns:
        ``None`` where there is nothing to watch.

    Raises:
        ConfigError: What was kept cannot be read.
    """
    targets: dict[str, float] = {}
    if disagreement is not None:
        targets[AUDITS] = min(0.95, 1.25 * disagreement + 0.05)
    if failures is not None:
        targets[FAILURES] = failures
    if not targets:
        return None
    path = alarm_path(policy_file)
    try:
        values = orjson.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ConfigError("it is no table")
        kept = alarm_from_json(values)
    except FileNotFoundError:
        return PolicyWatch(alarm_for(targets, delta=delta), path)
    except (OSError, orjson.JSONDecodeError, ConfigError) as error:
        raise ConfigError(
            f"{str(path)!r} holds the level of a policy's alarm and cannot be read ({error}): "
            "calibrate again, or remove it to start at normal"
        ) from None
    return PolicyWatch(kept, path)
