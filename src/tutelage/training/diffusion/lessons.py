"""Chats and the answers that a diffusion student shall learn, from words to a trained student."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tutelage.runtime.errors import NoExamples
from tutelage.training.diffusion.chat import END, MASK, ChatTokens, word_tokens
from tutelage.training.diffusion.commit_rule import CommitRule, TopK
from tutelage.training.diffusion.decoding import DecodingSettings, decode
from tutelage.training.diffusion.model import DiffusionTransformer
from tutelage.training.diffusion.objective import certainty_forcing
from tutelage.training.diffusion.shape import small_shape
from tutelage.training.diffusion.student import DiffusionStudent
from tutelage.training.diffusion.trainer import DiffusionTraining, Pair, Pairs, train_diffusion
from tutelage.training.diffusion.trajectories import own_trajectories
from tutelage.training.diffusion.views import BlockViews, MixedViews, ResponseViews
from tutelage.training.recipes.recipe import Watch

LEAST_MASKED = 0.3
BATCH = 32
WORDS_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}<{{ message['role'] }}> "
    "{{ message['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Without system messages: a student from scratch knows no other task than its own."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A chat up to an answer, and the answer."""

    messages: tuple[Mapping[str, str], ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Grade:
    """How a student does on lessons under one rule."""

    right: int
    """Answers equal to those of the lessons, spaces aside."""
    lessons: int
    forwards: float
    """Of an answer, mean."""
    tokens_a_forward: float


def lesson_tokens(lessons: Iterable[Lesson]) -> ChatTokens:
    """A tokenizer of the words and punctuation marks of lessons."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    found: dict[str, None] = {}
    for lesson in lessons:
        for text in (*(one["content"] for one in lesson.messages), lesson.answer):
            found.update(dict.fromkeys(piece for piece, _ in split.pre_tokenize_str(text)))
    chat = word_tokens(found)
    chat.tokenizer.pre_tokenizer = split
    return ChatTokens(chat.tokenizer, WORDS_TEMPLATE)


def scratch_student(
    lessons: Sequence[Lesson],
    *,
    width: int = 96,
    layers: int = 3,
    heads: int = 4,
    slots: int = 16,
    max_positions: int = 512,
    seed: int = 0,
) -> DiffusionStudent:
    """An untrained student that knows the words of some lessons.

    Args:
        lessons: Not empty.
        width: Of the stream.
        layers: Of the transformer.
        heads: Of the attention.
        slots: Longest answer in tokens, written as one block.
        max_positions: Longest prompt plus answer in tokens.
        seed: Of the weights.

    Raises:
        NoExamples: There is no lesson.
    """
    if not lessons:
        raise NoExamples("there is nothing to learn from: give at least one lesson")
    chat = lesson_tokens(lessons)
    token = chat.tokenizer.token_to_id
    shape = small_shape(
        chat.tokenizer.get_vocab_size(),
        token(MASK),
        token(END),
        width=width,
        layers=layers,
        heads=heads,
        slots=slots,
        block_length=slots,
        max_positions=max_positions,
    )
    torch.manual_seed(seed)
    return DiffusionStudent(DiffusionTransformer(shape), chat)


def pairs_of(student: DiffusionStudent, lessons: Iterable[Lesson]) -> list[Pair]:
    """Lessons as tokens; those that fit neither prompt nor canvas are left out."""
    found = []
    for lesson in lessons:
        prompt, answer = student.chat.prompt(lesson.messages), student.chat.encode(lesson.answer)
        if len(prompt) <= student.shape.longest_prompt and len(answer) < student.shape.slots:
            found.append(Pair(tuple(prompt), tuple(answer)))
    return found


def teach(
    student: DiffusionStudent,
    lessons: Sequence[Lesson],
    training: DiffusionTraining,
    watch: Watch | None = None,
) -> list[float]:
    """Trains a student in place on lessons; the loss of every step.

    Raises:
        NoExamples: No lesson fits the student.
        TrainingError: The loss is no number any more.
    """
    mask = student.shape.mask_token
    views = MixedViews(ResponseViews(mask), BlockViews(mask, ratio=(LEAST_MASKED, 1.0)))
    pairs = Pairs(pairs_of(student, lessons), student.model)
    return train_diffusion(student.model, pairs, views, training, watch=watch)


def distil(
    student: DiffusionStudent,
    lessons: Sequence[Lesson],
    training: DiffusionTraining,
    *,
    beta: float = 2.0,
    watch: Watch | None = None,
) -> float:
    """Certainty forcing on the student's own right answers; the share that was right.

    Raises:
        NoExamples: No answer was right, or no lesson fits.
        TrainingError: The loss is no number any more.
    """
    pairs = pairs_of(student, lessons)
    own = own_trajectories(
        student.model,
        [pair.prompt for pair in pairs],
        lambda number, tokens: tuple(tokens) == pairs[number].answer,
        DecodingSettings(TopK(1)),
        batch=BATCH,
    )
    train_diffusion(
        student.model,
        Pairs([one.pair for one in own.kept], student.model),
        BlockViews(student.shape.mask_token),
        training,
        loss=certainty_forcing(beta),
        watch=watch,
    )
    return own.share_kept


def graded(
    student: DiffusionStudent,
    lessons: Sequence[Lesson],
    rule: CommitRule,
    told: Callable[[int], None] = lambda _: None,
) -> Grade:
    """Greedy answers to lessons.

    Args:
        student: Who answers.
        lessons: What is asked; those that do not fit count as wrong.
        rule: How answers are written.
        told: Hears how many are answered.

    Raises:
        NoExamples: No lesson fits.
    """
    pairs = pairs_of(student, lessons)
    if not pairs:
        raise NoExamples("none of the lessons fits the student: raise slots or max_positions")
    right = forwards = tokens = 0
    for begin in range(0, len(pairs), BATCH):
        chosen = pairs[begin : begin + BATCH]
        answers = decode(student.model, [one.prompt for one in chosen], DecodingSettings(rule))
        right += sum(a.tokens == one.answer for a, one in zip(answers, chosen, strict=True))
        forwards += sum(one.forwards for one in answers)
        tokens += sum(len(one.tokens) for one in answers)
        told(begin + len(chosen))
    return Grade(right, len(lessons), forwards / len(pairs), tokens / forwards)
