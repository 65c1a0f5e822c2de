from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

HASH = ("--set", "retrieval.embedder=hash")


@pytest.mark.parametrize("verb", ["collect", "replay"])
@pytest.mark.parametrize(
    ("world", "code", "says"),
    [
        (("household", "--split", "tset:2"), 1, "has no split 'tset:2': use train or test"),
        (("household", "--split", "test:0"), 1, "has no split 'test:0': use train or test"),
        (("husehold",), 1, "unknown world 'husehold': use one of alfworld, appworld"),
        (("no_such:World",), 1, "world 'no_such:World' cannot be imported: No module named"),
        (("household", "--teacher", "gpt"), 2, "--teacher 'gpt' is unknown: oracle, or model"),
    ],
)
def test_what_is_played_must_exist(
    tutelage: Any, endpoint: Any, verb: str, world: tuple[str, ...], code: int, says: str
) -> None:
    ran = tutelage(verb, *world, *HASH, *endpoint.settings("student"))

    assert (ran.code, ran.out) == (code, "")
    assert ran.line.startswith("error: ")
    assert says in ran.line


def test_a_missing_data_folder_says_how_to_get_the_games(tutelage: Any, tmp_path: Path) -> None:
    pytest.importorskip("alfworld")
    for given in (("--data", tmp_path / "none"), ()):
        ran = tutelage("collect", "alfworld", "--split", "valid_unseen:1", *given, *HASH)

        assert ran.code == 1
        assert ran.line.startswith("error: no ALFWorld games in ")
        assert "run `make alfworld`" in ran.line
        assert "--data" in ran.line


def test_an_unknown_arm_is_met_with_the_nearest(tutelage: Any) -> None:
    ran = tutelage("replay", "household", "--arms", "teacher,demos-cascad", *HASH)
    none = tutelage("replay", "household", "--arms", ",", *HASH)

    assert (ran.code, none.code) == (2, 2)
    assert "arm 'demos-cascad' is unknown; did you mean demos-cascade" in ran.line
    assert "no arm to play; known: teacher" in none.line


def test_a_mix_needs_the_arm_that_it_mixes_like(tutelage: Any, endpoint: Any) -> None:
    command = ("replay", "household", "--split", "test:1", "--arms", "random-mix", *HASH)

    ran = tutelage(*command, *endpoint.settings("student"))

    assert ran.code == 2
    assert "add demos-cascade to the arms" in ran.line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--set", "samples"), "--set 'samples' is not key=value, for example cascade.samples=5"),
        (
            ("--set", "cascade.smples=5"),
            "setting: unknown key 'cascade.smples'; did you mean 'samples'?",
        ),
        (("--set", "cascade.samples=0"), "setting: cascade.samples = 0: Input should be greater"),
        (("--set", "cascade.samples=1"), "samples = 1: agreement needs at least 2 samples"),
        (("--set", "cascade.agree=4"), "cascade.agree = 4: of cascade.samples = 3 samples no more"),
        (("--set", "retrieval=3"), "setting: retrieval = 3: Input should be"),
        (("--set", "student.base_url=nonsense"), "base_url = 'nonsense': give an address such as"),
        (("--config", "none.toml"), "none.toml does not exist: run `tutelage init`"),
        (("--config", "."), ". cannot be read"),
        (("--config", "bad.toml"), "bad.toml is not valid TOML: "),
    ],
)
def test_a_bad_setting_is_named_with_its_fix(
    tutelage: Any, endpoint: Any, tmp_path: Path, given: tuple[str, ...], says: str
) -> None:
    (tmp_path / "bad.toml").write_text("[cascade]\nsamples = \n")
    student = endpoint.settings("student")
    command = ("replay", "household", "--split", "test:1", "--arms", "cascade", *HASH, *student)

    ran = tutelage(*command, *given)

    assert (ran.code, ran.out) == (2, "")
    assert ran.line.startswith("error: ")
    assert says in ran.line
    assert endpoint.bodies == []


def test_a_bad_variable_is_named(tutelage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CASCADE__SAMPLES", "many")

    ran = tutelage("demos", "ls", *HASH)

    assert ran.code == 2
    assert "TUTELAGE_CASCADE__SAMPLES: cascade.samples = 'many'" in ran.line


def test_an_unknown_price_is_found_before_anything_is_played(
    tutelage: Any, endpoint: Any, tmp_path: Path
) -> None:
    student = (*endpoint.settings("student"), "--set", "student.priced_as=no-model")

    ran = tutelage("replay", "household", "--split", "test:1", *HASH, *student)

    assert ran.code == 1
    assert "no-model" in ran.line
    assert endpoint.bodies == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "is not usable: use sqlite:///"),
        ("mysql://u:secret@h/d", "use sqlite:///"),
        ("sqlite://", "keeps nothing: name a file, as in sqlite:///traces.sqlite"),
        ("sqlite:///file/t.sqlite", "cannot be made (File exists)"),
        ("sqlite:///folder", "unable to open database file (check store.url"),
        ("sqlite:///text.sqlite", "file is not a database"),
    ],
)
@pytest.mark.parametrize("verb", ["demos", "traces"])
def test_a_store_that_cannot_be_opened_is_named(
    tutelage: Any, tmp_path: Path, verb: str, url: str, says: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.sqlite").write_text("this is no database, but a text of some length " * 9)

    ran = tutelage(verb, "ls", *HASH, "--set", f"store.url={url}")

    assert (ran.code, ran.out) == (1, "")
    assert says in ran.line
    assert "secret" not in ran.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tutelage: Any, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    ran = tutelage("traces", "ls", "--set", f"store.url=sqlite:///{locked}/t.sqlite")

    assert ran.code == 1
    assert ran.line.endswith(f"folder {locked} is not writable")


def test_results_cannot_go_where_a_file_is(tutelage: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = ("replay", "household", "--split", "test:1", "--arms", "teacher", *HASH)

    ran = tutelage(*command, "--out", tmp_path / "file")

    assert ran.code == 1
    assert f"{tmp_path / 'file'} cannot be written" in ran.line
