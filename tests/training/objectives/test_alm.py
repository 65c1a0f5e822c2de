"""ALM: chunks that spell the text, and differences against their closed forms."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tests.training.objectives.batches import full, log_probs_of, logits, number, scored

from tutelage.runtime.errors import TrainingError
from tutelage.training.objectives.alm import (
    DIFFERENCES,
    Chunk,
    Piece,
    absolute,
    align,
    alm_loss,
    binary_ce,
    binary_kl,
    chunk_log_likelihoods,
    chunk_numbers,
    gradient_magnitude_weights,
    k2,
    k3,
    limit_kl,
    log1mexp,
    merged,
    probability_gap,
    renyi,
    reverse_binary_kl,
    text_of,
)
from tutelage.training.objectives.divergences import forward_kl
from tutelage.training.objectives.given import ChunkPairs, Given, Scored
from tutelage.training.objectives.registry import objective
from tutelage.training.objectives.tokens import masked_mean

ODD = ("👩\u200d👩\u200d👧 ok", "a\r\nb", "  leading", "e\u0301", "\x00")
TAGS = ("start", "user", "assistant", "end")


def cut(text: bytes, draw: random.Random) -> list[Piece]:
    """A tokenization at random bytes, some inside a character, with a few empty tokens."""
    places = sorted(draw.sample(range(len(text) + 1), draw.randint(0, len(text))))
    edges = [0, *places, len(text)]
    return [text[a:b] for a, b in pairwise(edges) if b > a or draw.random() < 0.1]


def joined(chunks: list[Chunk], pieces: list[Piece], side: str) -> bytes:
    return b"".join(
        piece
        for chunk in chunks
        for place in getattr(chunk, side)
        if isinstance(piece := pieces[place], bytes)
    )


@settings(max_examples=1000, deadline=None)
@drawn(
    turns=st.lists(
        st.one_of(st.text(), st.sampled_from(ODD)),
        max_size=3,
    ),
    seed=st.integers(0, 2**32),
)
def test_chunks_of_both_sides_spell_the_text(turns: list[str], seed: int) -> None:
    draw = random.Random(seed)
    student: list[Piece] = []
    teacher: list[Piece] = ["start"] if draw.random() < 0.5 else []
    for turn in turns:
        tag = draw.choice(TAGS)
        text = turn.encode("utf-8", "surrogatepass")
        student += [tag, *cut(text, draw)]
        teacher += [tag, *cut(text, draw)]

    chunks = align(student, teacher)

    assert joined(chunks, student, "student") == text_of(student)
    assert joined(chunks, teacher, "teacher") == text_of(teacher)
    assert [place for chunk in chunks for place in chunk.student] == sorted(
        {place for chunk in chunks for place in chunk.student}
    )
    for chunk in chunks:
        mine = [student[place] for place in chunk.student]
        theirs = [teacher[place] for place in chunk.teacher]
        assert mine
        assert theirs
        if isinstance(mine[0], str):
            assert mine == theirs
        else:
            assert text_of(mine) == text_of(theirs)
    tagged = sum(isinstance(piece, str) for piece in student)
    assert sum(isinstance(student[chunk.student[0]], str) for chunk in chunks) == tagged


def test_chunks_are_as_short_as_they_can_be() -> None:
    student: list[Piece] = [b"go", b" to", b" the", b" de", b"sk"]
    teacher: list[Piece] = ["start", b"g", b"o to", b" the", b" desk", "end"]

    assert align(student, teacher) == [
        Chunk((0, 1), (1, 2)),
        Chunk((2,), (3,)),
        Chunk((3, 4), (4,)),
    ]


def test_one_tokenizer_gives_one_chunk_a_token() -> None:
    pieces: list[Piece] = ["start", b"go", b" ", b"\xc3", b"\xa9", "end"]

    assert align(pieces, pieces) == [Chunk((place,), (place,)) for place in range(6)]


def test_empty_tokens_go_with_their_neighbours() -> None:
    assert align([b"", b"a"], [b"a"]) == [Chunk((0, 1), (0,))]
    assert align([b"a"], [b"", b"a"]) == [Chunk((0,), (0, 1))]
    assert align([b"a", b""], [b"a"]) == [Chunk((0, 1), (0,))]
    assert align([b"a"], [b"a", b""]) == [Chunk((0,), (0, 1))]
    assert align([b""], []) == []


def test_other_texts_are_refused() -> None:
    with pytest.raises(TrainingError, match="different texts"):
        align([b"a"], [b"b"])


def test_tokens_know_their_chunk() -> None:
    chunks = [Chunk((0, 1), (1,)), Chunk((3,), (2, 3))]

    assert chunk_numbers(chunks, 5, 4) == ([0, 0, -1, 1, -1], [-1, 0, 1, 1])


def test_unlikely_ends_are_merged_away() -> None:
    chunks = [Chunk((place,), (place,)) for place in range(4)]

    assert merged(chunks, [0.5, 1e-6, 0.5, 1e-6]) == [
        Chunk((0,), (0,)),
        Chunk((1, 2), (1, 2)),
        Chunk((3,), (3,)),
    ]
    assert merged(chunks, [0.0] * 4, least=0.0) == chunks


def test_likelihoods_are_sums_over_chunks_and_never_above_one() -> None:
    values = torch.tensor([[-1.0, -2.0, -4.0, -8.0], [-1.0, -1.0, 0.5, 3.0]])
    numbers = torch.tensor([[0, 0, -1, 1], [0, 1, -1, 2]])

    assert chunk_log_likelihoods(values, numbers, 3).tolist() == [[-3, -8, 0], [-1, -1, 0]]


@pytest.mark.parametrize("value", [-1e-6, -1e-3, -0.5, math.log(0.5), -1.0, -20.0, -80.0])
def test_log1mexp_is_exact_on_both_sides(value: float) -> None:
    found = torch.tensor([value], dtype=torch.float64, requires_grad=True)

    log1mexp(found).backward()

    assert number(log1mexp(found.detach())) == pytest.approx(math.log1p(-math.exp(value)), rel=1e-9)
    assert found.grad is not None
    assert number(found.grad) == pytest.approx(-1 / math.expm1(-value), rel=1e-6)


X = torch.tensor([math.log(0.3)], dtype=torch.float64)
Y = torch.tensor([math.log(0.05)], dtype=torch.float64)


def bernoulli_kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_differences_are_what_plain_code_says() -> None:
    gap = math.log(0.3 / 0.05)

    assert number(binary_kl(X, Y)) == pytest.approx(bernoulli_kl(0.3, 0.05))
    assert number(reverse_binary_kl(X, Y)) == pytest.approx(bernoulli_kl(0.05, 0.3))
    assert number(binary_ce(X, Y)) == pytest.approx(-(0.3 * math.log(0.05) + 0.7 * math.log(0.95)))
    assert number(absolute(X, Y)) == pytest.approx(gap)
    assert number(probability_gap(X, Y)) == pytest.approx(0.25)
    assert number(k2(X, Y)) == pytest.approx(gap**2 / 2)
    assert number(k3(X, Y)) == pytest.approx(0.05 / 0.3 - 1 + gap)
    assert number(renyi(X, Y)) == pytest.approx(
        -2 * math.log(math.sqrt(0.3 * 0.05) + math.sqrt(0.7 * 0.95))
    )
    assert number(renyi(X, Y, 1 - 1e-6)) == pytest.approx(bernoulli_kl(0.3, 0.05), rel=1e-3)


@pytest.mark.parametrize(("tau", "value"), [(1, 0.324), (10, 0.653), (100, 0.690), (1e4, 0.694)])
def test_tau_times_the_kl_tends_to_the_closed_form(tau: float, value: float) -> None:
    assert number(tau * binary_kl(X / tau, Y / tau)) == pytest.approx(value, abs=6e-4)
    assert number(limit_kl(X, Y)) == pytest.approx(0.6943, abs=5e-5)


@pytest.mark.parametrize("name", [name for name in DIFFERENCES if name != "binary-ce"])
def test_equal_likelihoods_differ_by_nothing(name: str) -> None:
    assert number(DIFFERENCES[name](X, X)) == pytest.approx(0, abs=1e-12)
    assert number(DIFFERENCES[name](X, Y)) > 0
    assert number(DIFFERENCES[name](Y, X)) > 0


@pytest.mark.parametrize("name", [n for n in DIFFERENCES if n not in ("absolute", "probability")])
def test_gradients_are_right_and_vanish_at_equality(name: str) -> None:
    difference = DIFFERENCES[name]
    student = Y.clone().requires_grad_()
    same = X.clone().requires_grad_()

    assert torch.autograd.gradcheck(lambda y: difference(X, y), student)
    (gradient,) = torch.autograd.grad(difference(X, same), same)
    assert number(gradient) == pytest.approx(0, abs=1e-9)


def test_the_cross_entropy_is_the_kl_and_a_constant() -> None:
    student = Y.clone().requires_grad_()

    cross = torch.autograd.grad(binary_ce(X, student), student)[0]
    divergence = torch.autograd.grad(binary_kl(X, student), student)[0]

    assert torch.allclose(cross, divergence)


def test_two_tokens_and_one_tokenizer_give_the_token_kl() -> None:
    student, teacher = logits(1, vocab=2, grad=True), logits(2, vocab=2)
    targets = torch.tensor([[0, 1, 1, 0]] * 3)
    mask = torch.ones(3, 4, dtype=torch.bool)
    chosen = Scored(student, targets, mask)
    numbers = torch.arange(4).expand(3, 4)
    given = Given(chosen, chunks=ChunkPairs(numbers, numbers, log_probs_of(chosen, teacher)))

    loss, _ = objective("alm", {"difference": "binary-kl", "tau": 1.0}).loss(given)

    expected = masked_mean(forward_kl(student, teacher), mask)
    assert number(loss.detach()) == pytest.approx(number(expected.detach()), abs=1e-5)


def test_a_student_equal_to_the_teacher_has_no_loss_and_no_gradient() -> None:
    given = full(same_models=True)

    loss, figures = objective("alm", {"difference": "binary-kl"}).loss(given)
    (gradient,) = torch.autograd.grad(loss, given.chosen.logits)

    assert number(loss) == pytest.approx(0, abs=1e-9)
    assert gradient.abs().max() < 1e-9
    assert figures["chunk_gap"] == pytest.approx(0)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_difference_can_be_asked_for(name: str) -> None:
    loss, _ = objective("alm", {"difference": name, "tau": 1.0 if name == "limit" else 10.0}).loss(
        full()
    )

    assert torch.isfinite(loss)


def test_chunks_that_reach_outside_the_mask_do_not_count() -> None:
    given = full()
    numbers = torch.tensor([[0, 0, 1, 1]] * 3)
    masked = scored(0)
    teacher = log_probs_of(masked, logits(20))
    cut_chunks = replace(given, chunks=ChunkPairs(numbers, numbers, teacher))

    loss, _ = objective("alm").loss(cut_chunks)
    (gradient,) = torch.autograd.grad(loss, given.chosen.logits)

    # Row 0 lacks its last token, row 1 its first: those chunks are out, whole.
    assert (gradient[0, 2:] == 0).all()
    assert (gradient[1, :2] == 0).all()
    assert (gradient[2].abs().sum(-1) > 0).all()


def test_the_mean_is_over_the_chunks_there_are() -> None:
    student = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
    teacher = torch.tensor([[-2.0, -2.0], [-1.0, -9.0]])
    counted = torch.tensor([[True, True], [True, False]])

    assert number(alm_loss(student, teacher, counted, absolute, 1.0)) == pytest.approx(1.0)


def test_the_mass_of_a_boundary_is_added_to_both_sides() -> None:
    given = full()
    assert given.chunks is not None
    ending = torch.full((3, 4), math.log(0.5), dtype=torch.float64)
    debiased = replace(given.chunks, student_ending=ending, teacher_ending=ending)

    _, plain = objective("alm").loss(given)
    _, figures = objective("alm").loss(replace(given, chunks=debiased))

    assert figures["chunk_gap"] == pytest.approx(plain["chunk_gap"])
    assert figures["loss"] != plain["loss"]


def test_gradient_magnitudes_decide_the_weights_and_not_the_users_scale() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    other = torch.tensor([1.0], requires_grad=True)
    loss = weight.square().sum()

    assert gradient_magnitude_weights([loss], [weight]) == [1.0]
    assert gradient_magnitude_weights([loss, loss * 1], [weight]) == [0.5, 0.5]
    assert gradient_magnitude_weights([loss, 4 * loss], [weight]) == pytest.approx([0.8, 0.2])
    assert gradient_magnitude_weights([loss, other.sum()], [weight]) == [1.0, 0.0]
    assert gradient_magnitude_weights([other.sum(), other.sum()], [weight]) == [0.5, 0.5]
