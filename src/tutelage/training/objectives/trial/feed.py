"""Batches of the toy world for any objective, with the tokens that each one cost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from tutelage.training.objectives.alm import align, chunk_numbers
from tutelage.training.objectives.given import ChunkPairs, Given, Scored, TeacherSignal, TopK
from tutelage.training.objectives.revision import revise
from tutelage.training.objectives.signal import Need
from tutelage.training.objectives.trial.student import TEACHER_WIDTH, ToyStudent
from tutelage.training.objectives.trial.traces import GatedSteps
from tutelage.training.objectives.trial.wording import (
    ANSWER,
    PROMPT,
    VOCABULARY,
    WHY,
    answer,
    prompt,
    reason,
    token_shares,
)
from tutelage.training.objectives.trial.world import ROOMS, Act, State, ToyTeacher

BATCH: Final = 64
TOP_K: Final = 2
SHOWN: Final = 3
"""Demonstrations in a prompt."""


@dataclass
class ToyFeed:
    """Draws batches of the gated steps and asks teacher and student what an objective needs."""

    gated: GatedSteps
    teacher: ToyTeacher
    generator: random.Random
    tokens: int = 0
    """Tokens that went through the student so far, with a gradient or without."""
    _shares: dict[tuple[State, int | None], list[float]] = field(default_factory=dict)

    def batch(
        self,
        student: ToyStudent,
        needs: frozenset[Need],
        *,
        revised: bool = False,
        shuffled: bool = False,
    ) -> Given:
        """One batch with all that the objective needs.

        Args:
            student: Whose logits are wanted.
            needs: Of the objective.
            revised: Take the student's own answers, each mended once by the teacher.
            shuffled: Pair each text with the teacher's likelihood of another one (a control).
        """
        slips: list[Act] = []
        if Need.PAIRS in needs:
            drawn = self.generator.choices(self.gated.pairs, k=BATCH)
            steps = [(state, act) for state, act, _ in drawn]
            slips = [slip for _, _, slip in drawn]
        else:
            steps = self.generator.choices(self.gated.steps, k=BATCH)
        states = [state for state, _ in steps]
        said = torch.tensor([answer(act) for _, act in steps])
        if revised:
            said = self._revised(student, states)
        prompts = torch.tensor([prompt(state) for state in states])
        chosen, hidden = self.scored(student, prompts, said)
        logits = self.teacher_logits(states, said)
        logs = logits.gather(-1, said.unsqueeze(-1)).squeeze(-1)
        rejected, rejected_logs = None, None
        if slips:
            wrong = torch.tensor([answer(slip) for slip in slips])
            rejected, _ = self.scored(student, prompts, wrong)
            wrong_logits = self.teacher_logits(states, wrong)
            rejected_logs = wrong_logits.gather(-1, wrong.unsqueeze(-1)).squeeze(-1)
        top = logits.topk(TOP_K)
        return Given(
            chosen=chosen,
            rejected=rejected,
            explained=self._explained(student, states) if Need.RATIONALE in needs else None,
            teacher=TeacherSignal(
                log_probs=logs,
                rejected_log_probs=rejected_logs,
                top_k=TopK(top.indices, top.values),
                logits=logits,
                hidden=self._teacher_hidden(states) if Need.HIDDEN in needs else None,
            ),
            chunks=_chunks(steps, logs, shuffled) if Need.CHUNKS in needs else None,
            demonstrated=(
                self._demonstrated(student, steps) if Need.DEMONSTRATIONS in needs else None
            ),
            hidden=F.linear(hidden[:, PROMPT - 1], student.weights["to_teacher"]),
        )

    def with_demonstrations(self, student: ToyStudent) -> Given:
        """Gated steps with demonstrations in the prompt: what teaches the student to use them."""
        steps = self.generator.choices(self.gated.steps, k=BATCH)
        said = torch.tensor([answer(act) for _, act in steps])
        scored, _ = self.scored(student, self._shown(steps), said)
        return Given(scored)

    def scored(self, student: ToyStudent, prompts: Tensor, said: Tensor) -> tuple[Scored, Tensor]:
        """A pass over prompts (batch, seq) and answers (batch, 2), and its hidden states."""
        tokens = torch.cat([prompts, said], 1)[:, :-1]
        self.tokens += tokens.numel()
        hidden = student.hidden(tokens)
        logits = student.logits(hidden[:, -ANSWER:])
        return Scored(logits, said, torch.ones_like(said, dtype=torch.bool)), hidden

    def teacher_logits(self, states: Sequence[State], said: Tensor) -> Tensor:
        """(batch, 2, vocabulary): the teacher's log-probabilities at the tokens of answers."""
        rows = [
            [self._share(state, None), self._share(state, first)]
            for state, first in zip(states, said[:, 0].tolist(), strict=True)
        ]
        return torch.tensor(rows).log()

    def _share(self, state: State, first: int | None) -> list[float]:
        key = (state, first)
        if key not in self._shares:
            self._shares[key] = token_shares(self.teacher.distribution(state), first)
        return self._shares[key]

    def _explained(self, student: ToyStudent, states: Sequence[State]) -> Scored:
        prompts = torch.tensor([prompt(state, WHY) for state in states])
        told = [reason(self.teacher.world.target(state), state) for state in states]
        return self.scored(student, prompts, torch.tensor(told))[0]

    def _revised(self, student: ToyStudent, states: Sequence[State]) -> Tensor:
        prompts = torch.tensor([prompt(state) for state in states])
        draw = torch.Generator().manual_seed(self.generator.getrandbits(32))
        said = student.answers(prompts, draw)
        self.tokens += 2 * prompts.numel() + len(prompts)
        own, _ = self.scored(student, prompts, said)

        def go_on(mended: Tensor, positions: Tensor) -> Tensor:
            tokens = torch.cat([prompts, mended[:, :1]], 1)
            self.tokens += tokens.numel()
            following = student.logits(student.hidden(tokens)[:, -1]).detach().softmax(-1)
            drawn = torch.multinomial(following, 1, generator=draw)
            return torch.cat([mended[:, :1], drawn], 1)

        teacher = self.teacher_logits(states, said)
        return revise(own.logits.detach(), teacher, said, own.mask, go_on)

    def _demonstrated(self, student: ToyStudent, steps: Sequence[tuple[State, Act]]) -> Tensor:
        said = torch.tensor([answer(act) for _, act in steps])
        return self.scored(student, self._shown(steps), said)[0].logits.detach()

    def _shown(self, steps: Sequence[tuple[State, Act]]) -> Tensor:
        """Prompts with the gated steps of the most similar other states, the nearest last."""
        rows = []
        bank = {state: act for state, act in self.gated.steps}
        for state, _ in steps:
            others = sorted(other for other in bank if other != state)
            nearest = sorted(others, key=lambda other: _likeness(state, other))[-SHOWN:]
            told = [token for near in nearest for token in (*prompt(near), *answer(bank[near]))]
            rows.append([*told, *prompt(state)])
        return torch.tensor(rows)

    def _teacher_hidden(self, states: Sequence[State]) -> Tensor:
        """(batch, width): a fixed projection of where the teacher heads and of what it would do."""
        width = ROOMS + VOCABULARY
        matrix = torch.randn(width, TEACHER_WIDTH, generator=torch.Generator().manual_seed(0))
        rows = []
        for state in states:
            heading = [0.0] * ROOMS
            heading[self.teacher.world.target(state)] = 1.0
            rows.append([*heading, *self._share(state, None)])
        return torch.tensor(rows) @ matrix


def _likeness(state: State, other: State) -> int:
    same = (
        state.item == other.item,
        state.destination == other.destination,
        state.room == other.room,
        state.holding == other.holding,
    )
    return sum(same)


def _chunks(steps: Sequence[tuple[State, Act]], logs: Tensor, shuffled: bool) -> ChunkPairs:
    """The teacher writes an act as one token, the student as two."""
    student, teacher = [], []
    for _, act in steps:
        words = [f"{act.verb} ".encode(), str(act.thing).encode()]
        mine, theirs = chunk_numbers(align(words, [b"".join(words)]), len(words), 1)
        student.append(mine)
        teacher.append(theirs)
    likelihoods = logs.sum(-1, keepdim=True)
    if shuffled:
        likelihoods = likelihoods.roll(1, 0)
    return ChunkPairs(torch.tensor(student), torch.tensor(teacher), likelihoods)
