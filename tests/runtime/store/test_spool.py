from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.runtime.errors import StoreError
from tutelage.runtime.store.spool import Record, Spool

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(number: int) -> Record:
    return Record("trace", {"id": f"t{number}", "text": "line\nbreak ü"})


def test_a_record_of_text_is_one_of_an_object(spool: Spool) -> None:
    text = Record("trace", encoded='{"id":"t0","text":"line\\nbreak ü"}')
    assert text == record(0)
    assert text != Record("episode", record(0).body)
    assert text != "t0"
    assert repr(text) == repr(record(0))
    spool.append([text])
    assert drain(spool) == [record(0)]


def drain(spool: Spool, limit: int = 1000) -> list[Record]:
    with spool.oldest(limit) as records:
        return records


def test_records_come_back_in_order_and_once(spool: Spool) -> None:
    assert not spool.is_pending
    assert spool.append([record(0), record(1)]) == 2
    assert spool.append([record(2)]) == 1
    assert spool.is_pending
    assert drain(spool) == [record(0), record(1), record(2)]
    assert not spool.is_pending
    assert drain(spool) == []


def test_slices_continue_where_the_last_one_ended_also_in_another_process(spool: Spool) -> None:
    spool.append([record(number) for number in range(5)])
    assert drain(spool, 2) == [record(0), record(1)]
    again = Spool(spool.path)
    assert drain(again, 2) == [record(2), record(3)]
    spool.append([record(5)])
    assert drain(again) == [record(4), record(5)]
    assert not spool.is_pending


def test_a_slice_whose_block_fails_is_given_again(spool: Spool) -> None:
    spool.append([record(0), record(1)])
    with pytest.raises(StoreError, match="still gone"), spool.oldest(1):
        raise StoreError("still gone")
    assert drain(spool) == [record(0), record(1)]


@settings(max_examples=50, deadline=None)
@given(bodies=st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=5))
def test_any_json_survives(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[dict[str, object]]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "s")
    records = [Record("episode", body) for body in bodies]
    spool.append(records)
    assert drain(spool) == records


def test_a_record_torn_at_any_byte_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    whole = Spool(tmp_path / "whole")
    whole.append([record(0)])
    kept = whole.path.stat().st_size
    whole.append([record(1)])
    content = whole.path.read_bytes()
    for length in range(len(content)):
        torn = Spool(tmp_path / "torn")
        torn.path.write_bytes(content[:length])
        assert torn.append([record(2)]) == 1
        expected = [record(0), record(2)] if length >= kept else [record(2)]
        assert drain(torn) == expected, length
        assert torn.damaged == 0


def test_a_torn_record_longer_than_one_read_is_cut_off(spool: Spool) -> None:
    spool.append([record(0)])
    with spool.path.open("ab") as file:
        file.write(b"x" * 200_000)
    assert drain(spool) == [record(0)]


def test_a_flipped_byte_loses_one_record_and_sets_it_aside(spool: Spool) -> None:
    spool.append([record(number) for number in range(3)])
    content = bytearray(spool.path.read_bytes())
    position = content.index(b"t1")
    content[position] ^= 1
    spool.path.write_bytes(content)
    assert drain(spool) == [record(0), record(2)]
    assert spool.damaged == 1
    assert b"line" in spool.path.with_name(spool.path.name + ".rejected").read_bytes()


def test_a_record_of_an_unknown_kind_is_set_aside(spool: Spool) -> None:
    spool.append([Record("release", {}), record(1)])  # type: ignore[arg-type]
    assert drain(spool) == [record(1)]
    assert spool.damaged == 1


def test_a_damaged_header_only_costs_a_second_draining(spool: Spool) -> None:
    spool.append([record(0), record(1)])
    drain(spool, 1)
    content = bytearray(spool.path.read_bytes())
    content[20] ^= 1
    spool.path.write_bytes(content)
    assert drain(spool) == [record(0), record(1)]


def test_what_passes_the_bound_is_dropped_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=300)
    kept = spool.append([record(number) for number in range(10)])
    assert 0 < kept < 10
    assert spool.dropped == 10 - kept
    assert spool.path.stat().st_size <= 300
    assert spool.append([record(99)]) == 0
    assert drain(spool) == [record(number) for number in range(kept)]
    assert spool.append([record(99)]) == 1


def test_a_file_of_another_kind_is_left_alone(spool: Spool) -> None:
    spool.path.parent.mkdir()
    spool.path.write_text("a user's notes, longer than the header of a spool")
    with pytest.raises(StoreError, match="another path"):
        spool.append([record(0)])
    with pytest.raises(StoreError, match="another path"):
        drain(spool)
    assert spool.path.read_text().startswith("a user's notes")


def test_a_path_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "s")
    with pytest.raises(StoreError, match="cannot be written"):
        spool.append([record(0)])
    assert spool.dropped == 1


def test_a_path_that_is_a_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for number in range(200):
        (tmp_path / "s" / str(number)).touch()
    with pytest.raises(StoreError, match="cannot be used"):
        drain(Spool(tmp_path / "s"))


def test_a_full_disk_leaves_no_half_record(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.append([record(0)])
    size = spool.path.stat().st_size
    write = os.pwrite

    def write_half(descriptor: int, content: bytes, offset: int) -> int:
        if len(content) < 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: len(content) // 2], offset)

    monkeypatch.setattr(os, "pwrite", write_half)
    with pytest.raises(StoreError, match="No space left"):
        spool.append([record(1)])
    assert spool.path.stat().st_size == size
    monkeypatch.undo()
    assert drain(spool) == [record(0)]


def test_the_file_is_private_to_its_user(spool: Spool) -> None:
    spool.append([record(0)])
    spool.reject(record(0))
    modes = {path.stat().st_mode & 0o777 for path in spool.path.parent.iterdir()}
    assert modes == {0o600}


def test_a_rejected_record_without_a_place_is_not_an_error(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.path.with_name(spool.path.name + ".rejected").mkdir(parents=True)
    spool.reject(record(0))
    assert "a record is lost" in caplog.text
