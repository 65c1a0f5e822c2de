"""Calls of a vLLM server that may guess ahead: seconds, forwards and what was accepted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from tutelage.runtime.models.draft_counters import DraftCounters, read_draft_counters
from tutelage.runtime.protocols import Model
from tutelage.runtime.steps import action_text
from tutelage.runtime.types import ChatRequest, Message

WARM_UP = ChatRequest(
    model="student", messages=[Message(role="user", content="Say ok.")], max_tokens=4
)
"""Sent before anything is timed: the first call of a server is slower than all others."""
PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class DraftedCalls:
    """Some calls, one after another; two can be added."""

    counters: DraftCounters
    call_s: tuple[float, ...]
    """Wall seconds of each."""
    texts: tuple[str, ...]
    """First answer of each."""
    cpu_s: float | None = None
    """CPU seconds of the server's processes, where they are known."""
    samples: tuple[tuple[str, ...], ...] = ()
    """All answers of each."""

    def __add__(self, other: DraftedCalls) -> DraftedCalls:
        known = self.cpu_s is not None and other.cpu_s is not None
        return DraftedCalls(
            self.counters + other.counters,
            self.call_s + other.call_s,
            self.texts + other.texts,
            (self.cpu_s or 0.0) + (other.cpu_s or 0.0) if known else None,
            self.samples + other.samples,
        )

    @property
    def mean_ms(self) -> float:
        """Wall milliseconds of a call."""
        return 1000 * fmean(self.call_s)

    @property
    def median_ms(self) -> float:
        """Wall milliseconds of the middle call."""
        return 1000 * median(self.call_s)

    @property
    def cpu_ms(self) -> float | None:
        """CPU milliseconds of a call; neighbours on the machine move it less than wall time."""
        return None if self.cpu_s is None else 1000 * self.cpu_s / len(self.call_s)

    def same_share(self, other: DraftedCalls) -> float:
        """Share of calls with the same first answer, in [0, 1]."""
        pairs = list(zip(self.texts, other.texts, strict=True))
        return sum(one == two for one, two in pairs) / len(pairs)

    def named_shares(self, answers: Sequence[str]) -> tuple[float, ...]:
        """(calls,): share of each call's samples that are the given answer, in [0, 1].

        Args:
            answers: (calls,).
        """
        pairs = zip(self.samples, answers, strict=True)
        return tuple(fmean(text == answer for text in texts) for texts, answer in pairs)

    def document(self) -> Mapping[str, float | int | None]:
        """The figures as JSON values."""
        counted = self.counters
        return {
            "calls": len(self.call_s),
            "mean_ms": self.mean_ms,
            "median_ms": self.median_ms,
            "cpu_ms": self.cpu_ms,
            "forwards": counted.forwards,
            "generated_tokens": counted.generated_tokens,
            "drafted_tokens": counted.drafted_tokens,
            "accepted_tokens": counted.accepted_tokens,
            "acceptance": counted.acceptance,
            "tokens_a_forward": counted.tokens_a_forward,
        }


async def measured_calls(
    model: Model,
    base_url: str,
    requests: Sequence[ChatRequest],
    *,
    n: int = 1,
    pid: int | None = None,
    told: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> DraftedCalls:
    """Sends requests one after another.

    Args:
        model: The server's.
        base_url: Its address, for its counters; nobody else may use it meanwhile.
        requests: At least one.
        n: Samples of each.
        pid: Of the server's first process, for CPU time.
        told: Called after each.
        clock: Seconds.

    Raises:
        ModelError: The server does not answer.
    """
    before, spent_s = await read_draft_counters(base_url), tree_cpu_s(pid)
    call_s, samples = [], []
    for request in requests:
        started_s = clock()
        answer = await model.complete(request, n)
        call_s.append(clock() - started_s)
        samples.append(tuple(action_text(choice.message) for choice in answer.choices))
        told()
    moved = await read_draft_counters(base_url) - before
    ended_s = tree_cpu_s(pid)
    cpu_s = None if spent_s is None or ended_s is None else ended_s - spent_s
    first = tuple(texts[0] for texts in samples)
    return DraftedCalls(moved, tuple(call_s), first, cpu_s, tuple(samples))


def tree_cpu_s(
    pid: int | None, processes: Path = PROCESSES, ticks_a_second: int = 100
) -> float | None:
    """CPU seconds of a process and all that it started and that lives; ``None`` where unknown.

    Args:
        pid: Of the process.
        processes: The kernel's folder of processes.
        ticks_a_second: Unit of its times; 100 on every Linux of today.
    """
    if pid is None:
        return None
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for folder in processes.glob("[0-9]*"):
        try:
            found = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(folder.name)
        parents[number], ticks[number] = int(found[1]), int(found[11]) + int(found[12])
    if pid not in ticks:
        return None
    ours, grew = {pid}, True
    while grew:
        more = {one for one, parent in parents.items() if parent in ours} - ours
        ours, grew = ours | more, bool(more)
    return sum(ticks[one] for one in ours) / ticks_a_second
