"""Approximate likelihood matching: learn from a teacher of another tokenizer.

Both tokenizations of a text are cut where both end a token at the same byte, and the likelihood of
each chunk is matched. Only log-probabilities of the text's own tokens are needed. Source:
Minixhofer et al., Cross-tokenizer distillation via approximate likelihood matching, arXiv
2503.20083.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.given import ChunkPairs, Given
from tutelage.training.objectives.objective import Loss, Objective, part
from tutelage.training.objectives.signal import Need, Signal
from tutelage.training.objectives.tokens import figure, target_log_probs

Piece = bytes | str
"""The bytes of a token of text, or the role of a special token, as in ``"end"``."""
NUDGE: Final = 1e-6
"""Nats that keep a chunk's likelihood below 1."""
LOG_HALF: Final = -0.6931471805599453


@dataclass(frozen=True, slots=True)
class Chunk:
    """Positions of both sides' tokens that spell the same bytes, or one special token of each."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]


def align(student: Sequence[Piece], teacher: Sequence[Piece]) -> list[Chunk]:
    """Cuts two tokenizations of one text at every byte where both end a token.

    Special tokens of one role at the same byte are a chunk of their own, and no chunk reaches over
    them; one that the other side lacks is in no chunk. Text tokens without bytes go with those that
    follow them, at the end with those before.

    Returns:
        Chunks in the student's order.

    Raises:
        TrainingError: They spell different texts.
    """
    if text_of(student) != text_of(teacher):
        raise TrainingError(
            "student and teacher tokens spell different texts: score the text that was tokenised"
        )
    chunks: list[Chunk] = []
    mine, theirs = 0, 0
    for first, second in [*_shared_specials(student, teacher), (len(student), len(teacher))]:
        chunks += _text_chunks(
            _text_tokens(student, range(mine, first)), _text_tokens(teacher, range(theirs, second))
        )
        if first < len(student):
            chunks.append(Chunk((first,), (second,)))
        mine, theirs = first + 1, second + 1
    return chunks


def text_of(pieces: Sequence[Piece]) -> bytes:
    """The bytes of the text, special tokens left out."""
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def chunk_numbers(
    chunks: Sequence[Chunk], student_tokens: int, teacher_tokens: int
) -> tuple[list[int], list[int]]:
    """The number of the chunk that each token is in, -1 for none: rows of ``ChunkPairs``."""
    student, teacher = [-1] * student_tokens, [-1] * teacher_tokens
    for number, chunk in enumerate(chunks):
        for place in chunk.student:
            student[place] = number
        for place in chunk.teacher:
            teacher[place] = number
    return student, teacher


def _text_tokens(pieces: Sequence[Piece], places: range) -> list[tuple[int, int]]:
    """(place, bytes) of each token of text."""
    return [(place, len(piece)) for place in places if isinstance(piece := pieces[place], bytes)]


def _specials(pieces: Sequence[Piece]) -> list[tuple[int, int, str]]:
    """(place, byte, role) of each special token."""
    found, byte = [], 0
    for place, piece in enumerate(pieces):
        if isinstance(piece, str):
            found.append((place, byte, piece))
        else:
            byte += len(piece)
    return found


def _shared_specials(student: Sequence[Piece], teacher: Sequence[Piece]) -> list[tuple[int, int]]:
    """Places of the special tokens of one role at one byte of the text, in order."""
    shared: list[tuple[int, int]] = []
    waiting = _specials(teacher)
    for place, *key in _specials(student):
        for number, (other, *their_key) in enumerate(waiting):
            if key == their_key:
                shared.append((place, other))
                waiting = waiting[number + 1 :]
                break
    return shared


def _text_chunks(
    student: Sequence[tuple[int, int]], teacher: Sequence[tuple[int, int]]
) -> list[Chunk]:
    sides = (student, teacher)
    read, byte = [0, 0], [0, 0]
    opened: tuple[list[int], list[int]] = ([], [])
    chunks: list[Chunk] = []
    while read[0] < len(student) or read[1] < len(teacher):
        side = 0 if byte[0] < byte[1] or (byte[0] == byte[1] and not opened[0]) else 1
        if read[side] == len(sides[side]):
            side = 1 - side
        place, size = sides[side][read[side]]
        opened[side].append(place)
        read[side] += 1
        byte[side] += size
        if byte[0] == byte[1] and opened[0] and opened[1]:
            chunks.append(Chunk(tuple(opened[0]), tuple(opened[1])))
            opened = ([], [])
    if chunks and (opened[0] or opened[1]):
        last = chunks.pop()
        chunks.append(Chunk(last.student + tuple(opened[0]), last.teacher + tuple(opened[1])))
    return chunks


def merged(
    chunks: Sequence[Chunk], teacher_ending: Sequence[float], least: float = 1e-4
) -> list[Chunk]:
    """Joins neighbours until the teacher thinks it likely that a chunk ends there.

    Args:
        chunks: As ``align`` gives them.
        teacher_ending: Probability that the teacher gives to a boundary after each chunk.
        least: Probability from which on a chunk may end; 0 leaves them as they are.
    """
    joined: list[Chunk] = []
    student: tuple[int, ...] = ()
    teacher: tuple[int, ...] = ()
    for number, (chunk, ending) in enumerate(zip(chunks, teacher_ending, strict=True)):
        student, teacher = student + chunk.student, teacher + chunk.teacher
        if ending >= least or number == len(chunks) - 1:
            joined.append(Chunk(student, teacher))
            student, teacher = (), ()
    return joined


def chunk_log_likelihoods(log_likelihoods: Tensor, numbers: Tensor, chunks: int) -> Tensor:
    """Sum of the tokens' log-probabilities in each chunk, at most 0.

    Args:
        log_likelihoods: (batch, seq), nats.
        numbers: (batch, seq), int64: chunk of each token, -1 for none.
        chunks: Chunks of the longest row.

    Returns:
        (batch, chunks); 0 where a row has fewer.
    """
    sums = log_likelihoods.new_zeros(len(log_likelihoods), chunks + 1)
    sums = sums.scatter_add(1, numbers + 1, log_likelihoods)
    return sums[:, 1:].clamp(max=0)


def log1mexp(value: Tensor) -> Tensor:
    """``log(1 - e^value)`` for value < 0, exact on both sides of log 1/2."""
    near = value > LOG_HALF
    safe_near = torch.where(near, value, LOG_HALF)
    safe_far = torch.where(near, LOG_HALF, value)
    return torch.where(near, (-torch.expm1(safe_near)).log(), torch.log1p(-safe_far.exp()))


Difference = Callable[[Tensor, Tensor], Tensor]
"""(teacher x, student y), both log-likelihoods below 0 -> a difference a chunk."""


def binary_ce(x: Tensor, y: Tensor) -> Tensor:
    """``-[e^x y + (1 - e^x) log(1 - e^y)]``: the binary KL and a constant."""
    return -(x.exp() * y - torch.expm1(x) * log1mexp(y))


def binary_kl(x: Tensor, y: Tensor) -> Tensor:
    """``KL(Bernoulli(e^x) || Bernoulli(e^y))``."""
    return x.exp() * (x - y) - torch.expm1(x) * (log1mexp(x) - log1mexp(y))


def reverse_binary_kl(x: Tensor, y: Tensor) -> Tensor:
    """``KL(Bernoulli(e^y) || Bernoulli(e^x))``."""
    return binary_kl(y, x)


def absolute(x: Tensor, y: Tensor) -> Tensor:
    """``|x - y|``."""
    return (x - y).abs()


def probability_gap(x: Tensor, y: Tensor) -> Tensor:
    """``|e^x - e^y|``."""
    return (x.exp() - y.exp()).abs()


def renyi(x: Tensor, y: Tensor, order: float = 0.5) -> Tensor:
    """Rényi divergence of the two Bernoullis; tends to the binary KL as the order tends to 1."""
    ours, theirs = order * x + (1 - order) * y, order * log1mexp(x) + (1 - order) * log1mexp(y)
    return torch.logaddexp(ours, theirs) / (order - 1)


def k2(x: Tensor, y: Tensor) -> Tensor:
    """``r^2 / 2``, ``r = x - y``."""
    return (x - y).square() / 2


def k3(x: Tensor, y: Tensor) -> Tensor:
    """``e^r - 1 - r``, ``r = y - x``: what estimates KL(teacher || student) on its own text."""
    return torch.expm1(y - x) - (y - x)


def limit_kl(x: Tensor, y: Tensor) -> Tensor:
    """``(x - y) + x log(-y) - x log(-x)``: the limit of ``tau KL`` for tau to infinity.

    On log-likelihoods that were not divided by tau.
    """
    return (x - y) + x * (-y).log() - x * (-x).log()


DIFFERENCES: dict[str, Difference] = {
    "binary-ce": binary_ce,
    "binary-kl": binary_kl,
    "reverse-binary-kl": reverse_binary_kl,
    "absolute": absolute,
    "probability": probability_gap,
    "renyi": renyi,
    "k2": k2,
    "k3": k3,
    "limit": limit_kl,
}


def alm_loss(
    student: Tensor, teacher: Tensor, counted: Tensor, difference: Difference, tau: float = 100.0
) -> Tensor:
    """Mean over chunks of a difference of ``likelihood^(1/tau)``.

    Args:
        student: (batch, chunks), log-likelihoods, nats.
        teacher: (batch, chunks), likewise.
        counted: (batch, chunks), bool: the chunks that a row has.
        difference: What compares them.
        tau: Flattens; the closed form ``limit_kl`` takes 1.

    Returns:
        Scalar.
    """
    x, y = teacher.detach() / tau - NUDGE, student / tau - NUDGE
    x, y = torch.where(counted, x, LOG_HALF), torch.where(counted, y, LOG_HALF)
    return torch.where(counted, difference(x, y), 0.0).sum() / counted.sum().clamp(min=1)


def gradient_magnitude_weights(
    losses: Sequence[Tensor], parameters: Sequence[Tensor]
) -> list[float]:
    """``(1/|g_i|) / sum_j (1/|g_j|)``: several losses pull alike, whatever their scale (GradMag).

    Args:
        losses: Scalars of one graph, which is kept.
        parameters: Where the gradients are measured: those of the last layer are enough.

    Returns:
        A weight for each loss; they sum to 1. Losses without a gradient get 0 beside others.
    """
    norms = []
    for loss in losses:
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        squares = [grad.square().sum() for grad in grads if grad is not None]
        norms.append(float(torch.stack(squares).sum().sqrt()) if squares else 0.0)
    inverse = [1 / norm if norm > 0 else 0.0 for norm in norms]
    total = sum(inverse)
    return [value / total if total else 1 / len(losses) for value in inverse]


def alm_objective(
    difference: str = "binary-ce", tau: float = 100.0, order: float = 0.5
) -> Objective:
    """Needs byte-aligned chunks and the teacher's log-probabilities of the text's tokens.

    Args:
        difference: A name in ``DIFFERENCES``.
        tau: Flattens likelihoods; 1 for ``limit``.
        order: Of ``renyi``.

    Raises:
        TrainingError: An option is out of range.
    """
    if difference not in DIFFERENCES:
        raise TrainingError(f"difference is {difference!r}: give one of {sorted(DIFFERENCES)}")
    if tau <= 0 or not 0 < order < 1:
        raise TrainingError(
            f"tau is {tau} and order {order}: give a positive tau and an order between 0 and 1"
        )
    compare = partial(renyi, order=order) if difference == "renyi" else DIFFERENCES[difference]

    def formula(given: Given) -> Loss:
        chunks = part("chunks", given.chunks)
        student, teacher, counted = chunk_pairs(given, chunks)
        loss = alm_loss(student, teacher, counted, compare, tau)
        gap = torch.where(counted, (teacher - student).abs(), 0.0).sum() / counted.sum().clamp(
            min=1
        )
        return loss, {"loss": figure(loss), "chunk_gap": figure(gap)}

    return Objective("alm", Signal.LOG_PROBS, formula, needs=frozenset({Need.CHUNKS}))


def chunk_pairs(given: Given, chunks: ChunkPairs) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihoods of the chunks whose student's tokens all carry loss.

    Returns:
        Student's and teacher's (batch, chunks), nats, and (batch, chunks), bool: which there are.
    """
    chosen = given.chosen
    count = int(torch.cat([chunks.student.flatten(), chunks.teacher.flatten()]).max()) + 1
    own = target_log_probs(chosen.logits, chosen.targets)
    student = chunk_log_likelihoods(own, chunks.student, count)
    teacher = chunk_log_likelihoods(chunks.teacher_log_probs, chunks.teacher, count)
    left_out = torch.where(chosen.mask, -1, chunks.student)
    present = _held(chunks.student, count) & ~_held(left_out, count)
    if chunks.student_ending is not None and chunks.teacher_ending is not None:
        student = (student + chunks.student_ending).clamp(max=0)
        teacher = (teacher + chunks.teacher_ending).clamp(max=0)
    return student, teacher, present & _held(chunks.teacher, count)


def _held(numbers: Tensor, count: int) -> Tensor:
    """(batch, chunks), bool: which numbers occur in each row of (batch, seq)."""
    held = numbers.new_zeros(len(numbers), count + 1)
    return held.scatter_add(1, numbers + 1, torch.ones_like(numbers))[:, 1:] > 0
