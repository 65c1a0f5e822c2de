"""Traffic of which it is known what the teacher alone and what the cascade would have cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.recorded_traffic import EASY, HARD, TAUGHT, request
from tests.small_household import household

from tutelage.assembly import open_assembly
from tutelage.runtime.config import Config
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.types import ChatRequest, Reason, Usage

TEACHER_USD, STUDENT_USD = 0.0103, 0.00013
"""Of one call: 1000 tokens in, 100 out at 10 and 3 USD a million; 1000 in, 30 out at 0.1 and 1."""
AUDITS = 0.4


@dataclass(frozen=True)
class Truth:
    """Means over all episodes, whoever served them."""

    teacher_usd: float
    cascade_usd: float
    quality: float
    """Success of the cascade minus success of the teacher alone."""
    wrong: float
    """Share of wrong ones among the steps that the cascade gives to the student."""


def configured(url: str, **changes: Any) -> Config:
    return household(
        store__url=url,
        retrieval__enabled=False,
        evidence__holdout=0.3,
        evidence__audits=AUDITS,
        teacher__price={"input": 10.0, "output": 3.0, "cache_read": 10.0},
        student__price={"input": 0.1, "output": 1.0},
        **changes,
    )


def steps_of(number: int) -> list[str]:
    """What is seen in an episode: easy steps; sure but wrong ones; and hard ones, given away."""
    seen = [EASY] * (1 + number % 3)
    if number % 4 == 0:
        seen.append("A wrong turn.")
    if number % 2 == 0:
        seen.append(HARD)
    return seen


def truth(episodes: int) -> Truth:
    """What a fair comparison must find, but for chance."""
    teacher, cascade, wrong, served = 0.0, 0.0, 0, 0
    for number in range(episodes):
        seen = steps_of(number)
        deferred = seen.count(HARD)
        kept = len(seen) - deferred
        teacher += len(seen) * TEACHER_USD
        cascade += len(seen) * STUDENT_USD + (deferred + AUDITS * kept) * TEACHER_USD
        served += kept
        wrong += seen.count("A wrong turn.")
    return Truth(teacher / episodes, cascade / episodes, -0.1, wrong / served)


async def serve_randomised(config: Config, episodes: int, patch: pytest.MonkeyPatch) -> None:
    """Serves the traffic, and says of each episode whether it succeeded.

    The teacher alone wins 9 of 10, the cascade 8 of 10.
    """
    drawn, traces = count(), count()
    patch.setattr("tutelage.runtime.pipeline.new_id", lambda: f"trace-{next(traces)}")

    def student(asked: ChatRequest) -> str:
        text = asked.messages[-1].text
        if HARD in text:
            return f"open drawer {next(drawn) % 3 + 1}"
        return TAUGHT if EASY in text else "open drawer 1"

    async with open_assembly(config) as assembly:
        runtime = assembly.runtime(
            teacher=ScriptedModel(TAUGHT, usage=Usage(input_tokens=1000, output_tokens=100)),
            student=ScriptedModel(student, usage=Usage(input_tokens=1000, output_tokens=30)),
        )
        for number in range(episodes):
            async with runtime.episode(
                goal="tidy the room." if number % 2 else "Find a mug.",
                tenant="default",
                task_id=None,
                id=f"e{number}",
            ) as episode:
                for seen in steps_of(number):
                    answer = await runtime.complete(request(seen), episode=episode)
                is_held_out = answer.decision.reason is Reason.HOLDOUT
                await episode.feedback(success=number % (10 if is_held_out else 5) != 0)
        await runtime.aclose()


def store_in(folder: Path) -> str:
    return f"sqlite:///{folder}/traffic.sqlite"
