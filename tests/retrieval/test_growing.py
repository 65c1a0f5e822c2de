from __future__ import annotations

import numpy as np

from tutelage.retrieval.growing import GrowingRows


def test_rows_come_in_order_and_earlier_reads_stay_as_they_were() -> None:
    rows = GrowingRows(np.empty((0, 2), dtype=np.float32))
    parts = [np.full((count, 2), count, dtype=np.float32) for count in (3, 0, 1, 40, 2, 5)]
    read = [rows.append(part).copy() for part in parts]
    views = []
    again = GrowingRows(np.empty((0, 2), dtype=np.float32))
    for part in parts:
        views.append(again.append(part))
    for count, (view, copy) in enumerate(zip(views, read, strict=True), start=1):
        np.testing.assert_array_equal(view, np.concatenate(parts[:count]))
        np.testing.assert_array_equal(view, copy)


def test_few_appends_copy_what_is_there() -> None:
    rows = GrowingRows(np.empty((0, 4), dtype=np.float32))
    rows.append(np.zeros((1_000, 4), dtype=np.float32))
    bases = set()
    for _ in range(100):
        bases.add(rows.append(np.ones((1, 4), dtype=np.float32)).__array_interface__["data"][0])
    assert len(bases) <= 2
