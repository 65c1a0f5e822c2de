"""How states, acts and reasons are written as tokens of the toy student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from tutelage.training.objectives.trial.world import DROP, GO, ITEMS, ROOMS, TAKE, Act, State

ROOM: Final = ITEMS
HAND: Final = ROOM + ROOMS
VERBS: Final = {GO: HAND + 2, TAKE: HAND + 3, DROP: HAND + 4}
ACT: Final = HAND + 5
"""Asks for the act."""
WHY: Final = HAND + 6
"""Asks for the reason."""
VOCABULARY: Final = HAND + 7
PROMPT: Final = 5
"""Tokens of a state."""
ANSWER: Final = 2
"""Tokens of an act, and of a reason."""
NOTHING: Final = 1e-5
"""Probability of a token that the teacher never says."""


def prompt(state: State, tag: int = ACT) -> list[int]:
    """Goal, what is seen, and what is asked for."""
    return [state.item, ROOM + state.destination, ROOM + state.room, HAND + state.holding, tag]


def answer(act: Act) -> list[int]:
    """Verb and thing."""
    return [VERBS[act.verb], act.thing + (ROOM if act.verb == GO else 0)]


def spelled(tokens: Sequence[int]) -> Act | None:
    """The act that two tokens say; ``None`` where they say none."""
    verb, thing = tokens
    for word, token in VERBS.items():
        if token == verb:
            number = thing - (ROOM if word == GO else 0)
            known = 0 <= number < (ROOMS if word == GO else ITEMS)
            return Act(word, number) if known else None
    return None


def reason(target: int, state: State) -> list[int]:
    """Where the agent must be next, and whether it has what it needs."""
    return [ROOM + target, HAND + state.holding]


def token_shares(distribution: Mapping[Act, float], first: int | None = None) -> list[float]:
    """The next token's distribution of a policy over acts.

    Args:
        distribution: Act -> probability.
        first: The verb's token that was said; ``None``: none yet. A verb that the policy never
            says leaves every token alike.

    Returns:
        (vocabulary,), summing to 1, none below ``NOTHING`` but by the normalisation.
    """
    said = [(answer(act), share) for act, share in distribution.items()]
    place = 0 if first is None else 1
    fitting = sorted((a[place], s) for a, s in said if first is None or a[0] == first)
    shares = [NOTHING] * VOCABULARY
    for token, group in groupby(fitting, key=lambda pair: pair[0]):
        shares[token] += sum(share for _, share in group)
    total = sum(shares)
    return [share / total for share in shares]
