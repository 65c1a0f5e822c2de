"""What is measured: the parts as configured by default, around a bank of a given size."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tutelage.assembly import Assembly, open_assembly
from tutelage.overhead.episodes import oracle_episodes
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.embedding import Embedder, Vectors
from tutelage.retrieval.minilm import MiniLmEmbedder, find_minilm
from tutelage.runtime.config import (
    CascadeConfig,
    Config,
    PromptConfig,
    RetrievalConfig,
    StoreConfig,
    StudentConfig,
    UpstreamConfig,
)
from tutelage.runtime.prompt import Layout

TENANT = "overhead"
EPISODES_AT_ONCE = 50
MOST_EPISODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """The configured parts and the bank that they search."""

    assembly: Assembly
    demonstrations: int
    """In the bank."""
    texts: int
    """Distinct texts that were embedded for it."""

    def with_layout(self, layout: Layout, delta_k: int = 0) -> Assembly:
        """The same bank and store with another layout of the prompt.

        Args:
            layout: Of the prompt.
            delta_k: Demonstrations of the step itself beside pinned ones.
        """
        return self.with_retrieval(RetrievalConfig(delta_k=delta_k), layout)

    def with_retrieval(self, retrieval: RetrievalConfig, layout: Layout = "per-step") -> Assembly:
        """The same bank and store with another choice of demonstrations.

        Args:
            retrieval: Which demonstrations are shown.
            layout: Of the prompt.
        """
        made = Assembly(
            _config(self.assembly.config.store, layout, retrieval),
            engine=self.assembly.engine,
            traces=self.assembly.traces,
            count_tokens=self.assembly.count_tokens,
            stack=AsyncExitStack(),
        )
        made.bank = self.assembly.bank
        return made


def minilm() -> MiniLmEmbedder:
    """The default embedder, its memory empty.

    Raises:
        RetrievalError: The weights are missing.
    """
    return MiniLmEmbedder(find_minilm())


@asynccontextmanager
async def open_setting(
    folder: Path, *, demonstrations: int, make_embedder: Callable[[], Embedder] = minilm
) -> AsyncIterator[Setting]:
    """Fills a bank with the oracle's steps in household tasks, then opens it anew.

    Args:
        folder: Gets the database, the spool and the index.
        demonstrations: Least size of the bank; episodes are kept whole.
        make_embedder: Called twice, so that the second one remembers no text of the bank.

    Raises:
        RetrievalError: The embedder's weights are missing.
    """
    store = StoreConfig(url=f"sqlite:///{folder / 'overhead.sqlite'}", spool=str(folder / "spool"))
    async with open_assembly(_config(store), open_bank=False) as assembly:
        filling = _Noted(make_embedder())
        try:
            bank = Bank(assembly.engine, filling, folder, time.time)
            episodes = oracle_episodes(f"train:{MOST_EPISODES}", TENANT)
            while await bank.size(TENANT) < demonstrations:
                await bank.add([next(episodes) for _ in range(EPISODES_AT_ONCE)])
        finally:
            _close(filling.inner)
        embedder = make_embedder()
        # Its files stay in the folder, so that nothing is left behind in the cache.
        assembly.bank = Bank(assembly.engine, embedder, folder, time.time)
        try:
            size = await assembly.bank.size(TENANT)
            yield Setting(assembly, size, len(filling.texts))
        finally:
            _close(embedder)


class _Noted:
    """An embedder that notes which texts it was given."""

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.name = inner.name
        self.dimension = inner.dimension
        self.texts: set[str] = set()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.texts.update(texts)
        return await self.inner.embed(texts)


def _close(embedder: Embedder) -> None:
    if isinstance(embedder, MiniLmEmbedder):
        embedder.close()


def _config(
    store: StoreConfig, layout: Layout = "per-step", retrieval: RetrievalConfig | None = None
) -> Config:
    return Config(
        # A student on this machine and an oracle have no price; no figure depends on these.
        teacher=UpstreamConfig(priced_as="claude-sonnet-4-5"),
        student=StudentConfig(priced_as="gpt-4.1-mini"),
        cascade=CascadeConfig(grammar="household"),
        prompt=PromptConfig(layout=layout),
        retrieval=retrieval or RetrievalConfig(),
        store=store,
        tenant=TENANT,
    )
