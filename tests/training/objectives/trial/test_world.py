"""The toy world, its teacher and its gate."""

from __future__ import annotations

import random
from itertools import product

import pytest

from tutelage.training.objectives.trial.traces import gate
from tutelage.training.objectives.trial.wording import (
    ACT,
    PROMPT,
    VOCABULARY,
    WHY,
    answer,
    prompt,
    reason,
    spelled,
    token_shares,
)
from tutelage.training.objectives.trial.world import (
    DROP,
    GO,
    ITEMS,
    LONGEST,
    ROOMS,
    TAKE,
    Act,
    State,
    ToyTeacher,
    ToyWorld,
)

WORLD = ToyWorld((1, 4, 6, 0))
STATES = [
    State(item, destination, room, holding)
    for item, destination, room, holding in product(
        range(ITEMS), range(ROOMS), range(ROOMS), (False, True)
    )
]


def test_the_oracle_solves_every_task_in_time() -> None:
    assert len(WORLD.tasks()) == ITEMS * ROOMS * ROOMS
    for task in WORLD.tasks():
        state: State | None = task
        for _ in range(LONGEST):
            assert state is not None
            state = WORLD.after(state, next(iter(WORLD.right(state))))
            if state is None:
                break
        assert state is None


def test_both_ways_are_right_where_they_are_as_long() -> None:
    assert WORLD.right(State(0, 3, 5)) == {Act(GO, 6): 0.5, Act(GO, 4): 0.5}
    assert WORLD.right(State(0, 3, 0)) == {Act(GO, 1): 1.0}
    assert WORLD.right(State(0, 3, 1)) == {Act(TAKE, 0): 1.0}
    assert WORLD.right(State(0, 3, 2, holding=True)) == {Act(GO, 3): 1.0}
    assert WORLD.right(State(0, 3, 3, holding=True)) == {Act(DROP, 0): 1.0}


@pytest.mark.parametrize(
    ("state", "act"),
    [
        (State(0, 3, 5), Act(GO, 2)),
        (State(0, 3, 5), Act(TAKE, 0)),
        (State(0, 3, 1), Act(TAKE, 1)),
        (State(0, 3, 3), Act(DROP, 0)),
        (State(0, 3, 5, holding=True), Act(DROP, 0)),
    ],
)
def test_what_cannot_be_done_changes_nothing(state: State, act: Act) -> None:
    assert WORLD.after(state, act) == state


def test_the_teacher_is_the_oracle_and_slips_that_stay_the_same() -> None:
    teacher = ToyTeacher(WORLD, seed=3)
    slips = []
    for state in STATES:
        shares = teacher.distribution(state)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares == ToyTeacher(WORLD, seed=3).distribution(state)
        right = WORLD.right(state)
        slips.append(1 - sum(shares[act] for act in right))

    blind = sum(slip > 0.2 for slip in slips)
    assert 0.01 < blind / len(slips) < 0.15
    assert ToyTeacher(WORLD, 3, error=0.0, blind_share=0.0).distribution(STATES[0]) == {
        act: WORLD.right(STATES[0]).get(act, 0.0) for act in WORLD.possible(STATES[0])
    }


def test_the_gate_lets_verified_steps_through_alone() -> None:
    gated = gate(WORLD, ToyTeacher(WORLD, 3), random.Random(0), episodes=30)

    assert len(gated.held_out) == 256 - 30
    assert len(gated.steps) > 60
    assert all(act in WORLD.right(state) for state, act in gated.steps)
    assert gated.pairs
    for state, act, slip in gated.pairs:
        assert (state, act) in gated.steps
        assert slip not in WORLD.right(state)


class Wanderer(ToyTeacher):
    """Goes round and round: often the right way, never to an end."""

    def sample(self, state: State, generator: random.Random) -> Act:
        return Act(GO, (state.room + 1) % ROOMS)


def test_right_steps_of_an_episode_that_failed_are_not_kept() -> None:
    gated = gate(WORLD, Wanderer(WORLD, 3), random.Random(0), episodes=20)

    assert any(Act(GO, (s.room + 1) % ROOMS) in WORLD.right(s) for s in gated.held_out)
    assert gated.steps == ()
    assert gated.pairs == ()


def test_acts_are_read_back_as_they_were_written() -> None:
    for state in STATES:
        for act in WORLD.possible(state):
            tokens = answer(act)
            assert spelled(tokens) == act
            assert all(0 <= token < VOCABULARY for token in tokens)
    assert spelled([0, 0]) is None
    assert spelled([answer(Act(GO, 1))[0], 0]) is None


def test_states_and_reasons_are_told_apart() -> None:
    prompts = {tuple(prompt(state)) for state in STATES}

    assert len(prompts) == len(STATES)
    assert all(len(tokens) == PROMPT for tokens in prompts)
    assert prompt(STATES[0])[-1] == ACT
    assert prompt(STATES[0], WHY)[-1] == WHY
    assert reason(2, STATES[0]) != reason(2, STATES[1])


def test_token_shares_are_the_policy_over_acts() -> None:
    policy = {Act(GO, 1): 0.3, Act(GO, 7): 0.1, Act(TAKE, 2): 0.6}
    go = answer(Act(GO, 1))[0]
    verbs, things = token_shares(policy), token_shares(policy, go)

    assert sum(verbs) == pytest.approx(1)
    assert verbs[go] == pytest.approx(0.4, abs=1e-3)
    assert things[answer(Act(GO, 1))[1]] == pytest.approx(0.75, abs=1e-3)
    assert token_shares(policy, 0) == pytest.approx([1 / VOCABULARY] * VOCABULARY)
