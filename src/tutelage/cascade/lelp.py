"""A deferral head that learns from a judge's embedding as well as from its verdict (LELP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tutelage.cascade.feature_scale import (
    FeatureRows,
    FeatureScale,
    fit_scale,
    number,
    numbers,
    scale_from_json,
)
from tutelage.runtime.errors import ConfigError

Array = NDArray[np.float64]

ACCEPT = 1
"""Column of "the student's action is right"; column 0 is "defer"."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSteps:
    """Steps that a judge looked at offline."""

    rows: FeatureRows
    """(steps,): what the head sees."""
    probabilities: Array
    """(steps, 2): the judge's P(defer) and P(accept)."""
    embeddings: Array
    """(steps, width): the judge's last hidden state."""
    output_weights: Array
    """(2, width): what the judge multiplies it with to get its logits."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a head is trained."""

    subclasses: int = 4
    temperature: float = 1.0
    hidden: int = 32
    updates: int = 400
    learning_rate: float = 0.01
    weight_decay: float = 1e-4


DEFAULT_OPTIONS = HeadOptions()


@dataclass(frozen=True, slots=True, eq=False)
class LelpHead:
    """A network of one hidden layer: features, tanh, ``2 * subclasses`` outputs, softmax.

    ``q(accept)`` is the sum over the subclasses of "accept". Source: LELP (arXiv 2409.20449).
    """

    scale: FeatureScale
    inner: Array
    """(columns, hidden)."""
    inner_bias: Array
    """(hidden,)."""
    outer: Array
    """(hidden, 2 * subclasses); class-major."""
    outer_bias: Array
    """(2 * subclasses,)."""

    def score(self, features: Mapping[str, float]) -> float:
        """P(the student's action is right)."""
        return float(self.scores(np.array([self.scale.row(features)]))[0])

    def scores(self, matrix: Array) -> Array:
        """(steps,) from (steps, columns of the scale)."""
        logits = np.tanh(matrix @ self.inner + self.inner_bias) @ self.outer + self.outer_bias
        shares = softmax(logits)
        half: Array = shares[:, shares.shape[1] // 2 :].sum(axis=1)
        return np.clip(half, 0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        """The head as JSON values."""
        return {
            "kind": "lelp",
            "scale": self.scale.to_json(),
            "hidden": len(self.inner_bias),
            "outputs": len(self.outer_bias),
            "inner": self.inner.ravel().tolist(),
            "inner_bias": self.inner_bias.tolist(),
            "outer": self.outer.ravel().tolist(),
            "outer_bias": self.outer_bias.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ConfigError: A field is missing or of the wrong kind or length.
        """
        scale = scale_from_json(values.get("scale"))
        hidden, outputs = int(number(values, "hidden")), int(number(values, "outputs"))
        if outputs < 2 or outputs % 2:
            raise ConfigError(f"score model: outputs = {outputs}: give an even number")
        shapes = {
            "inner": (len(scale.columns), hidden),
            "inner_bias": (hidden,),
            "outer": (hidden, outputs),
            "outer_bias": (outputs,),
        }
        arrays = {}
        for key, shape in shapes.items():
            flat = np.array(numbers(values, key), dtype=np.float64)
            if flat.size != np.prod(shape):
                raise ConfigError(f"score model: {key} has {flat.size} numbers, not {shape}")
            arrays[key] = flat.reshape(shape)
        return cls(scale, **arrays)


def residual(embeddings: Array, output_weights: Array) -> Array:
    """Embeddings without what the judge's own logits already say: ``h - W^T (W W^T)^+ W h``.

    Args:
        embeddings: (steps, width).
        output_weights: ``W``, (classes, width).

    Returns:
        (steps, width); ``W`` times each row is 0 up to rounding.
    """
    return embeddings - embeddings @ np.linalg.pinv(output_weights) @ output_weights


def subclass_targets(
    probabilities: Array,
    embeddings: Array,
    output_weights: Array,
    *,
    subclasses: int,
    temperature: float = 1.0,
    generator: np.random.Generator,
) -> Array:
    """Soft targets over subclasses: ``P(c, s | x) = p(c | x) softmax_s(a / temperature)``.

    ``a = (h' - mu_c) V_c Q / std_c``: residual embeddings, centred on those of class ``c`` (by the
    judge's own argmax), projected on their first ``subclasses`` principal directions ``V_c``,
    rotated at random so that the directions share the variance, and scaled to unit deviation.
    Rescaling the embeddings changes nothing. One subclass gives the probabilities themselves.

    Args:
        probabilities: (steps, classes).
        embeddings: (steps, width).
        output_weights: (classes, width).
        subclasses: ``S``.
        temperature: Above 1, subclasses are told apart less sharply.
        generator: Source of the rotations.

    Returns:
        (steps, classes * S), class-major; the sum over a class is its probability.
    """
    if subclasses < 1:
        raise ValueError(f"subclasses = {subclasses}: give at least 1")
    remaining = residual(embeddings, output_weights)
    members = probabilities.argmax(axis=1)
    parts = []
    for place in range(probabilities.shape[1]):
        own = remaining[members == place]
        centre = own.mean(axis=0) if len(own) else remaining.mean(axis=0)
        directions = np.linalg.svd(own - centre, full_matrices=False)[2][:subclasses].T
        # Fewer examples than subclasses: the rest has no direction, and all steps look the same.
        missing = subclasses - directions.shape[1]
        directions = np.pad(directions, ((0, 0), (0, missing)))
        rotation = np.linalg.qr(generator.standard_normal((subclasses, subclasses)))[0]
        projected = (remaining - centre) @ directions @ rotation
        spread = projected[members == place].std(axis=0) if len(own) > 1 else np.zeros(subclasses)
        # Where a class does not vary at all, rounding must not be blown up.
        floor = 1e-9 * (np.abs(embeddings).max() if embeddings.size else 0.0)
        scaled = np.where(spread > floor, projected / np.where(spread > floor, spread, 1.0), 0.0)
        parts.append(probabilities[:, [place]] * softmax(scaled / temperature))
    return np.concatenate(parts, axis=1)


def distillation_loss(logits: Array, targets: Array) -> float:
    """Cross entropy ``-sum P log q``, mean over steps; with one subclass this is vanilla KD.

    Args:
        logits: (steps, outputs).
        targets: (steps, outputs).
    """
    return float(-(targets * log_softmax(logits)).sum(axis=1).mean())


def fit_lelp(
    judged: JudgedSteps,
    options: HeadOptions = DEFAULT_OPTIONS,
    *,
    seed: int,
    shuffled: bool = False,
) -> LelpHead:
    """Trains a head on a judge's verdicts and embeddings.

    Args:
        judged: The steps.
        options: How. One subclass is vanilla KD.
        seed: Of the first weights, of the rotations and of the shuffle, each with its own stream.
        shuffled: The control: every step gets the subclass shares of another step, so that they
            carry no meaning but regularise as much.
    """
    weights, rotations, order = np.random.default_rng(seed).spawn(3)
    targets = subclass_targets(
        judged.probabilities,
        judged.embeddings,
        judged.output_weights,
        subclasses=options.subclasses,
        temperature=options.temperature,
        generator=rotations,
    )
    if shuffled:
        targets = shuffle_subclasses(targets, judged.probabilities, order)
    scale = fit_scale(judged.rows)
    return train_head(scale, scale.matrix(judged.rows), targets, options, weights)


def shuffle_subclasses(
    targets: Array, probabilities: Array, generator: np.random.Generator
) -> Array:
    """Gives every step the subclass shares ``P(s | c)`` of another one, class masses kept."""
    steps, classes = probabilities.shape
    masses = probabilities[:, :, None]
    shares = targets.reshape(steps, classes, -1) / np.where(masses > 0, masses, 1.0)
    mixed: Array = (masses * shares[generator.permutation(steps)]).reshape(steps, -1)
    return mixed


def train_head(
    scale: FeatureScale,
    matrix: Array,
    targets: Array,
    options: HeadOptions,
    generator: np.random.Generator,
) -> LelpHead:
    """Minimises ``distillation_loss`` by Adam on all steps at once (Kingma and Ba 2015).

    Args:
        scale: Kept in the head.
        matrix: (steps, columns).
        targets: (steps, outputs); with (steps, 2) probabilities this is vanilla KD.
        options: Size and length of the training.
        generator: Source of the first weights.
    """
    steps, columns = matrix.shape
    outputs = targets.shape[1]
    inner = generator.standard_normal((columns, options.hidden)) / np.sqrt(columns)
    outer = generator.standard_normal((options.hidden, outputs)) / np.sqrt(options.hidden)
    parameters = [inner, np.zeros(options.hidden), outer, np.zeros(outputs)]
    first = [np.zeros_like(parameter) for parameter in parameters]
    second = [np.zeros_like(parameter) for parameter in parameters]
    for update in range(1, options.updates + 1):
        hidden = np.tanh(matrix @ parameters[0] + parameters[1])
        shares = softmax(hidden @ parameters[2] + parameters[3])
        error = (shares * targets.sum(axis=1, keepdims=True) - targets) / steps
        back = (error @ parameters[2].T) * (1 - hidden**2)
        gradients = [matrix.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        for place, gradient in enumerate(gradients):
            if gradient.ndim == 2:
                gradient = gradient + options.weight_decay * parameters[place]
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            mean = first[place] / (1 - 0.9**update)
            spread = np.sqrt(second[place] / (1 - 0.999**update))
            parameters[place] = parameters[place] - options.learning_rate * mean / (spread + 1e-8)
    return LelpHead(scale, *parameters)


def softmax(logits: Array) -> Array:
    """Shares along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def log_softmax(logits: Array) -> Array:
    """Logarithms of the shares along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
