from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.configured_policies import settings, written
from tests.deployed import read_yaml
from tests.made_releases import BLOCKED, draft, serving

from tutelage.released import released_config
from tutelage.runtime.release import Served
from tutelage.runtime.store.database import open_engine
from tutelage.runtime.store.releases import SqlReleaseStore

STUDENT = ("--set", "releases.student=student")
CALIBRATED = ("--set", "cascade.policy=calibrated")
OURS: dict[str, Any] = {"tenant": "default"}


@pytest.fixture
def store(tutelage: Any, tmp_path: Path) -> Iterator[SqlReleaseStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'tutelage.sqlite'}")
    yield SqlReleaseStore(engine, time.time)
    engine.dispose()


def test_an_empty_shelf_is_listed(tutelage: Any, store: SqlReleaseStore) -> None:
    assert tutelage("release", "ls", "--json").json == []
    assert "0 releases" in tutelage("release", "ls").out


def test_releases_are_listed_with_what_decides_about_them(
    tutelage: Any, store: SqlReleaseStore
) -> None:
    serving(store, **OURS)
    store.add(draft(evidence=BLOCKED, **OURS))
    store.add(draft(evidence=None, **OURS))
    store.add(draft("other"))
    shown = tutelage("release", "ls").out
    told = tutelage("release", "ls", "--json").json
    assert [one["name"] for one in told] == ["student@3", "student@2", "student@1"]
    assert [one["stage"] for one in told] == ["candidate", "candidate", "current"]
    assert [one["passed"] for one in told] == [False, False, True]
    assert "student@4" not in shown
    for word in ("not judged", "blocked", "passed", "current", "supervised"):
        assert word in shown


def test_a_release_is_shown_with_lineage_gates_and_events(
    tutelage: Any, store: SqlReleaseStore
) -> None:
    serving(store, **OURS)
    shown = tutelage("release", "show", "student@1").out
    told = tutelage("release", "show", "student@1", "--json").json
    assert [one["event"] for one in told["events"]] == ["made", "shadow", "canary", "current"]
    assert told["lineage"]["traces"] == 3
    assert told["evidence"]["passed"] is True
    assert "files" not in told
    for word in ("lineage.recipe", "success", "canary", "share 0.05"):
        assert word in shown


@pytest.mark.parametrize("stack", ["llm-d", "production-stack"])
def test_a_manifest_is_yaml_with_the_served_name(
    tutelage: Any, store: SqlReleaseStore, stack: str
) -> None:
    store.add(draft(**OURS))
    ran = tutelage("release", "show", "student@1", "--manifest", stack)
    assert ran.code == 0
    (document,) = read_yaml(ran.out)
    assert isinstance(document, dict)
    assert "student@1" in json.dumps(document)


def test_an_unknown_manifest_names_the_known_ones(tutelage: Any, store: SqlReleaseStore) -> None:
    ran = tutelage("release", "show", "student@1", "--manifest", "nomad")
    assert (ran.code, ran.line) == (
        2,
        "error: --manifest 'nomad' is unknown: llm-d or production-stack",
    )


def test_differences_are_told_by_field(tutelage: Any, store: SqlReleaseStore) -> None:
    store.add(draft(**OURS))
    store.add(draft(weights_sha256="d" * 64, **OURS))
    told = tutelage("release", "diff", "student@1", "student@2", "--json").json
    assert told == [{"field": "weights_sha256", "student@1": "b" * 64, "student@2": "d" * 64}]
    assert "1 differences" in tutelage("release", "diff", "student@1", "student@2").out


def test_a_promotion_and_a_rollback_say_how_soon_they_are_everywhere(
    tutelage: Any, store: SqlReleaseStore
) -> None:
    serving(store, **OURS)
    store.add(draft(**OURS))
    ran = tutelage("release", "promote", "student@2", "--because", "it is better")
    assert ran.out == "student@2 is current; every worker has it within 7 s\n"
    assert store.events("default", "student@2")[-1].detail == "it is better"
    ran = tutelage("release", "rollback", *STUDENT)
    assert "student@2 serves no longer; student@1 does, at every worker within 7 s" in ran.out
    told = tutelage("release", "rollback", "--json", *STUDENT).json
    assert told == {"release": "student@1", "reaches_all_within_s": 7.0, "current": None}
    told = tutelage("release", "promote", "student@1", "--json").json
    assert told == {"release": "student@1", "reaches_all_within_s": 7.0}


def test_a_promotion_needs_a_policy_where_one_is_calibrated(
    tutelage: Any, store: SqlReleaseStore, tmp_path: Path
) -> None:
    release = store.add(draft(**OURS))
    refused = tutelage("release", "promote", release.name, *CALIBRATED)
    assert refused.code == 1
    assert "give --policy-file" in refused.line
    served = Served(release.name, release.weights_sha256)
    wrong = written(tmp_path / "wrong.json", settings())
    right = written(tmp_path / "right.json", released_config(settings(), served))
    refused = tutelage("release", "promote", release.name, "--policy-file", wrong, *CALIBRATED)
    assert refused.code == 2
    assert "calibrate with --set student.model=student@1" in refused.line
    assert store.traffic("student", "default").current is None
    ran = tutelage("release", "promote", release.name, "--policy-file", right, *CALIBRATED)
    assert ran.code == 0
    assert store.release("default", release.name).policy is not None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "student"), 2, "give a name such as student@7"),
        (("show", "student@9"), 1, "student@9 does not exist"),
        (("diff", "student@1", "student@9"), 1, "student@9 does not exist"),
        (("promote", "student@2"), 1, "did not pass its gates"),
        (("rollback",), 2, "releases.student is not set"),
        (("rollback", *STUDENT), 1, "nothing to roll back"),
        (("rollback", "--set", "releases.student=a b"), 2, "releases.student = 'a b'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tutelage: Any, store: SqlReleaseStore, arguments: tuple[str, ...], code: int, said: str
) -> None:
    store.add(draft(**OURS))
    store.add(draft(evidence=BLOCKED, **OURS))
    ran = tutelage("release", *arguments)
    assert ran.code == code
    assert said in ran.line
