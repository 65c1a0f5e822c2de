"""Releases and clocks for tests."""

from __future__ import annotations

from typing import Any

from tutelage.runtime.release import Lineage, Probe, Release
from tutelage.runtime.store.releases import SqlReleaseStore

PASSED = {"passed": True, "verdicts": [{"gate": "success", "passed": True, "value": 0.9}]}
BLOCKED = {"passed": False, "verdicts": [{"gate": "success", "passed": False, "value": 0.1}]}
PROBE = Probe(prompt=(1, 2), continuation=(3, 4), logprob=-1.0, parent_logprob=-9.0)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def draft(tenant: str = "acme", student: str = "student", **changes: Any) -> Release:
    known: dict[str, Any] = {
        "student": student,
        "number": 1,
        "tenant": tenant,
        "created_at_s": 0.0,
        "kind": "full",
        "folder": "/releases/weights/abc",
        "files": {"model.safetensors": "a" * 64},
        "weights_sha256": "b" * 64,
        "lineage": Lineage(traces_sha256="c" * 64, traces=3, recipe="supervised", code="0"),
        "evidence": PASSED,
        "probe": PROBE,
    }
    return Release.model_validate({**known, **changes})


def serving(store: SqlReleaseStore, *, share: float | None = None, **changes: Any) -> Release:
    """A release that serves: as the current one, or with a share as the canary."""
    release = store.add(draft(**changes))
    store.shadow(release.tenant, release.name, "")
    store.canary(release.tenant, release.name, share or 0.05)
    if share is None:
        store.promote(release.tenant, release.name)
    return store.release(release.tenant, release.name)
