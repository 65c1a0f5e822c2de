"""A router that looks at the prompt alone, before anything is sampled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.runtime.chunks import chunks
from tutelage.runtime.errors import MissingExtra
from tutelage.runtime.protocols import Model
from tutelage.runtime.types import ChatRequest, Choice, Completion, Message, Usage

Embed = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
_TASK = "Task: "


@dataclass(frozen=True, slots=True)
class PromptClassifier:
    """P(the student's action is right) from an embedding of the prompt: a logistic regression."""

    weights: tuple[float, ...]
    intercept: float

    def probability(self, vector: NDArray[Any]) -> float:
        """In [0, 1]; ``vector`` is (dimensions,)."""
        total = float(np.asarray(self.weights) @ vector) + self.intercept
        return float(1 / (1 + np.exp(-total)))


def fit_prompt_classifier(
    vectors: NDArray[Any], right: Sequence[bool], penalty: float = 1.0
) -> PromptClassifier:
    """Fits the classifier on labelled steps.

    Args:
        vectors: (steps, dimensions).
        right: (steps,), whether the student's action was right; both kinds occur.
        penalty: Weight of the squared coefficients over two, as in ``fit_logistic``.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "calibrate") from error

    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(vectors, np.asarray(right))
    return PromptClassifier(tuple(model.coef_[0].tolist()), float(model.intercept_[0]))


@dataclass(frozen=True, slots=True)
class PromptRoutedModel:
    """Answers greedily where the prompt looks easy; else it names no action and costs nothing.

    With a policy that gives unusable answers to the teacher it is a router before generation.
    Source: RouteLLM (arXiv 2406.18665), whose classifier is trained on preferences; here on the
    labelled steps that the calibrated policies are fitted on.

    Args:
        model: The student.
        embed: Texts to unit rows.
        classifier: The trained classifier.
        threshold: Least probability that is answered.
    """

    model: Model
    embed: Embed
    classifier: PromptClassifier
    threshold: float

    async def complete(self, request: ChatRequest, n: int = 1) -> Completion:
        """The student's greedy answer, or an empty one.

        Raises:
            ModelError: The student failed.
            RetrievalError: The embedder failed.
        """
        said = [(message.role, message.text) for message in request.messages]
        (vector,) = await self.embed([routed_text(said)])
        if self.classifier.probability(vector) >= self.threshold:
            return await self.model.complete(request.model_copy(update={"temperature": 0.0}), 1)
        empty = Message(role="assistant", content="")
        choice = Choice(index=0, message=empty, finish_reason="stop")
        return Completion(id="routed", model=request.model, choices=[choice], usage=Usage())

    async def stream(self, request: ChatRequest) -> AsyncGenerator[dict[str, Any]]:
        """The answer as chunks."""
        for chunk in chunks(await self.complete(request), usage=False):
            yield chunk


def routed_text(messages: Sequence[tuple[str, str]]) -> str:
    """What the router reads of a prompt: the task at hand, the last action, the observation.

    Args:
        messages: Roles and texts, demonstrations included.
    """
    tasks = [text for _, text in messages if text.startswith(_TASK)]
    task = tasks[-1].partition("\n")[0] if tasks else ""
    actions = [text for role, text in messages if role == "assistant"]
    before = actions[-1] if actions else ""
    return f"{task}\n{before} -> {messages[-1][1] if messages else ''}"


def prompt_classifier_from_json(values: Mapping[str, Any]) -> PromptClassifier:
    """Reads a classifier from an arm's options."""
    return PromptClassifier(tuple(map(float, values["weights"])), float(values["intercept"]))
