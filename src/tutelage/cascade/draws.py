"""What ways to draw samples take of recorded ones, and whether they decide alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage.runtime.protocols import AgreementRule
from tutelage.runtime.types import Action, Choice, Message

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """One sample as it was drawn."""

    action: str | None
    """Canonical key; ``None`` if it named no action."""
    output_tokens: int
    logprob: float | None = None
    """Mean log-probability of its tokens, where it is known."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What a way to draw takes."""

    name: str
    steps: int
    samples: float
    """Mean samples a step."""
    token_share: float
    """Output tokens over those of all samples."""
    same_share: float
    """Share of the steps that are decided as all samples decide them."""


class KeyForm:
    """Reads the action of a choice whose text is a canonical key already."""

    def action(self, answer: Choice | Message) -> Action | None:
        """The action; ``None`` for an empty text."""
        key = (answer.message if isinstance(answer, Choice) else answer).text
        return Action("text", key) if key else None

    def past(self, text: str) -> Action | None:
        """The action of a key."""
        return Action("text", text) if text else None


def sequential_draws(
    name: str,
    rule: AgreementRule,
    steps: Sequence[Sequence[RecordedSample]],
    whole: AgreementRule | None = None,
) -> Draws:
    """Draws recorded samples one by one until the rule, which reads keys, is settled.

    Args:
        name: What it is called.
        rule: Over ``KeyForm``.
        steps: (steps, samples), in the order in which they were drawn; at least one of each.
        whole: Decides over all samples what the same decision is; absent: ``rule``.
    """
    whole = whole or rule
    taken = []
    same = 0
    for samples in steps:
        choices = [_choice(place, sample) for place, sample in enumerate(samples)]
        drawn = next(
            count
            for count in range(1, len(choices) + 1)
            if count == len(choices) or rule.measure(choices[:count], len(choices)).settled
        )
        taken.append(drawn)
        decided = served_action(rule, choices[:drawn], len(choices))
        same += decided == served_action(whole, choices, len(choices))
    return counted_draws(name, steps, taken, same)


def counted_draws(
    name: str, steps: Sequence[Sequence[RecordedSample]], taken: Sequence[int], same: int
) -> Draws:
    """Sums up how many of each step's samples were taken.

    Args:
        name: What it is called.
        steps: (steps, samples).
        taken: (steps,), the first so many samples.
        same: Steps that are decided as all samples decide them.
    """
    used = sum(
        sample.output_tokens
        for samples, count in zip(steps, taken, strict=True)
        for sample in samples[:count]
    )
    whole = sum(sample.output_tokens for samples in steps for sample in samples)
    return Draws(name, len(steps), sum(taken) / len(steps), used / whole, same / len(steps))


def first_decides(
    rule: AgreementRule, steps: Sequence[Sequence[RecordedSample]]
) -> tuple[bool, ...]:
    """Whether the first sample's action is what the student would do by all samples.

    Args:
        rule: Over ``KeyForm``.
        steps: (steps, samples), at least one of each.

    Returns:
        (steps,)
    """
    found = []
    for samples in steps:
        choices = [_choice(place, sample) for place, sample in enumerate(samples)]
        first = samples[0].action
        found.append(first is not None and served_action(rule, choices, len(choices)) == first)
    return tuple(found)


def served_action(rule: AgreementRule, choices: Sequence[Choice], planned: int) -> str | None:
    """The action that the student would take; ``None``: the teacher's turn."""
    votes = rule.measure(choices, planned)
    return votes.modal.key if votes.agreed and votes.modal is not None else None


def _choice(place: int, sample: RecordedSample) -> Choice:
    told = None if sample.logprob is None else {"content": [{"logprob": sample.logprob}]}
    message = Message(role="assistant", content=sample.action or "")
    return Choice(index=place, message=message, logprobs=told)
