"""Data-efficient selection: which source, and which of its examples (arXiv 2508.09883)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tutelage.runtime.errors import TrainingError
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.levenshtein import ActionSequences

Trial = Callable[[Sequence[TrainingExample]], float]
"""Trains a small student on a slice and gives its score on held-out tasks; higher is better."""


@dataclass(frozen=True, slots=True)
class SourceScore:
    """What a small student learnt from a slice of one source."""

    source: str
    score: float
    examples: int


def rank_sources(
    sources: Mapping[str, Sequence[TrainingExample]], trial: Trial, *, size: int, seed: int
) -> tuple[SourceScore, ...]:
    """Smoke test: the same student on an equal slice of each source, best source first.

    A source that is right more often is not always the one to learn from; what its student scores
    is.

    Args:
        sources: Examples by source.
        trial: Trains and scores.
        size: Examples in a slice; fewer where the smallest source has fewer.
        seed: Draws the slices; the slice of a source does not depend on the other sources' names.

    Raises:
        TrainingError: A source is empty, or ``size`` is not positive.
    """
    empty = sorted(name for name, examples in sources.items() if not examples)
    if empty or size < 1:
        problem = f"source {empty[0]!r} has no examples" if empty else f"size is {size}"
        raise TrainingError(f"sources cannot be compared: {problem}; give at least 1")
    size = min([size, *(len(examples) for examples in sources.values())])
    scores = []
    for name in sorted(sources):
        ordered = sorted(sources[name], key=lambda example: (example.tenant, example.id))
        chosen = Random(seed).sample(ordered, size)
        scores.append(SourceScore(name, trial(chosen), size))
    return tuple(sorted(scores, key=lambda score: (-score.score, score.source)))


def drop_mastered(
    examples: Sequence[TrainingExample],
    pass_rate: Callable[[TrainingExample], float | None],
    least_difficulty: float,
) -> tuple[TrainingExample, ...]:
    """Leaves out what the student already does; 0 leaves out nothing.

    Args:
        examples: In any order, which is kept.
        pass_rate: How often the student is right at the example's states; ``None``: not known, and
            the example stays.
        least_difficulty: Least ``1 - pass rate`` of an example that stays, from 0 to 1.
    """
    kept = []
    for example in examples:
        rate = pass_rate(example)
        if rate is None or 1 - rate >= least_difficulty:
            kept.append(example)
    return tuple(kept)


def farthest(
    examples: Sequence[TrainingExample],
    count: int,
    sequence: Callable[[TrainingExample], Sequence[str]] | None = None,
) -> tuple[TrainingExample, ...]:
    """The ``count`` examples that lie farthest from one another by their actions.

    Greedy: the longest sequence first, then always the one whose nearest chosen neighbour is
    farthest by Levenshtein distance; ties go to the smallest tenant and id. Copies are taken only
    when nothing else is left.

    Args:
        examples: In any order.
        count: How many to keep; all of them if there are no more.
        sequence: Actions of an example; absent: its supervised ones, or all answers in its chat if
            it has only one, so that steps are told apart by how they came about.

    Returns:
        In the order of their choice.
    """
    read = sequence or played_actions
    ordered = sorted(examples, key=lambda example: (example.tenant, example.id))
    if count < 1 or not ordered:
        return ()
    rows = [tuple(read(example)) for example in ordered]
    sequences = ActionSequences(rows)
    chosen = [max(range(len(rows)), key=lambda index: (len(rows[index]), -index))]
    nearest = sequences.distances(chosen[0])
    is_free = np.ones(len(rows), dtype=bool)
    is_free[chosen[0]] = False
    while len(chosen) < min(count, len(rows)):
        # ``argmax`` takes the first of equals, which has the smallest id.
        index = int(np.argmax(np.where(is_free, nearest, -1)))
        chosen.append(index)
        is_free[index] = False
        nearest = np.minimum(nearest, sequences.distances(index))
    return tuple(ordered[index] for index in chosen)


def farthest_of_each(
    examples: Sequence[TrainingExample],
    count: int,
    group: Callable[[TrainingExample], str],
    sequence: Callable[[TrainingExample], Sequence[str]] | None = None,
) -> tuple[TrainingExample, ...]:
    """``farthest`` within each group, such as all solutions of one task; groups by name."""
    groups: dict[str, list[TrainingExample]] = defaultdict(list)
    for example in examples:
        groups[group(example)].append(example)
    return tuple(one for name in sorted(groups) for one in farthest(groups[name], count, sequence))


def played_actions(example: TrainingExample) -> tuple[str, ...]:
    """The supervised actions; of a single step, all answers that its chat shows and its own."""
    if len(example.actions) != 1:
        return example.actions
    before = [
        str(message.get("content") or message.get("tool_calls") or "")
        for message in example.messages[: example.supervised[0]]
        if message.get("role") == "assistant"
    ]
    return (*before, *example.actions)
