"""The gate of the bank: copies, caps, revoked writers and contradictions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.retrieval.bank import Admission, Bank
from tutelage.retrieval.duplicates import (
    actions_sha256,
    actions_text,
    family_sha256,
    imitated_actions,
)
from tutelage.retrieval.neighbours import NeighbourCheck
from tutelage.retrieval.origins import Origin, Origins
from tutelage.retrieval.rules import CurationRules
from tutelage.runtime.types import Trajectory

CONTRADICTS = "it contradicts its neighbours"
WRITER_FULL = "its writer has too large a share of the bank"
_AT_ONCE = 50
_NEAREST = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """A trajectory that traffic brought."""

    trajectory: Trajectory
    writers: frozenset[str] = frozenset()
    """Ids of the keys that the teacher's steps came with."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Hash of the schema of each tool that it calls, by name."""


class Gate:
    """Lets trajectories of traffic into the bank, quarantines or refuses them.

    Args:
        bank: Where they go.
        origins: Where those that are there come from.
        check: Compares with neighbours.
        rules: Caps and thresholds.
    """

    def __init__(
        self, bank: Bank, origins: Origins, check: NeighbourCheck, rules: CurationRules
    ) -> None:
        self._bank = bank
        self._origins = origins
        self._check = check
        self._rules = rules

    async def admit(self, tenant: str, offers: Sequence[Offer], *, cause: str) -> list[Admission]:
        """Decides over offers of one tenant, in their order.

        Raises:
            StoreError: The database cannot be used.
            RetrievalError: The embedder fails.
        """
        admissions: list[Admission] = []
        for start in range(0, len(offers), _AT_ONCE):
            part = offers[start : start + _AT_ONCE]
            admissions.extend(await self._admit_some(tenant, part, cause))
        return admissions

    async def _admit_some(
        self, tenant: str, offers: Sequence[Offer], cause: str
    ) -> list[Admission]:
        revoked = await asyncio.to_thread(self._origins.revoked, tenant)
        known = await self._bank.known(tenant, [offer.trajectory.id for offer in offers])
        objections: dict[int, str] = {}
        entering: list[Trajectory] = []
        origins: dict[str, Origin] = {}
        taken: dict[tuple[str, str], str] = {}
        families: Counter[str] = Counter()
        by_writer: Counter[str] = Counter()
        for position, offer in enumerate(offers):
            trajectory = offer.trajectory
            if trajectory.id in known or trajectory.id in origins:
                entering.append(trajectory)
                continue
            same = (family_sha256(trajectory), actions_sha256(trajectory))
            objection = await self._objection(
                offer, revoked, taken.get(same), families[same[0]], by_writer
            )
            if objection is not None:
                objections[position] = objection
                continue
            judgement = await self._check.judge(trajectory, offer.writers)
            reason = ""
            if self._check.is_contradiction(judgement):
                reason = f"{CONTRADICTS} ({judgement.example})"
            else:
                taken[same] = trajectory.id
                families[same[0]] += 1
                by_writer.update(offer.writers)
            origins[trajectory.id] = Origin(
                "quarantined" if reason else "active", reason, offer.writers, offer.tools
            )
            entering.append(trajectory)
        stored = iter(await self._bank.add(entering, origins=origins, cause=cause))
        return [
            Admission(tenant, offer.trajectory.id, "rejected", objections[position])
            if position in objections
            else next(stored)
            for position, offer in enumerate(offers)
        ]

    async def _objection(
        self,
        offer: Offer,
        revoked: set[str],
        twin: str | None,
        family_grown: int,
        by_writer: Counter[str],
    ) -> str | None:
        """Why an offer may not enter at all."""
        trajectory, rules = offer.trajectory, self._rules
        if offer.writers & revoked:
            return f"its writer {min(offer.writers & revoked)} was revoked"
        twin = twin or await asyncio.to_thread(self._origins.same, trajectory)
        twin = twin or await self._near_copy(trajectory)
        if twin is not None:
            await asyncio.to_thread(self._origins.confirm, trajectory.tenant, twin, offer.writers)
            return f"the bank has the same already ({twin})"
        family = await asyncio.to_thread(self._origins.family_size, trajectory)
        if family + family_grown >= rules.per_goal:
            return f"the bank has {rules.per_goal} of its goal already"
        for writer in sorted(offer.writers):
            own, active, others = await asyncio.to_thread(
                self._origins.share_of, trajectory.tenant, writer
            )
            others += len(by_writer.keys() - {writer})
            own += by_writer[writer]
            active += sum(by_writer.values())
            limit = max(rules.writer_floor, rules.writer_share * active)
            if others and own >= limit:
                return WRITER_FULL
        return None

    async def _near_copy(self, trajectory: Trajectory) -> str | None:
        """An active trajectory with nearly the same goal and as many, nearly the same actions."""
        if await self._bank.is_empty(trajectory.tenant):
            return None
        goal = (await self._bank.vectors([trajectory.goal]))[trajectory.goal]
        shard = await self._bank.near(trajectory.tenant, goal, _NEAREST)
        hits = shard.index.search(goal[None, :], min(_NEAREST, len(shard.trajectories)))
        length = len(imitated_actions(trajectory))
        near = [
            shard.trajectories[row]
            for row, score in zip(hits.ids[0], hits.scores[0], strict=True)
            if row >= 0 and score >= self._rules.similarity
        ]
        alike = [
            one
            for one in near
            if len(imitated_actions(one)) == length and one.source == trajectory.source
        ]
        if not alike:
            return None
        texts = [actions_text(one) for one in [trajectory, *alike]]
        vectors = await self._bank.vectors(texts)
        for one, text in zip(alike, texts[1:], strict=True):
            if float(vectors[texts[0]] @ vectors[text]) >= self._rules.similarity:
                return str(one.id)
        return None
