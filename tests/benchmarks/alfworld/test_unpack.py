from __future__ import annotations

import io
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from tests.benchmarks.alfworld.made_up_games import trial_files, write_archive

from tutelage.benchmarks.alfworld.unpack import main, unpack_games
from tutelage.runtime.errors import BenchmarkError, WorldMissing

SEEN = "valid_seen/pick_and_place_simple-Mug-None-Desk-1/trial_1"
UNSEEN = "valid_unseen/pick_and_place_simple-Cup-None-Shelf-2/trial_2"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    write_archive(folder / "valid.tar.xz", {**trial_files(SEEN), **trial_files(UNSEEN)})
    return folder


def unpacked(data: Path) -> set[str]:
    return {
        str(path.relative_to(data / "json_2.1.1").parent)
        for path in data.glob("json_2.1.1/*/*/*/game.tw-pddl")
    }


def test_all_archives_are_unpacked_into_the_cache(archives: Path, tmp_path: Path) -> None:
    train = "train/look_at_obj_in_light-Mug-None-DeskLamp-3/trial_3"
    write_archive(archives / "train.tar.xz", trial_files(train))
    data = unpack_games(archives, tmp_path / "cache")
    assert data == tmp_path / "cache" / "alfworld"
    assert unpacked(data) == {SEEN, UNSEEN, train}
    assert (data / "json_2.1.1" / train / "traj_data.json").read_text() == "{}"
    assert not list(data.glob(".unpacking-*"))


def test_an_archive_is_unpacked_once(archives: Path, tmp_path: Path) -> None:
    data = unpack_games(archives, tmp_path)
    game = data / "json_2.1.1" / SEEN / "game.tw-pddl"
    before = game.stat().st_ino
    unpack_games(archives, tmp_path)
    assert game.stat().st_ino == before


def test_a_changed_archive_replaces_its_games(archives: Path, tmp_path: Path) -> None:
    data = unpack_games(archives, tmp_path)
    other = SEEN.replace("trial_1", "trial_9")
    write_archive(archives / "valid.tar.xz", {**trial_files(other), **trial_files(UNSEEN)})
    unpack_games(archives, tmp_path)
    assert unpacked(data) == {other, UNSEEN}


def test_only_the_wanted_splits_are_unpacked_and_others_can_follow(
    archives: Path, tmp_path: Path
) -> None:
    data = unpack_games(archives, tmp_path, ["valid_seen"])
    assert unpacked(data) == {SEEN}
    unpack_games(archives, tmp_path)
    assert unpacked(data) == {SEEN, UNSEEN}


@pytest.mark.parametrize("mark", ["", "[]", '{"sha256": "?", "contains": [], "unpacked": []}'])
def test_a_marker_that_cannot_be_trusted_is_not(archives: Path, tmp_path: Path, mark: str) -> None:
    data = unpack_games(archives, tmp_path)
    (data / "json_2.1.1" / SEEN / "game.tw-pddl").unlink()
    (data / ".valid.tar.xz.json").write_text(mark)
    unpack_games(archives, tmp_path)
    assert unpacked(data) == {SEEN, UNSEEN}


def test_a_split_that_was_removed_is_unpacked_again(archives: Path, tmp_path: Path) -> None:
    data = unpack_games(archives, tmp_path)
    (data / "json_2.1.1" / "valid_seen").rename(tmp_path / "gone")
    unpack_games(archives, tmp_path)
    assert unpacked(data) == {SEEN, UNSEEN}


def test_other_files_stay_in_the_archive(tmp_path: Path) -> None:
    members = {
        **trial_files(SEEN),
        "readme.txt": "hello",
        f"json_2.1.1/{SEEN}/notes.txt": "hello",
        f"elsewhere/{UNSEEN}/game.tw-pddl": "{}",
    }
    write_archive(tmp_path / "archives" / "a.tar.xz", members)
    data = unpack_games(tmp_path / "archives", tmp_path / "cache")
    files = {path.name for path in data.rglob("*") if path.is_file() and path.name[0] != "."}
    assert files == {"game.tw-pddl", "traj_data.json"}
    assert unpacked(data) == {SEEN}


@pytest.mark.parametrize(
    "name",
    [
        "../valid_seen/task/trial/game.tw-pddl",
        "/json_2.1.1/valid_seen/task/trial/game.tw-pddl",
        "json_2.1.1/valid_seen/../../game.tw-pddl",
    ],
)
def test_nothing_is_written_outside_the_cache(tmp_path: Path, name: str) -> None:
    write_archive(tmp_path / "archives" / "a.tar.xz", {**trial_files(SEEN), name: "evil"})
    cache = tmp_path / "deep" / "cache"
    # Some names are refused, others are no games: either way, nothing may come of them.
    with suppress(BenchmarkError):
        unpack_games(tmp_path / "archives", cache)
    evil = [path for path in tmp_path.rglob("game.tw-pddl") if path.read_text() == "evil"]
    assert evil == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = tmp_path / "archives"
    write_archive(folder / "plain.tar.xz", trial_files(SEEN))
    with tarfile.open(folder / "linked.tar.xz", "w:xz") as tar:
        link = tarfile.TarInfo(f"json_2.1.1/{UNSEEN}/game.tw-pddl")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        for name, text in trial_files(UNSEEN.replace("trial_2", "trial_4")).items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    data = unpack_games(folder, tmp_path / "cache")
    assert unpacked(data) == {SEEN, UNSEEN.replace("trial_2", "trial_4")}


def test_a_damaged_archive_is_named_and_leaves_nothing(archives: Path, tmp_path: Path) -> None:
    damaged = archives / "valid.tar.xz"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkError, match=r"valid\.tar\.xz cannot be unpacked, fetch it again"):
        unpack_games(archives, tmp_path / "cache")
    assert unpacked(tmp_path / "cache" / "alfworld") == set()


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.tar.xz").write_text("not an archive")
    with pytest.raises(BenchmarkError, match=r"text\.tar\.xz cannot be unpacked"):
        unpack_games(tmp_path, tmp_path / "cache")


def test_an_archive_without_games_is_named(tmp_path: Path) -> None:
    write_archive(tmp_path / "other.tar.xz", {"readme.txt": "hello"})
    with pytest.raises(BenchmarkError, match=r"other\.tar\.xz holds no json_2\.1\.1"):
        unpack_games(tmp_path, tmp_path / "cache")


def test_a_folder_without_archives_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorldMissing, match=r"set ALFWORLD_ARCHIVES .* or run `alfworld-download`"):
        unpack_games(tmp_path, tmp_path / "cache")


def test_the_command_prints_the_data_folder(
    archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"ALFWORLD_ARCHIVES": str(archives), "TUTELAGE_CACHE": str(tmp_path / "cache")}
    assert main([], environ) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'alfworld'}\n"


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["--if-present"], 0)])
def test_the_command_says_where_it_found_no_archives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    environ = {"ALFWORLD_ARCHIVES": str(tmp_path), "TUTELAGE_CACHE": str(tmp_path)}
    assert main(arguments, environ) == code
    assert f"no *.tar.xz archive of ALFWorld games in {tmp_path}" in capsys.readouterr().err
