"""A share of the demonstrations left out by chance, to learn what each of them is worth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from tutelage.retrieval.exposures import Exposure, ExposureLog
from tutelage.retrieval.tool_schema import tool_hashes
from tutelage.runtime.protocols import Retriever
from tutelage.runtime.types import Retrieved, Step


class DemonstrationDropout:
    """A retriever that leaves out each demonstration with a small probability.

    Chance decides once an episode and trajectory, so that an episode as a whole is with or without
    it; seed, tenant, episode and trajectory say which, whoever asks again.

    Args:
        inner: Finds the demonstrations.
        share: Probability with which each is left out; 0 only takes note of what is shown.
        seed: Seed of chance.
        log: Takes note of what was shown and left out.
        clock: Unix time in seconds.
        layer: Which retriever this is: ``step`` or ``pinned``.
    """

    def __init__(
        self,
        inner: Retriever,
        *,
        share: float,
        seed: int,
        log: ExposureLog,
        clock: Callable[[], float],
        layer: str = "step",
    ) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share {share} is not in [0, 1)")
        self._inner = inner
        self._share = share
        self._seed = seed
        self._log = log
        self._clock = clock
        self._layer = layer

    async def search(self, step: Step) -> Sequence[Retrieved]:
        """The demonstrations that are not left out, best first.

        Raises:
            RetrievalError: The bank cannot be searched.
        """
        found = await self._inner.search(step)
        shown: list[Retrieved] = []
        left_out: list[Retrieved] = []
        for one in found:
            chance = draw(self._seed, step.tenant, step.episode_id, one.demonstration.trajectory_id)
            (left_out if chance < self._share else shown).append(one)
        self._log.post(
            Exposure(
                tenant=step.tenant,
                episode_id=step.episode_id,
                step_index=step.index,
                layer=self._layer,
                at_s=self._clock(),
                share=self._share,
                shown=_ids(shown),
                left_out=_ids(left_out),
                tools=tool_hashes(step.tools),
            )
        )
        return shown


def draw(seed: int, tenant: str, episode_id: str, trajectory_id: str) -> float:
    """The number in [0, 1) that decides over a trajectory in an episode; left out below the share.

    Uniform over episodes: 64 bits of BLAKE2b.
    """
    text = json.dumps([seed, tenant, episode_id, trajectory_id])
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def _ids(found: Sequence[Retrieved]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.demonstration.trajectory_id for one in found))
