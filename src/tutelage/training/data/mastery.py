"""What the student can already do, as its traces show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from tutelage.runtime.types import Trace
from tutelage.training.data.example import TrainingExample
from tutelage.training.data.recorded import REFUSALS, RecordedEpisode, is_refusal

StateKey = Callable[[Trace], str]


def goal_and_observation(trace: Trace) -> str:
    """States are one if goal and latest observation are, without case and space around."""
    return f"{trace.goal.strip().casefold()}\n{trace.observation.strip().casefold()}"


class Mastery:
    """How often the student was right at each state.

    A step that the teacher took, with samples of the student beside it, counts each sample as right
    or wrong; an audited step counts as the audit says; a step that the student served unaudited
    counts as right if its episode succeeded and the environment did not refuse it, as wrong if it
    was refused, and else not at all: an episode may fail for another reason.

    Args:
        episodes: What is known.
        key: When two states are one.
        least: Observations below which a state's rate is not known.
    """

    def __init__(
        self,
        episodes: Iterable[RecordedEpisode],
        *,
        key: StateKey = goal_and_observation,
        least: int = 3,
        refusals: tuple[str, ...] = REFUSALS,
    ) -> None:
        right: dict[str, float] = defaultdict(float)
        seen: dict[str, int] = defaultdict(int)
        self._keys: dict[tuple[str, str], str] = {}
        for recorded in episodes:
            steps = recorded.steps()
            for index, trace in enumerate(steps):
                state = key(trace)
                self._keys[trace.tenant, trace.id] = state
                later = steps[index + 1].observation if index + 1 < len(steps) else ""
                for one in _outcomes(recorded, trace, is_refusal(later, refusals)):
                    right[state] += one
                    seen[state] += 1
        self.rates: Mapping[str, float] = {
            state: right[state] / count for state, count in seen.items() if count >= least
        }
        """Pass rate by state, where it is known."""

    def __call__(self, example: TrainingExample) -> float | None:
        """Mean rate of the example's states; ``None`` if one of them is not known."""
        states = [self._keys.get((example.tenant, id), "") for id in example.trace_ids]
        if not states or any(state not in self.rates for state in states):
            return None
        return sum(self.rates[state] for state in states) / len(states)


def _outcomes(recorded: RecordedEpisode, trace: Trace, is_refused: bool) -> list[bool]:
    if trace.decision.served == "teacher":
        if trace.action is None:
            return []
        return [sample.action == trace.action for sample in trace.samples]
    audit = recorded.audits.get(trace.id)
    if audit is not None and audit.agrees is not None:
        return [audit.agrees]
    if is_refused:
        return [False]
    return [True] if recorded.episode.success else []
