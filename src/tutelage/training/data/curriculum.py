"""The order of the examples within an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from tutelage.runtime.prompt import CountTokens
from tutelage.training.data.example import TrainingExample

Difficulty = Callable[[TrainingExample], float]
"""Lower comes first."""


def epoch_order(
    examples: Sequence[TrainingExample],
    *,
    epoch: int,
    seed: int,
    difficulty: Difficulty | None = None,
) -> tuple[TrainingExample, ...]:
    """All examples once, shuffled anew in each epoch; with a difficulty, the easy ones first.

    Off unless a difficulty is given: no figure supports easy-to-hard for agents. Equal difficulties
    stay shuffled. The order in which the examples are given does not matter.

    Args:
        examples: What is trained on.
        epoch: From 0.
        seed: Of the shuffle.
        difficulty: What is easy.
    """
    ordered = sorted(examples, key=lambda example: (example.tenant, example.id))
    Random(f"{seed}:{epoch}").shuffle(ordered)
    if difficulty is not None:
        ordered.sort(key=difficulty)
    return tuple(ordered)


def by_length(count_tokens: CountTokens) -> Difficulty:
    """Short chats first."""

    def tokens(example: TrainingExample) -> float:
        return float(sum(count_tokens(str(m.get("content") or "")) for m in example.messages))

    return tokens


def by_student_nats(nats: Mapping[str, float]) -> Difficulty:
    """What the student finds likely first; what is not known comes last.

    Args:
        nats: Mean negative log-likelihood of the supervised tokens under the student, by example
            id.
    """
    return lambda example: nats.get(example.id, float("inf"))


def by_agreement(shares: Mapping[str, float]) -> Difficulty:
    """Where the student's samples agree most first; what is not known comes last.

    Args:
        shares: Agreement in [0, 1] by trace id; an example counts as its least certain trace.
    """

    def disagreement(example: TrainingExample) -> float:
        known = [shares[id] for id in example.trace_ids if id in shares]
        return 1 - min(known) if known else float("inf")

    return disagreement
