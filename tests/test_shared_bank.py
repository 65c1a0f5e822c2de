"""The bank that a configuration names, on a real PostgreSQL server."""

from __future__ import annotations

import pytest
from tests.postgres import postgres, postgres_url  # noqa: F401 - fixtures

from tutelage.assembly import open_assembly
from tutelage.retrieval.bank import Bank
from tutelage.retrieval.pgvector_bank import PgVectorBank
from tutelage.runtime.config import Config, RetrievalConfig, StoreConfig, StudentConfig
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import Step, Trajectory, Turn


def settings(url: str, **retrieval: object) -> Config:
    chosen = RetrievalConfig.model_validate({"embedder": "hash", **retrieval})
    return Config(
        student=StudentConfig(priced_as="gpt-4.1-mini"),
        store=StoreConfig(url=url),
        retrieval=chosen,
        tenant="acme",
    )


def trajectory(id: str) -> Trajectory:
    return Trajectory(
        id=id,
        tenant="acme",
        goal="put a mug on the desk",
        turns=(Turn("A room with a mug 1.", "take mug 1"), Turn("You hold it.", "put it down")),
        success=True,
        source="test",
    )


async def test_processes_that_share_a_server_share_the_bank_at_once(
    postgres_url: str,  # noqa: F811
) -> None:
    config = settings(postgres_url, index="pgvector")
    step = Step("acme", "e", 0, "put a mug on the desk", "A room with a mug 1.")
    async with open_assembly(config) as first, open_assembly(config) as second:
        assert isinstance(first.bank, PgVectorBank)
        assert await second.retriever().search(step) == []
        await first.bank.add([trajectory("t1")])
        (found,) = await second.retriever().search(step)
        assert found.demonstration.action == "take mug 1"
        await second.bank.retire("acme", "t1")
        assert await first.retriever().search(step) == []


async def test_faiss_is_the_default_on_every_database(postgres_url: str) -> None:  # noqa: F811
    async with open_assembly(settings(postgres_url)) as assembly:
        assert type(assembly.bank) is Bank


async def test_pgvector_without_postgresql_is_refused_with_the_key_to_set(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'a.sqlite'}"
    with pytest.raises(ConfigError, match=r'retrieval\.index = "pgvector" needs PostgreSQL'):
        async with open_assembly(settings(url, index="pgvector")):
            pass
