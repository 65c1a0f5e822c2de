"""The verified gate for examples: what passed as a trace and still may not be trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.runtime.offered_tools import encoded_tools
from tutelage.runtime.prompt import CountTokens
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.reject import Reject, RejectReason
from tutelage.training.data.similarity import Similarity

_ROWS = 512


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """A task that measures."""

    id: str
    text: str = ""
    """What the agent sees first, goal included; compared with the examples'."""


@dataclass(frozen=True, slots=True)
class ExampleRules:
    """What an example has to be like."""

    max_tokens: int = 2048
    """Of the whole chat, as the student counts them."""
    ngram_words: int = 20
    most_ngrams: int = 20
    """How often one n-gram of words may stand in the answers of an example (arXiv 2505.14464)."""
    most_similarity: float = 0.9
    """Above it, an example counts as one of an evaluation task."""


@dataclass(frozen=True, slots=True)
class GatedExamples:
    """What passed and what did not."""

    examples: tuple[TrainingExample, ...]
    """Sorted by tenant and id."""
    rejects: tuple[Reject, ...]
    """Sorted."""


class ExampleGate:
    """Judges examples; what passed passes again, and the order does not matter.

    Of equal chats the one with the smallest tenant and id stays.

    Args:
        rules: What an example has to be like.
        count_tokens: Tokens of a text, as the student counts them.
        evaluation: The tasks that measure.
        similarity: How alike texts are; absent: only ids and equal texts count.
        text: What is compared with the evaluation's texts; absent: ``opening_text``.
    """

    def __init__(
        self,
        rules: ExampleRules,
        count_tokens: CountTokens,
        *,
        evaluation: Sequence[EvaluationTask] = (),
        similarity: Similarity | None = None,
        text: Callable[[TrainingExample], str] | None = None,
    ) -> None:
        self._rules = rules
        self._count_tokens = count_tokens
        self._tasks = frozenset(task.id for task in evaluation)
        self._texts = sorted({task.text for task in evaluation if task.text.strip()})
        self._similarity = similarity
        self._text = text or opening_text

    def judge(self, examples: Sequence[TrainingExample]) -> GatedExamples:
        """Judges every example."""
        ordered = sorted(examples, key=lambda example: (example.tenant, example.id))
        similar = self._similar(ordered)
        seen: set[str] = set()
        passed: list[TrainingExample] = []
        rejects: list[Reject] = []
        for example in ordered:
            reason = self._alone(example, similar)
            print_ = fingerprint(example)
            if reason is None and print_ in seen:
                reason = RejectReason.DUPLICATE
            if reason is None:
                seen.add(print_)
                passed.append(example)
            else:
                rejects.append(Reject(example.id, reason))
        return GatedExamples(tuple(passed), tuple(sorted(rejects)))

    def _alone(self, example: TrainingExample, similar: frozenset[str]) -> RejectReason | None:
        answers = [example.messages[index] for index in example.supervised]
        if example.task_id in self._tasks:
            return RejectReason.EVALUATION_TASK
        if not answers or any(not _words_of(answer) for answer in answers):
            return RejectReason.EMPTY_ACTION
        tokens = sum(self._count_tokens(_told(m)) for m in example.messages)
        if example.tools:
            tokens += self._count_tokens(encoded_tools(example.tools))
        if tokens > self._rules.max_tokens:
            return RejectReason.TOO_LONG
        words = [word for answer in answers for word in _words_of(answer)]
        if most_frequent_ngram(words, self._rules.ngram_words) > self._rules.most_ngrams:
            return RejectReason.REPEATED_NGRAM
        if self._text(example) in similar:
            return RejectReason.SIMILAR_TO_EVALUATION
        return None

    def _similar(self, examples: Sequence[TrainingExample]) -> frozenset[str]:
        """Texts that read like one of the evaluation's."""
        texts = sorted({self._text(example) for example in examples}) if self._texts else []
        found = set(texts) & set(self._texts)
        if self._similarity is not None:
            for start in range(0, len(texts), _ROWS):
                block = texts[start : start + _ROWS]
                highest = self._similarity(block, self._texts).max(axis=1)
                found.update(
                    text
                    for text, value in zip(block, highest, strict=True)
                    if value > self._rules.most_similarity
                )
        return frozenset(found)


def opening_text(example: TrainingExample) -> str:
    """The goal, and the first message after the instructions."""
    said = [message for message in example.messages if message.get("role") == "user"]
    return f"{example.goal}\n{' '.join(_words_of(said[0])) if said else ''}".strip()


def fingerprint(example: TrainingExample) -> str:
    """Equal for examples that teach the same: chat, tools, loss and task."""
    messages = [_without_ids(message) for message in example.messages]
    told: list[Any] = [messages, example.supervised, example.task]
    if example.tools:
        told.append(example.tools)
    return json.dumps(told, sort_keys=True)


def most_frequent_ngram(words: Sequence[str], length: int) -> int:
    """How often the most frequent n-gram stands in a text; 0 if the text is shorter."""
    grams = Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))
    return max(grams.values(), default=0)


def _words_of(message: dict[str, Any]) -> list[str]:
    return _told(message).split()


def _told(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    calls = message.get("tool_calls")
    if calls:
        text = f"{text} {json.dumps([call.get('function') for call in calls], ensure_ascii=False)}"
    return text


def _without_ids(value: Any) -> Any:
    """A message without the ids of its calls, which tell nothing."""
    if isinstance(value, dict):
        return {k: _without_ids(v) for k, v in value.items() if k not in ("id", "tool_call_id")}
    return [_without_ids(one) for one in value] if isinstance(value, list) else value
