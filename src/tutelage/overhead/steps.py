"""CPU of our own code at one step: retrieve, render, agree, trace."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.cascade.agreement import Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.paper import Paper
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.figure import Figure
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import HashEmbedder, Vectors
from tutelage.retrieval.selection import KeyedRetriever, Selection
from tutelage.runtime.prompt import CountTokens, PromptSettings, render
from tutelage.runtime.steps import read_step
from tutelage.runtime.store.database import migrate, open_engine
from tutelage.runtime.store.spool import Spool
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.types import ChatRequest, Choice, Decision, Message, Trace

TENANT = "overhead"
STEPS_AN_EPISODE = 7
"""About what the oracle needs; only sets how many episodes are played."""


class Remembered:
    """Vectors of MiniLM's size, computed once a text, so that a search costs no embedding."""

    def __init__(self) -> None:
        self._embedder = HashEmbedder(384)
        self._known: dict[str, Vectors] = {}
        self.name = self._embedder.name
        self.dimension = self._embedder.dimension

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (len(texts), 384)."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            vectors = await self._embedder.embed(missing)
            self._known.update(zip(missing, vectors, strict=True))
        return np.stack([self._known[text] for text in texts])


async def measure_steps(
    folder: Path, *, demonstrations: int, steps: int, count_tokens: CountTokens
) -> list[Figure]:
    """Median CPU milliseconds of each hop over real steps; embedding is left out.

    Args:
        folder: For the database and the index.
        demonstrations: Size of the bank, at least.
        steps: Steps that are timed.
        count_tokens: The student's tokenizer.
    """
    engine = open_engine(f"sqlite:///{folder / 'overhead.sqlite'}")
    migrate(engine)
    bank = Bank(engine, Remembered(), folder, time.time)
    episodes = list(oracle_episodes(f"train:{demonstrations // STEPS_AN_EPISODE}", TENANT))
    await bank.add(episodes)
    retriever = KeyedRetriever(bank, Selection(k=3))
    canonicalizer = TextCanonicalizer()
    rule, policy, settings = Unanimous(canonicalizer), Paper(), PromptSettings()
    spent: dict[str, list[float]] = {"retrieve": [], "render": [], "agree": [], "trace": []}
    async with SqlTraceStore(engine, spool=Spool(folder / "spool")) as store:
        for number, (request, action) in enumerate(_material(steps)):
            step = read_step(request, tenant=TENANT, episode_id="e")
            # The first search makes the vectors of this step's texts; the second is timed.
            await retriever.search(step)
            marks = [time.process_time()]
            found = await retriever.search(step)
            marks.append(time.process_time())
            rendered = render(request, step, found, settings, count_tokens)
            marks.append(time.process_time())
            message = Message(role="assistant", content=action)
            choices = [Choice(index=index, message=message) for index in range(3)]
            agreement = rule.measure(choices)
            decision = policy.decide(step, agreement, found)
            marks.append(time.process_time())
            trace = _trace(number, rendered.request.messages, step.goal, action, decision)
            marks.append(time.process_time())
            await store.append(trace)
            marks.append(time.process_time())
            spent["retrieve"].append(marks[1] - marks[0])
            spent["render"].append(marks[2] - marks[1])
            spent["agree"].append(marks[3] - marks[2])
            spent["trace"].append(marks[5] - marks[3])
    engine.dispose()
    size = await bank.size(TENANT)
    medians = {hop: statistics.median(times) * 1000 for hop, times in spent.items()}
    note = f"{size:,} demonstrations, {len(spent['render'])} steps, embedding left out"
    figures = [Figure("step", hop, ms, "ms CPU") for hop, ms in medians.items()]
    return [*figures, Figure("step", "total", sum(medians.values()), "ms CPU", note)]


def _material(steps: int) -> list[tuple[ChatRequest, str]]:
    made: list[tuple[ChatRequest, str]] = []
    for episode in oracle_episodes(f"test:{steps // 5 + 1}", TENANT):
        for request, turn in zip(requests(episode, "Act."), episode.turns, strict=True):
            made.append((request, turn.action))
    return made[:steps]


def _trace(
    number: int, prompt: Sequence[Message], goal: str, action: str, decision: Decision
) -> Trace:
    return Trace(
        id=f"trace-{number}",
        tenant=TENANT,
        episode_id="e",
        step_index=number,
        created_at_s=time.time(),
        model="student",
        goal=goal,
        observation=prompt[-1].text,
        answer=action,
        decision=decision,
        prompt=tuple(message.model_dump(exclude_unset=True) for message in prompt),
    )
