"""Ways to draw samples, compared on the samples that labelled steps have recorded."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from statistics import median
from typing import TYPE_CHECKING

from tutelage.assembly import Assembly
from tutelage.labelling import Fitted, LabelledStep, first_is_modal, fit_labelled, prompt_features

if TYPE_CHECKING:
    from tutelage.cascade.draws import Draws, RecordedSample
    from tutelage.cascade.step_scores import ScoreKind
    from tutelage.runtime.protocols import AgreementRule


async def compare_draws(
    assembly: Assembly,
    steps: Sequence[LabelledStep],
    kind: ScoreKind,
    *,
    alpha: float,
    delta: float,
) -> tuple[Draws, ...]:
    """What each way to draw takes of all samples, and how often it decides as they do.

    One by one until it is settled: whether all agree, whether most do, and whether one action is
    the most frequent with probability 0.9. Likely: the first sample alone where its tokens are
    likely enough (``cascade.enough_logprob``), else all must agree. Adaptive: one sample where
    the prior allows it, under a calibrated policy that serves half of the steps. The levels of the
    last two are fitted on half of the episodes, their figures are those of the others.

    Args:
        assembly: How actions are compared and tokens counted.
        steps: Labelled steps; those with fewer samples than the others are left out.
        kind: Of the score.
        alpha: Share of an episode's steps that likely and adaptive draws may decide otherwise.
        delta: Allowed probability that it is more all the same.

    Returns:
        Nothing where steps have a single sample each.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    from tutelage.cascade.agreement import Majority, MOfN, Unanimous
    from tutelage.cascade.draws import KeyForm, sequential_draws

    drawn = max((len(step.trace.samples) for step in steps), default=0)
    if drawn < 2:
        return ()
    whole = [step for step in steps if len(step.trace.samples) == drawn]
    samples = [_recorded(assembly, step) for step in whole]
    form = KeyForm()
    most = drawn // 2 + 1
    rules: dict[str, AgreementRule] = {
        f"all {drawn} agree": Unanimous(form),
        f"{most} of {drawn} agree": MOfN(form, most),
        "most frequent, p 0.9": Majority(form),
    }
    found = [sequential_draws(name, rule, samples) for name, rule in rules.items()]
    found += _likely(assembly, whole, alpha, delta)
    return (*found, *await _adaptive(assembly, whole, kind, alpha, delta))


def _likely(
    assembly: Assembly, steps: Sequence[LabelledStep], alpha: float, delta: float
) -> list[Draws]:
    from tutelage.cascade.adaptive import least_sure
    from tutelage.cascade.agreement import Unanimous
    from tutelage.cascade.draws import KeyForm, first_decides, sequential_draws
    from tutelage.cascade.first_likely import FirstLikely
    from tutelage.cascade.scores import for_fitting

    seen = [step for step in steps if for_fitting(step.episode_id)]
    held = [step for step in steps if not for_fitting(step.episode_id)]
    told = [step for step in seen if step.trace.samples[0].logprob is not None]
    if not held or not told:
        return []
    rule = Unanimous(KeyForm())
    level = least_sure(
        [step.episode_id for step in told],
        [step.trace.samples[0].logprob or 0.0 for step in told],
        first_decides(rule, [_recorded(assembly, step) for step in told]),
        alpha=alpha,
        delta=delta,
    )
    if level is None:
        return []
    # Downwards, so that the step that the level was made from is settled by it.
    level = floor(level * 1e5) / 1e5
    name = f"the first is likely (enough_logprob = {level:g}), else all agree"
    samples = [_recorded(assembly, step) for step in held]
    return [sequential_draws(name, FirstLikely(rule, level), samples, rule)]


async def _adaptive(
    assembly: Assembly, steps: Sequence[LabelledStep], kind: ScoreKind, alpha: float, delta: float
) -> list[Draws]:
    from tutelage.cascade.draws import counted_draws
    from tutelage.cascade.scores import for_fitting

    seen = [step for step in steps if for_fitting(step.episode_id)]
    held = [step for step in steps if not for_fitting(step.episode_id)]
    if not held or len({step.right for step in seen}) < 2:
        return []
    fitted = await fit_labelled(assembly, seen, kind)
    threshold = median(fitted.late())
    sure = fitted.sure(threshold, alpha, delta)
    others = Fitted(
        fitted.scores,
        await prompt_features(assembly, held, fitted.scores),
        [step.right for step in held],
        fitted.costs,
        [step.episode_id for step in held],
        [first_is_modal(step.trace) for step in held],
    )
    all_drawn = len(held[0].trace.samples)
    taken = [1 if sure is not None and prior >= sure else all_drawn for prior in others.prior()]
    same = sum(
        count > 1 or alike for count, alike in zip(taken, others.same(threshold), strict=True)
    )
    samples = [_recorded(assembly, step) for step in held]
    return [counted_draws("adaptive", samples, taken, same)]


def _recorded(assembly: Assembly, step: LabelledStep) -> list[RecordedSample]:
    from tutelage.cascade.draws import RecordedSample

    # One more for the token that ends an answer.
    return [
        RecordedSample(one.action, assembly.count_tokens(one.text) + 1, one.logprob)
        for one in step.trace.samples
    ]
