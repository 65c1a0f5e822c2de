from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.recall import RecallModel, majority_action
from tutelage.retrieval.selection import KeyedRetriever
from tutelage.runtime.protocols import Model, Retriever
from tutelage.runtime.types import (
    ChatRequest,
    Demonstration,
    Message,
    Retrieved,
    Step,
    Turn,
    Usage,
)

if TYPE_CHECKING:
    from tests.retrieval.conftest import MakeTrajectory


class Fixed:
    """Finds the same actions for every step, and keeps the steps."""

    def __init__(self, *actions: str) -> None:
        self.found = [
            Retrieved(
                Demonstration(
                    id=f"t{i}:0",
                    tenant="acme",
                    trajectory_id=f"t{i}",
                    step_index=0,
                    goal="g",
                    window=(Turn("o", action),),
                    source="oracle:test",
                ),
                1.0 - i / 10,
            )
            for i, action in enumerate(actions)
        ]
        self.steps: list[Step] = []

    async def search(self, step: Step) -> list[Retrieved]:
        self.steps.append(step)
        return self.found


def request(*contents: str) -> ChatRequest:
    roles = ("user", "assistant")
    return ChatRequest(
        model="recall",
        messages=[
            Message(role="system", content="You play a game."),
            *(Message(role=roles[i % 2], content=text) for i, text in enumerate(contents)),
        ],
    )


def model(retriever: Retriever) -> RecallModel:
    return RecallModel(retriever, tenant="acme")


async def test_the_action_of_most_demonstrations_is_the_answer() -> None:
    recall: Model = model(Fixed("open box", "go to  SHELF 1", "go to shelf 1", "open box"))
    completion = await recall.complete(request("Task: tidy up\nA room."), 3)
    assert [choice.message.text for choice in completion.choices] == ["go to  SHELF 1"] * 3
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert completion.usage == Usage()
    assert completion.model == "recall"


async def test_only_the_first_votes_count() -> None:
    retriever = Fixed("a", "b", "b", "c", "c", "c")
    for votes, answer in ((1, "a"), (2, "a"), (3, "b"), (6, "c")):
        recall = RecallModel(retriever, tenant="acme", votes=votes)
        assert (await recall.complete(request("Task: g"))).text == answer


async def test_the_step_is_read_from_the_plain_request() -> None:
    retriever = Fixed("x")
    recall = replace(model(retriever), episode_id="e7", task_id="game-1")
    completion = await recall.complete(request("Task: tidy up\nA room.", "look", "A mug."))
    (step,) = retriever.steps
    assert (step.tenant, step.episode_id, step.task_id) == ("acme", "e7", "game-1")
    assert (step.goal, step.observation, step.index) == ("tidy up", "A mug.", 1)
    assert step.history == (Turn("A room.", "look"),)
    assert completion.id == "recall-e7-1"
    await replace(recall, goal="given").complete(request("A room."))
    assert retriever.steps[-1].goal == "given"


async def test_nothing_found_is_an_empty_answer() -> None:
    assert (await model(Fixed()).complete(request("Task: g"))).text == ""
    assert majority_action([]) == ""


async def test_a_stream_carries_the_answer_and_then_ends() -> None:
    chunks = [chunk async for chunk in model(Fixed("look")).stream(request("Task: g"))]
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "look"}
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, "stop"]


@pytest.mark.parametrize(("task_id", "answer"), [(None, "go to fridge 1"), ("game-1", "")])
async def test_a_real_bank_answers_and_guards_its_own_task(
    bank: Bank, trajectory: MakeTrajectory, task_id: str | None, answer: str
) -> None:
    await bank.add([trajectory(task_id="game-1")])
    recall = replace(model(KeyedRetriever(bank)), task_id=task_id)
    asked = request("Task: put a mug on the shelf\nYou are in a kitchen.")
    assert (await recall.complete(asked)).text == answer
