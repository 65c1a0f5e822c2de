"""Steps that a judge understands better than the head can see."""

from __future__ import annotations

import numpy as np

from tutelage.cascade.feature_scale import FeatureRows
from tutelage.cascade.lelp import JudgedSteps
from tutelage.cascade.lelp_trial import HeadTrial

Array = np.ndarray

LATENT, VIEW, WIDTH = 8, 12, 32


def judged_trial(seed: int, *, modes: int, steps: int = 800, held_out: int = 2000) -> HeadTrial:
    """A fresh world: why a step is right (or wrong) is one of several modes.

    The judge embeds the reason linearly with noise and gives a noisy probability; the head sees a
    noisy, bent view of it. With 0 modes a class is one cloud, and the embedding says nothing more
    than the probability does.
    """
    generator = np.random.default_rng(seed)
    centres = 1.6 * generator.standard_normal((2, max(modes, 1), LATENT))
    if modes == 0:
        centres = np.stack([np.full((1, LATENT), -0.35), np.full((1, LATENT), 0.35)])
    bend = generator.standard_normal((LATENT, VIEW)) / np.sqrt(LATENT)
    lift = generator.standard_normal((LATENT, WIDTH)) / np.sqrt(LATENT)
    weights = generator.standard_normal((2, WIDTH))

    def draw(count: int) -> tuple[Array, Array, FeatureRows]:
        right = generator.integers(0, 2, count)
        mode = generator.integers(0, centres.shape[1], count)
        reason = centres[right, mode] + generator.standard_normal((count, LATENT))
        view = np.tanh(reason @ bend) + 0.3 * generator.standard_normal((count, VIEW))
        rows = [{f"f{place:02d}": float(x) for place, x in enumerate(row)} for row in view]
        return right, reason, rows

    def density(reason: Array, side: int) -> Array:
        squares = ((reason[:, None] - centres[side]) ** 2).sum(axis=-1)
        logs: Array = np.log(np.exp(-squares / 2).mean(axis=1) + 1e-300)
        return logs

    _, reason, rows = draw(steps)
    odds = 0.8 * (density(reason, 1) - density(reason, 0)) + 0.5 * generator.standard_normal(steps)
    accept = 1 / (1 + np.exp(-np.clip(odds, -8, 8)))
    embeddings = reason @ lift + 0.2 * generator.standard_normal((steps, WIDTH))
    embeddings += 0.1 * odds[:, None] * (weights[1] - weights[0])
    right, _, seen = draw(held_out)
    judged = JudgedSteps(rows, np.stack([1 - accept, accept], axis=1), embeddings, weights)
    return HeadTrial(judged, seen, (right == 1).tolist(), seed)
