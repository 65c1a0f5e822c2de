from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import HashEmbedder
from tutelage.retrieval.keys import TaskKeys
from tutelage.retrieval.mentions import step_mentions, trajectory_mentions
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.types import Step, Trajectory, Turn

if TYPE_CHECKING:
    from tests.retrieval.conftest import CountingEmbedder, MakeStep, MakeTrajectory


async def test_an_empty_bank_gives_an_empty_list(
    bank: Bank, embedder: CountingEmbedder, step: MakeStep
) -> None:
    assert await KeyedRetriever(bank).search(step()) == []
    assert embedder.calls == []


async def test_the_step_in_the_same_state_is_found(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory()])
    turns = trajectory().turns
    for index in range(5):
        history = [(turn.observation, turn.action) for turn in turns[:index]]
        (found,) = await KeyedRetriever(bank).search(
            step(turns[index].observation, history=history)
        )
        assert found.demonstration.step_index == index
        assert found.demonstration.action == turns[index].action
        # Similarity 1 of the state, and 0.3 times similarity 1 of the goal.
        assert found.score == pytest.approx(1.3, abs=1e-4)


async def test_one_call_embeds_all_that_a_search_needs(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory()])
    embedder.calls.clear()
    await KeyedRetriever(bank).search(step())
    assert embedder.calls == [["put a mug on the shelf", "start -> You are in a kitchen."]]


async def test_what_is_found_brings_the_vector_of_the_step_goal_and_state(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(3)])
    found = await KeyedRetriever(
        bank, keys=lambda step: TaskKeys(step.goal, "tidy", "look")
    ).search(step())
    goal, state = await embedder.embed(["put a mug on the shelf", "start -> You are in a kitchen."])
    assert len(found) == 3
    for one in found:
        np.testing.assert_array_equal(one.query, np.concatenate([goal, state]))
    assert "query" not in repr(found[0])


async def test_each_trajectory_gives_one_step_and_k_is_kept(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory(f"t{i}") for i in range(9)])
    found = await KeyedRetriever(bank, Selection(k=4)).search(step())
    assert len({r.demonstration.trajectory_id for r in found}) == len(found) == 4
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


async def test_the_nearer_goal_wins_among_equal_states(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add(
        [trajectory("far", goal="look at the pillow"), trajectory("near", goal="put a mug away")]
    )
    found = await KeyedRetriever(bank).search(step())
    assert [r.demonstration.trajectory_id for r in found] == ["near", "far"]


async def test_of_equal_states_the_one_at_the_nearest_step_wins(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    turns = [("You see nothing.", "look")] * 6
    await bank.add([trajectory(turns=turns)])
    for index in range(1, 6):
        history = [("You see nothing.", "look")]
        (found,) = await KeyedRetriever(bank).search(
            step("You see nothing.", history=history, index=index)
        )
        assert found.demonstration.step_index == index


async def test_of_equal_sights_the_one_with_the_same_progress_wins(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    done = [("a shelf", "take mug 1"), ("the box", "go to hall"), ("a hall", "move mug 1")]
    undone = [("a shelf", "take pen 1"), ("the box", "go to hall"), ("a hall", "look")]
    await bank.add([trajectory("done", turns=done), trajectory("undone", turns=undone)])
    for turns, nearest in ((done, "done"), (undone, "undone")):
        found = await KeyedRetriever(bank).search(step("a hall", history=turns[:2]))
        assert [r.demonstration.step_index for r in found] == [2, 2]
        assert found[0].demonstration.trajectory_id == nearest
        # One of the two goal words, mug and shelf, was touched in one of them only.
        assert found[0].score - found[1].score == pytest.approx(0.2 / 2, abs=1e-4)


async def test_the_own_task_is_never_shown(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add(
        [
            trajectory("same", task_id="game-1"),
            trajectory("twin", task_id="game-2"),
            trajectory("none"),
        ]
    )
    retriever = KeyedRetriever(bank, Selection(candidates=1, pool=1))
    wide = KeyedRetriever(bank)
    for search in (retriever, wide):
        found = await search.search(step(task_id="game-1"))
        assert found
        assert "same" not in {r.demonstration.trajectory_id for r in found}
    assert len(await wide.search(step(task_id="game-1"))) == 2
    assert len(await wide.search(step())) == 3


async def test_a_bank_of_the_own_task_alone_gives_nothing(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory(task_id="game-1")])
    assert await KeyedRetriever(bank).search(step(task_id="game-1")) == []


async def test_a_retired_trajectory_is_not_found(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory("a"), trajectory("b")])
    await bank.retire("acme", "a")
    found = await KeyedRetriever(bank).search(step())
    assert [r.demonstration.trajectory_id for r in found] == ["b"]


async def test_the_window_is_as_long_as_asked(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add([trajectory()])
    turns = trajectory().turns
    history = [(turn.observation, turn.action) for turn in turns[:3]]
    for before, after, length in ((0, 0, 1), (2, 0, 3), (1, 1, 3), (9, 9, 5)):
        selection = Selection(before=before, after=after)
        (found,) = await KeyedRetriever(bank, selection).search(
            step(turns[3].observation, history=history)
        )
        assert len(found.demonstration.window) == length
        assert found.demonstration.action == "go to shelf 1"


async def test_the_category_of_the_nearest_goals_is_preferred(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add(
        [
            trajectory("c1", goal="put a clean mug on the shelf", category="clean"),
            trajectory("c2", goal="put a clean mug on a shelf", category="clean"),
            trajectory("c3", goal="wash the spoon, then go to bed", category="clean"),
            trajectory("p1", goal="put a mug on a desk", category="place"),
        ]
    )
    asked = step(goal="put a clean mug on the shelf")

    async def ranking(bonus: float) -> list[str]:
        selection = Selection(category_bonus=bonus, neighbours=3)
        found = await KeyedRetriever(bank, selection).search(asked)
        return [r.demonstration.trajectory_id for r in found]

    assert (await ranking(0.0)).index("p1") < 3
    assert (await ranking(2.0)).index("p1") == 3


async def test_known_category_and_plan_count_as_keys(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    await bank.add(
        [
            trajectory("plain"),
            trajectory("planned", category="put_it", plan="first open the fridge"),
            trajectory("other", category="heat_it", plan="use the microwave"),
        ]
    )

    def keys(step: Step) -> TaskKeys:
        return TaskKeys(step.goal, "put_it", "first open the fridge")

    found = await KeyedRetriever(bank, keys=keys).search(step())
    scores = {r.demonstration.trajectory_id: r.score for r in found}
    # The mean over the keys that both sides have: one for "plain", three for the others.
    assert scores["plain"] == pytest.approx(1.3, abs=1e-4)
    assert scores["planned"] == pytest.approx(1.3, abs=1e-4)
    vectors = await embedder.embed(
        ["put it", "heat it", "first open the fridge", "use the microwave"]
    )
    mean = (1 + vectors[0] @ vectors[1] + vectors[2] @ vectors[3]) / 3
    assert scores["other"] == pytest.approx(1 + 0.3 * mean, abs=1e-4)


async def test_diversity_passes_over_copies(
    bank: Bank, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    near = [("You are in a kitchen, it is dark.", "use lamp 1")]
    await bank.add([trajectory("a"), trajectory("copy"), trajectory("z", turns=near)])

    async def ranking(diversity: float) -> list[str]:
        found = await KeyedRetriever(bank, Selection(k=3, diversity=diversity)).search(step())
        return [r.demonstration.trajectory_id for r in found]

    assert await ranking(0.0) == ["a", "copy", "z"]
    assert await ranking(1.5) == ["a", "z", "copy"]


async def test_the_two_stages_agree_with_a_plain_search_over_everything(
    bank: Bank, embedder: CountingEmbedder, trajectory: MakeTrajectory, step: MakeStep
) -> None:
    random = np.random.default_rng(0)
    words = ["mug", "fridge", "shelf", "egg", "open", "take", "lamp", "desk", "go", "see"]

    def text() -> str:
        return " ".join(random.choice(words, size=4))

    stored = [
        trajectory(f"t{i:02}", goal=text(), turns=[(text(), text()) for _ in range(1 + i % 7)])
        for i in range(25)
    ]
    await bank.add(stored)
    asked = step(text(), goal=text(), history=[(text(), text())])
    goal, state = await embedder.embed([asked.goal, bank.state_key.of_step(asked)])
    expected = []
    for each in stored:
        states = await embedder.embed(
            [bank.state_key.of_turn(each, i) for i in range(len(each.turns))]
        )
        shares = np.abs(trajectory_mentions(each) - step_mentions(asked)).sum(axis=1)
        scores = states @ state - 0.2 * shares - 0.01 * np.abs(np.arange(len(states)) - asked.index)
        (goal_row,) = await embedder.embed([each.goal])
        expected.append((scores.max() + 0.3 * (goal_row @ goal), f"{each.id}:{scores.argmax()}"))
    found = await KeyedRetriever(bank, Selection(k=25)).search(asked)
    assert [r.demonstration.id for r in found] == [id for _, id in sorted(expected)[::-1]]
    np.testing.assert_allclose(
        [r.score for r in found], sorted((s for s, _ in expected), reverse=True), atol=1e-5
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    owners=st.lists(st.sampled_from(["a", "b", "a/b", "ab", ""]), min_size=1, max_size=8),
    asking=st.sampled_from(["a", "b", "a/b", "ab", ""]),
    ids=st.lists(st.sampled_from(["x", "y", "z"]), min_size=8, max_size=8),
)
async def test_tenants_never_mix(
    owners: list[str],
    asking: str,
    ids: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("tenants")
    engine = open_engine(f"sqlite:///{folder / 'store.sqlite'}")
    migrate(engine)
    offered = [
        Trajectory(
            id=id,
            tenant=owner,
            goal="put a mug on the shelf",
            turns=(Turn("You see a mug.", f"act for {owner!r}"),),
            success=True,
            source="oracle:test",
        )
        for owner, id in zip(owners, ids, strict=False)
    ]
    own = {t.id for t in offered if t.tenant == asking}
    asked = Step(
        tenant=asking, episode_id="e", index=0, goal=offered[0].goal, observation="You see a mug."
    )
    writing = Bank(engine, HashEmbedder(32), folder, lambda: 1.0)
    await writing.add(offered)
    for bank in (writing, Bank(engine, HashEmbedder(32), folder, lambda: 1.0)):
        found = await KeyedRetriever(bank).search(asked)
        assert {r.demonstration.trajectory_id for r in found} == own
        assert {r.demonstration.tenant for r in found} <= {asking}
        assert {r.demonstration.action for r in found} <= {f"act for {asking!r}"}
        assert {d.tenant for d in await bank.demonstrations(asking)} <= {asking}
    if own:
        await writing.retire(asking, min(own))
        others = [t for t in offered if t.tenant != asking]
        for tenant in {t.tenant for t in others}:
            assert len(await writing.trajectories(tenant)) == len(
                {t.id for t in others if t.tenant == tenant}
            )
    engine.dispose()
