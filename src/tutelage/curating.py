"""Configuration to curation: the bank of an assembly kept in good order."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from tutelage.gathering import is_replayed
from tutelage.runtime.errors import TutelageError

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.retrieval.curation import Curator
    from tutelage.retrieval.exposures import ExposureLog
    from tutelage.retrieval.rules import CurationRules
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
        rules: Caps and thresholds; absent: the defaults.

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
        rules=rules,
        leave_out=measures,
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


class AfterFeedback:
    """Promotes the teacher's answers of an episode as soon as its outcome is known.

    Runs beside the request that brought the feedback and never fails it: what does not work now is
    done by the next full run.

    Args:
        keeper: Decides over the episode.
    """

    def __init__(self, keeper: Curator) -> None:
        self._keeper = keeper
        self._running: set[asyncio.Task[None]] = set()

    def judged(self, tenant: str, episode_id: str) -> None:
        """Takes note that an episode has got an outcome; returns at once."""
        task = asyncio.get_running_loop().create_task(self._promote(tenant, episode_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Waits for what was begun."""
        while self._running:
            await asyncio.gather(*self._running)

    async def _promote(self, tenant: str, episode_id: str) -> None:
        try:
            promotion = await self._keeper.promote(tenant, episode_id)
        except TutelageError as error:
            logger.warning("episode %s of %s is not harvested yet: %s", episode_id, tenant, error)
            return
        logger.info("episode %s of %s: %d answers promoted", episode_id, tenant, promotion.promoted)
