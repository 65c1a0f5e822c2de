"""Configuration to curation: the bank of an assembly kept in good order."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from tutelage.gathering import is_replayed
from tutelage.runtime.errors import TutelageError
from tutelage.runtime.models.failures import log_line

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.retrieval.curation import Curator
    from tutelage.retrieval.exposures import ExposureLog
    from tutelage.retrieval.rules import CurationRules
    from tutelage.runtime.config import Config
    from tutelage.runtime.protocols import Retriever
    from tutelage.runtime.types import EpisodeRecord

logger = logging.getLogger(__name__)


def curator(
    assembly: Assembly, *, source: str | None = None, rules: CurationRules | None = None
) -> Curator:
    """What keeps the bank of an assembly; episodes of benchmarks are left alone.

    Args:
        assembly: Store and bank.
        source: Who the teacher was; absent: the configured model, else the one asked for.
        rules: Caps and thresholds; absent: as ``[curation]`` says.

    Raises:
        RetrievalError: The embedder is missing.
    """
    from tutelage.retrieval.curation import Curator

    async def measures(episode: EpisodeRecord) -> bool:
        return await is_replayed(assembly, episode)

    return Curator(
        assembly.bank,
        assembly.engine,
        assembly.traces,
        source=source or assembly.config.teacher.model,
        clock=time.time,
        rules=rules or curation_rules(assembly.config),
        leave_out=measures,
    )


def curation_rules(config: Config) -> CurationRules:
    """Caps and limits of the bank, as ``[curation]`` says."""
    from tutelage.retrieval.neighbours import NeighbourRule
    from tutelage.retrieval.rules import DAY_S, CurationRules

    chosen = config.curation
    return CurationRules(
        per_goal=chosen.per_goal,
        writer_share=chosen.writer_share,
        writer_floor=chosen.writer_floor,
        similarity=chosen.similarity,
        idle_s=chosen.idle_days * DAY_S or None,
        tools_grace_s=chosen.tools_grace_hours * 3600,
        late_s=chosen.late_s,
        window_s=chosen.window_days * DAY_S,
        confidence=chosen.confidence,
        least_left_out=chosen.least_left_out,
        checks=chosen.checks,
        neighbours=NeighbourRule(
            score=chosen.neighbour_score, least_writers=chosen.neighbour_writers
        ),
    )


def with_dropout(
    retriever: Retriever, log: ExposureLog, *, share: float, seed: int, layer: str = "step"
) -> Retriever:
    """A retriever that leaves a share of its demonstrations out, and notes what it shows.

    Args:
        retriever: Finds the demonstrations.
        log: Keeps what was shown and left out.
        share: Probability with which each is left out, for a whole episode.
        seed: Seed of chance.
        layer: ``step``, or ``pinned`` for what is found once an episode.
    """
    from tutelage.retrieval.dropout import DemonstrationDropout

    return DemonstrationDropout(
        retriever, share=share, seed=seed, log=log, clock=time.time, layer=layer
    )


def noted(assembly: Assembly, retriever: Retriever | None, layer: str) -> Retriever | None:
    """A retriever that follows changes of the bank, and notes what it shows and leaves out.

    Args:
        assembly: Bank, log and configuration.
        retriever: Finds the demonstrations; ``None`` stays ``None``.
        layer: As for ``with_dropout``.
    """
    from tutelage.caught_up import CaughtUp

    if retriever is None:
        return None
    chosen = assembly.config.curation
    fresh = CaughtUp(retriever, assembly.bank.catch_up, chosen.refresh_s)
    assembly.close_later(fresh.aclose)
    share, seed = chosen.dropout_share, chosen.dropout_seed
    return with_dropout(fresh, assembly.exposures, share=share, seed=seed, layer=layer)


def after_feedback(assembly: Assembly) -> AfterFeedback | None:
    """What makes demonstrations of episodes once they are judged; ``None`` where nothing does.

    Args:
        assembly: Store, bank and configuration; closes the result.

    Raises:
        RetrievalError: The embedder is missing.
    """
    config = assembly.config
    if not (config.retrieval.enabled and config.curation.after_feedback):
        return None
    made = AfterFeedback(curator(assembly))
    assembly.close_later(made.aclose)
    return made


class AfterFeedback:
    """Promotes the teacher's answers of an episode as soon as its outcome is known.

    Runs beside the request that brought the feedback, one episode after the other, and never fails
    it: what does not work now is done by the next full run.

    Args:
        keeper: Decides over the episode.
        most_waiting: Episodes that may wait; of more, the next full run takes care.
    """

    def __init__(self, keeper: Curator, most_waiting: int = 10_000) -> None:
        self._keeper = keeper
        self._most_waiting = most_waiting
        self._waiting: dict[tuple[str, str], None] = {}
        self._working: asyncio.Task[None] | None = None

    def judged(self, tenant: str, episode_id: str) -> None:
        """Takes note that an episode has got an outcome; returns at once."""
        key = (tenant, episode_id)
        if key not in self._waiting and len(self._waiting) >= self._most_waiting:
            logger.warning("episode %s of %s waits for `tutelage demos curate`", episode_id, tenant)
            return
        self._waiting[key] = None
        if self._working is None:
            self._begin()

    async def aclose(self) -> None:
        """Waits for what was begun and what waits."""
        while self._working is not None:
            await asyncio.wait([self._working])
            # The callback that may begin anew runs after this waiter.
            await asyncio.sleep(0)

    def _begin(self) -> None:
        self._working = asyncio.get_running_loop().create_task(self._work())
        self._working.add_done_callback(self._ended)

    async def _work(self) -> None:
        while self._waiting:
            tenant, episode_id = next(iter(self._waiting))
            del self._waiting[tenant, episode_id]
            await self._promote(tenant, episode_id)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error("an episode is not harvested: %r", error, exc_info=error)
        if self._waiting:
            self._begin()

    async def _promote(self, tenant: str, episode_id: str) -> None:
        try:
            promotion = await self._keeper.promote(tenant, episode_id)
        except TutelageError as error:
            logger.warning(
                "episode %s of %s is not harvested yet: %s", episode_id, tenant, log_line(error)
            )
            return
        logger.info(
            "episode %s of %s: %d answers promoted, %d held back, %d rejected%s",
            episode_id,
            tenant,
            promotion.promoted,
            promotion.quarantined,
            promotion.rejected,
            f" ({promotion.reason})" if promotion.reason else "",
        )
