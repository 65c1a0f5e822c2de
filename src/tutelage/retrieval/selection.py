"""Two-stage, multi-key selection of demonstrations: first the trajectory, then its best step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.demonstration_budget import DemonstrationBudget
from tutelage.retrieval.embedding import Vectors
from tutelage.retrieval.index import Ids
from tutelage.retrieval.keys import TaskKeys, category_text, task_keys
from tutelage.retrieval.mentions import step_mentions
from tutelage.retrieval.rebinding import rebind
from tutelage.retrieval.shard import Shard
from tutelage.retrieval.window import cut
from tutelage.runtime.types import Demonstration, Retrieved, Step

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Selection:
    """Sizes and weights of the search; similarities are dot products of unit vectors."""

    k: int = 6
    """Demonstrations returned at most."""
    pool: int = 60
    """Trajectories that compete with their best step."""
    candidates: int = 300
    """Trajectories nearest by goal that are scored by all keys; ``pool`` of them compete."""
    neighbours: int = 10
    """Trajectories nearest by goal that vote on the category of a step that has none."""
    category_bonus: float = 0.0
    """Similarity added to a trajectory of the category that the vote gave; 0 switches it off."""
    goal_weight: float = 0.3
    """Weight of the trajectory's score beside the similarity of the state."""
    step_penalty: float = 0.01
    """Similarity taken off for each step by which a demonstration is earlier or later."""
    sight_weight: float = 0.2
    """Taken off for a difference of 1 in the share of goal words that the observation names."""
    progress_weight: float = 0.2
    """Taken off for a difference of 1 in the share of goal words that past actions have named."""
    diversity: float = 0.0
    """Weight of the likeness to what is already chosen, taken off (MMR); above 1 shuns copies."""
    before: int = 2
    """Turns shown before the step to imitate."""
    after: int = 0
    """Turns shown after it."""
    rebind: bool = True
    """Whether a demonstration is retold with the names of the step at hand."""


@dataclass(frozen=True, slots=True)
class _Match:
    row: int
    step_index: int
    state_row: int
    score: float


class KeyedRetriever:
    """Finds the teacher's steps in the states, and under the goals, that are most like a step's.

    A trajectory's score is the mean similarity over the keys that both sides have (goal, category,
    plan), plus a bonus for the category that the goal's neighbours name if the step has none. A
    step's score is its state's similarity, less its distance in step index and in how much of the
    goal is in sight and was acted on, plus the weighted score of its trajectory; each trajectory
    gives its best step only. Trajectories recorded on the step's own task never appear.
    Source: two-stage retrieval of arXiv 2505.00234, made aware of step and progress.

    Args:
        bank: The demonstrations.
        selection: Sizes and weights.
        keys: What is known of a step's task beyond its goal.
        budget: Chooses among the best those that are worth their tokens, in place of the weight on
            diversity; absent: the ``k`` best are shown whatever they cost.
        project: Turns the vectors of states that are searched for, unit rows in and out; those of
            the bank stay.
    """

    def __init__(
        self,
        bank: Bank,
        selection: Selection | None = None,
        *,
        keys: Callable[[Step], TaskKeys] = task_keys,
        budget: DemonstrationBudget | None = None,
        project: Callable[[Vectors], Vectors] | None = None,
    ) -> None:
        self._bank = bank
        self._project = project
        self._budget = budget
        self._selection = selection or Selection()
        self._keys = keys

    async def search(self, step: Step) -> Sequence[Retrieved]:
        """Demonstrations of the step's tenant, best first; none if the tenant has none.

        Raises:
            RetrievalError: The embedder or the bank cannot be used.
            StoreError: The database cannot be read.
        """
        if await self._bank.is_empty(step.tenant):
            return []
        keys = self._keys(step)
        texts = [keys.goal, self._bank.state_key.of_step(step)]
        texts += [category_text(keys.category)] if keys.category else []
        texts += [keys.plan] if keys.plan else []
        goal, state, *others = await self._bank.embedder.embed(texts)
        category = others.pop(0) if keys.category else None
        plan = others.pop(0) if keys.plan else None
        count = self._selection.pool
        if category is not None or plan is not None or self._selection.category_bonus:
            count = max(count, self._selection.candidates)
        shard = await self._bank.near(step.tenant, goal, count, task_id=step.task_id)
        rows, scores = self._score(shard, step, goal, category, plan)
        sought = state if self._project is None else self._project(state[None, :])[0]
        matches = self._best_steps(shard, rows, scores, sought, step)
        query = np.concatenate([goal, state])

        def retrieved(match: _Match) -> Retrieved:
            return Retrieved(self._shown(shard, match, step), match.score, query)

        if self._budget is None:
            return [retrieved(match) for match in self._choose(shard, matches)]
        best = matches[: self._budget.candidates]
        ranked = [(retrieved(match), shard.states[match.state_row]) for match in best]
        return await self._budget.within(step, ranked, self._selection.k)

    def _shown(self, shard: Shard, match: _Match, step: Step) -> Demonstration:
        selection = self._selection
        trajectory = shard.trajectories[match.row]
        one = cut(trajectory, match.step_index, before=selection.before, after=selection.after)
        return rebind(one, step) if selection.rebind else one

    def _score(
        self,
        shard: Shard,
        step: Step,
        goal: Vectors,
        category: Vectors | None,
        plan: Vectors | None,
    ) -> tuple[Ids, Scores]:
        """Rows and scores of the pool, best first; both of shape (at most pool,)."""
        selection = self._selection
        hits = shard.index.search(
            goal[None, :],
            min(selection.candidates, len(shard.trajectories)),
            excluded=shard.rows_of_task(step.task_id),
        )
        found = hits.ids[0] >= 0
        rows, total = hits.ids[0][found], hits.scores[0][found]
        # Equal scores by row: the index gives them in any order.
        order = np.lexsort((rows, -total))
        rows, total = rows[order], total[order]
        keys_shared = np.ones(len(rows), dtype=np.float32)
        for vector, matrix in ((category, shard.categories), (plan, shard.plans)):
            if vector is not None:
                known = matrix[rows]
                total += known @ vector
                keys_shared += known.any(axis=1)
        scores = total / keys_shared
        if category is None:
            scores += selection.category_bonus * self._same_category(shard, rows)
        best = np.argsort(-scores, kind="stable")[: selection.pool]
        return rows[best], scores[best]

    def _same_category(self, shard: Shard, rows: Ids) -> NDArray[np.bool_]:
        """Whether each row is of the category that most of the first rows have, shape (rows,)."""
        named = [shard.trajectories[row].category for row in rows]
        votes = Counter(name for name in named[: self._selection.neighbours] if name is not None)
        if not votes:
            return np.zeros(len(rows), dtype=np.bool_)
        winner = votes.most_common(1)[0][0]
        return np.array([name == winner for name in named], dtype=np.bool_)

    def _best_steps(
        self, shard: Shard, rows: Ids, scores: Scores, state: Vectors, step: Step
    ) -> list[_Match]:
        """The best step of each trajectory, best first."""
        if not len(rows):
            return []
        firsts, ends = shard.starts[rows], shard.starts[rows + 1]
        state_rows = np.concatenate(
            [np.arange(first, end) for first, end in zip(firsts, ends, strict=True)]
        )
        selection = self._selection
        weights = np.array([selection.sight_weight, selection.progress_weight], dtype=np.float32)
        similarity = shard.states[state_rows] @ state
        similarity -= selection.step_penalty * np.abs(shard.steps[state_rows] - step.index)
        similarity -= np.abs(shard.mentions[state_rows] - step_mentions(step)) @ weights
        matches = []
        offset = 0
        for row, score, length in zip(rows, scores, ends - firsts, strict=True):
            best = offset + int(np.argmax(similarity[offset : offset + length]))
            state_row = int(state_rows[best])
            combined = float(similarity[best]) + selection.goal_weight * float(score)
            matches.append(_Match(int(row), int(shard.steps[state_row]), state_row, combined))
            offset += int(length)
        return sorted(matches, key=lambda match: -match.score)

    def _choose(self, shard: Shard, matches: list[_Match]) -> list[_Match]:
        """The k best matches; with a weight on diversity, greedily by marginal relevance."""
        k, diversity = self._selection.k, self._selection.diversity
        if diversity == 0:
            return matches[:k]
        # Carbonell and Goldstein 1998, with the score not scaled by 1 - weight.
        states = shard.states[[match.state_row for match in matches]]
        scores = np.array([match.score for match in matches], dtype=np.float32)
        redundancy = np.zeros(len(matches), dtype=np.float32)
        chosen: list[int] = []
        while len(chosen) < min(k, len(matches)):
            marginal = scores - diversity * redundancy
            marginal[chosen] = -np.inf
            chosen.append(int(np.argmax(marginal)))
            redundancy = np.maximum(redundancy, states @ states[chosen[-1]])
        return [matches[position] for position in chosen]
