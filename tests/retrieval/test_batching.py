from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.retrieval.batching import MicroBatcher, length_batches
from tutelage.retrieval.embedding import Vectors


class Lengths:
    """Computes the length of each text, and holds the worker until it is released."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.started = threading.Event()
        self.release = threading.Event()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        self.threads.add(threading.current_thread().name)
        self.started.set()
        assert self.release.wait(10)
        if "bad" in texts:
            raise ValueError("bad text")
        return np.array([[len(text)] for text in texts], dtype=np.float32)


async def _busy(batcher: MicroBatcher, lengths: Lengths) -> asyncio.Task[Vectors]:
    first = asyncio.create_task(batcher.submit(["first"]))
    await asyncio.to_thread(lengths.started.wait, 10)
    return first


async def test_calls_that_arrive_while_the_worker_is_busy_share_one_batch() -> None:
    lengths = Lengths()
    batcher = MicroBatcher(lengths)
    first = await _busy(batcher, lengths)
    others = [asyncio.create_task(batcher.submit(["x" * n, "y"])) for n in range(5)]
    await asyncio.sleep(0)
    lengths.release.set()
    assert (await first).tolist() == [[5]]
    for n, result in enumerate(await asyncio.gather(*others)):
        assert result.tolist() == [[n], [1]]
    assert [len(batch) for batch in lengths.batches] == [1, 10]
    assert lengths.threads == {"tutelage-embed_0"}
    batcher.close()


async def test_a_failure_reaches_every_caller_of_the_batch_and_no_other() -> None:
    lengths = Lengths()
    batcher = MicroBatcher(lengths)
    first = await _busy(batcher, lengths)
    pair = [asyncio.create_task(batcher.submit([text])) for text in ("bad", "good")]
    await asyncio.sleep(0)
    lengths.release.set()
    results = await asyncio.gather(first, *pair, return_exceptions=True)
    assert not isinstance(results[0], BaseException)
    assert [str(result) for result in results[1:]] == ["bad text", "bad text"]
    assert (await batcher.submit(["again"])).tolist() == [[5]]
    batcher.close()


async def test_a_cancelled_caller_does_not_cancel_the_batch_of_another() -> None:
    lengths = Lengths()
    batcher = MicroBatcher(lengths)
    first = await _busy(batcher, lengths)
    leaving, staying = (asyncio.create_task(batcher.submit([text])) for text in ("aa", "bbb"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    lengths.release.set()
    assert (await staying).tolist() == [[3]]
    await first
    batcher.close()


async def test_a_bulk_call_is_cut_so_that_a_search_gets_its_turn() -> None:
    lengths = Lengths()
    batcher = MicroBatcher(lengths, max_rows=2)
    bulk = asyncio.create_task(batcher.submit(["a", "bb", "ccc", "dddd", "eeeee"]))
    await asyncio.to_thread(lengths.started.wait, 10)
    search = asyncio.create_task(batcher.submit(["search"]))
    await asyncio.sleep(0)
    lengths.release.set()
    assert (await search).tolist() == [[6]]
    assert (await bulk).tolist() == [[1], [2], [3], [4], [5]]
    assert max(map(len, lengths.batches)) <= 2
    position = next(i for i, batch in enumerate(lengths.batches) if "search" in batch)
    assert position < len(lengths.batches) - 1
    batcher.close()


def test_one_batcher_serves_several_event_loops() -> None:
    lengths = Lengths()
    lengths.release.set()
    batcher = MicroBatcher(lengths)
    results = [asyncio.run(batcher.submit([text])).tolist() for text in ("a", "bb")]
    assert results == [[[1]], [[2]]]
    batcher.close()


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 300), max_size=60),
    st.integers(1, 20),
    st.integers(1, 1000),
)
def test_groups_hold_every_text_once_and_keep_both_limits(
    lengths: list[int], max_rows: int, max_cells: int
) -> None:
    groups = list(length_batches(lengths, max_rows=max_rows, max_cells=max_cells))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= max_rows
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= max_cells
    longest = [max(lengths[i] for i in group) for group in groups]
    assert longest == sorted(longest)
