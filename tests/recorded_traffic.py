"""Traffic through a real runtime, whose student is right in easy steps and wrong in hard ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from tutelage.assembly import Assembly
from tutelage.policies import Choice
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pipeline import Runtime
from tutelage.runtime.types import Answer, ChatRequest, Mode

EASY, HARD = "A room with a desk 1.", "A dark cellar with a shelf 1."
TAUGHT = "go to desk 1"


def request(observation: str, goal: str = "tidy the room.") -> ChatRequest:
    messages = [{"role": "user", "content": f"Task: {goal}\n{observation}"}]
    return ChatRequest.model_validate({"model": "agent", "messages": messages, "temperature": 0.0})


def runtime_of(assembly: Assembly, *, agrees_with_itself: bool = False) -> Runtime:
    """A runtime as configured, with models from this module.

    In a hard step the student's samples differ, unless it agrees with itself there.
    """
    drawn = count()

    def student(asked: ChatRequest) -> str:
        if EASY in asked.messages[-1].text:
            return TAUGHT
        number = 1 if agrees_with_itself else next(drawn) % 3 + 1
        return f"open drawer {number}"

    return assembly.runtime(
        teacher=ScriptedModel(TAUGHT), student=ScriptedModel(student), choice=Choice()
    )


async def serve(
    runtime: Runtime,
    episodes: int,
    *,
    is_hard: Callable[[int, int], bool] = lambda episode, step: (episode + step) % 3 == 0,
    steps: int = 3,
    mode: Mode = "cascade",
    tenant: str = "default",
    name: str = "e",
) -> list[Answer]:
    """Serves episodes of several steps, and waits until all of it is in the store."""
    answers = []
    for number in range(episodes):
        async with runtime.episode(
            goal="tidy the room.", tenant=tenant, task_id=None, id=f"{name}{number}"
        ) as episode:
            for step in range(steps):
                seen = HARD if is_hard(number, step) else EASY
                answers.append(await runtime.complete(request(seen), episode=episode, mode=mode))
    await runtime.aclose()
    return answers
