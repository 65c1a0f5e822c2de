"""Episodes of live traffic in a real store, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from tutelage.retrieval.bank import Bank
from tutelage.retrieval.curation import Curator
from tutelage.retrieval.rules import CurationRules
from tutelage.runtime.store.traces import SqlTraceStore
from tutelage.runtime.types import Decision, EpisodeRecord, Reason, Sample, Served, Trace

Row = tuple[str, str, Served]
SOLVED: tuple[Row, ...] = (
    ("You are in a kitchen.", "go to fridge 1", "teacher"),
    ("The fridge 1 is closed.", "open fridge 1", "teacher"),
)


@dataclass
class Traffic:
    """Writes traces and outcomes as the runtime does."""

    store: SqlTraceStore
    engine: Engine
    bank: Bank
    now_s: float = 1000.0

    async def play(
        self,
        id: str,
        rows: Sequence[Row] = SOLVED,
        *,
        success: bool | None = True,
        key: str | None = None,
        goal: str = "put a mug on the shelf",
        tenant: str = "acme",
        no_train: bool = False,
        shown: tuple[str, ...] = (),
        samples: tuple[str, ...] = (),
        reason: Reason = Reason.ALWAYS,
    ) -> list[Trace]:
        """An episode with one trace a row; the outcome is left open with ``success=None``."""
        traces = []
        for index, (observation, answer, served) in enumerate(rows):
            trace = Trace(
                id=f"{id}-{index}",
                tenant=tenant,
                episode_id=id,
                step_index=index,
                created_at_s=self.now_s + index / 100,
                model="gpt",
                key_id=key,
                no_train=no_train,
                goal=goal,
                observation=observation,
                answer=answer,
                action=answer,
                decision=Decision(served=served, reason=reason),
                samples=tuple(Sample(text=one, action=one) for one in samples),
                demonstrations=shown,
            )
            traces.append(trace)
            await self.store.append(trace)
        await self.judge(id, success, goal=goal, tenant=tenant)
        return traces

    async def judge(
        self, id: str, success: bool | None, *, goal: str | None = None, tenant: str = "acme"
    ) -> None:
        """The outcome of an episode, however late."""
        record = EpisodeRecord(
            id=id, tenant=tenant, goal=goal, success=success, created_at_s=self.now_s
        )
        await self.store.record_episode(record)

    def curator(
        self, rules: CurationRules | None = None, *, clock: Callable[[], float] | None = None
    ) -> Curator:
        """What keeps the bank."""
        return Curator(
            self.bank,
            self.engine,
            self.store,
            source="teacher",
            clock=clock or (lambda: self.now_s),
            rules=rules,
        )

    async def shown(self, tenant: str = "acme") -> list[str]:
        """Ids of the active trajectories."""
        return [one.id for one in await self.bank.trajectories(tenant)]
