"""What is known of a step beside its votes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import canonicalizer_for
from tutelage.cascade.guards.rejection import REFUSALS, RefusalMarks
from tutelage.cascade.prompt_score import PromptScore
from tutelage.runtime.types import Action, Agreement, Retrieved, Step

FEATURES: tuple[str, ...] = (
    "agreement",
    "consensus",
    "deferrals",
    "logprob_low",
    "logprob_mean",
    "mutating",
    "prompt",
    "refusals",
    "repeats",
    "similarity",
    "step_index",
    "support",
)
"""All features by name, sorted."""

_RECENT = 5
_MOST_REMEMBERED = 32_768


class StepDescriber:
    """Reads the features of a step that a score of the student's answer can rest on.

    ``agreement``: share of the votes for the chosen action. ``logprob_mean``, ``logprob_low``: mean
    and lower decile of its tokens' log-probabilities (a sum would favour short answers, arXiv
    2404.10136). ``similarity``: score of the best demonstration. ``support``: share of the
    demonstrations that show the chosen action. ``consensus``: share of the action that most of them
    show. ``step_index``: 0 for the first. ``repeats``: how often the episode took this action
    before. ``refusals``: refused actions among the last 5. ``deferrals``: share of the teacher in
    the last 5. ``mutating``: 1 if the action may change the world.
    ``prompt``: P(right) by the step's vector alone, where a calibration has fitted that.

    Support tells more than agreement alone: in our first measurement on ALFWorld agreed steps were
    right in 0.86 of the cases with it, in 0.54 without.

    Args:
        canonicalizer: Compares actions.
        is_mutating: Whether an action may change the world; absent: unknown for all.
        refusals: Parts of an observation by which the world refuses an action.
        prompt: Scores the step by its vector.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer,
        is_mutating: Callable[[Action], bool] | None = None,
        refusals: Sequence[str] = REFUSALS,
        prompt: PromptScore | None = None,
    ) -> None:
        self._prompt = prompt
        self._canonicalizer = canonicalizer
        # By hash: an action may be a whole file, and it is looked at in every later step.
        self._remembered: dict[tuple[Canonicalizer, int], int | None] = {}
        self._is_mutating = is_mutating
        self._refusals = RefusalMarks(refusals)

    def describe(
        self, step: Step, agreement: Agreement, demonstrations: Sequence[Retrieved]
    ) -> Mapping[str, float]:
        """The features of a step by name; one that is missing is left out."""
        modal = agreement.modal
        recent = step.history[-_RECENT:]
        known = {
            "agreement": agreement.share,
            "step_index": float(step.index),
            "refusals": float(self._refused(step)),
            "deferrals": (
                sum(turn.served == "teacher" for turn in recent) / len(recent) if recent else 0.0
            ),
        }
        form, chosen = canonicalizer_for(self._canonicalizer, step.tools), hash(modal)
        if modal is not None:
            known["repeats"] = float(
                sum(self._past(form, t.action) == chosen for t in step.history)
            )
            if self._is_mutating is not None:
                known["mutating"] = float(self._is_mutating(modal))
        if demonstrations:
            shown = Counter(self._past(form, one.demonstration.action) for one in demonstrations)
            usable = [count for action, count in shown.items() if action is not None]
            query = demonstrations[0].query
            if self._prompt is not None and query is not None:
                known["prompt"] = self._prompt.probability(query)
            known["similarity"] = max(one.score for one in demonstrations)
            known["support"] = shown[chosen] / len(demonstrations) if modal is not None else 0.0
            known["consensus"] = max(usable, default=0) / len(demonstrations)
        if agreement.logprobs:
            ordered = sorted(agreement.logprobs)
            known["logprob_mean"] = math.fsum(ordered) / len(ordered)
            known["logprob_low"] = ordered[int(0.1 * (len(ordered) - 1))]
        return known

    def _past(self, form: Canonicalizer, action: str) -> int | None:
        """Hash of a past action; ``None`` if the text names none."""
        name = (form, hash(action))
        if name not in self._remembered:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            read = form.past(action)
            self._remembered[name] = None if read is None else hash(read)
        return self._remembered[name]

    def _refused(self, step: Step) -> int:
        seen = [turn.observation for turn in step.history[1:]] + [step.observation]
        after = seen[-_RECENT:] if step.history else []
        return sum(self._refusals.are_in(observation) for observation in after)
