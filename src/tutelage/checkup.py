"""Whether the parts that a configuration names are there and answer."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tutelage.assembly import ledger, open_assembly
from tutelage.endpoints import endpoint
from tutelage.runtime.config import Config, ModelConfig
from tutelage.runtime.errors import ConfigError, ModelError, ModelTimeout, TutelageError
from tutelage.runtime.types import ChatRequest
from tutelage.version import __version__

PROBE_TIMEOUT_S = 60.0
VERSIONS = ("numpy", "onnxruntime", "faiss-cpu", "sqlalchemy", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Finding:
    """One part that was looked at."""

    part: str
    ok: bool
    text: str
    """What was found, or what is wrong and the command that mends it."""


async def examine(config: Config) -> list[Finding]:
    """Looks at every part; one that fails does not keep the others from being looked at."""
    found = [Finding("versions", True, _versions())]
    found.append(await _look("prices", lambda: _prices(config)))
    found.append(await _look("store", lambda: _store(config)))
    found.append(await _look("embedder", lambda: _embedder(config)))
    found.append(await _look("student", lambda: _student(config)))
    found.append(await _look("teacher", lambda: _answers(config.teacher, "teacher")))
    return found


async def _look(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except TutelageError as error:
        return Finding(part, False, str(error))


def _versions() -> str:
    found = [f"tutelage {__version__}", f"python {platform.python_version()}"]
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


async def _prices(config: Config) -> str:
    prices = ledger(config).prices
    return ", ".join(
        f"{role} ${one.input:g} in / ${one.output:g} out per million tokens"
        for role, one in prices.items()
    )


async def _store(config: Config) -> str:
    from tutelage.runtime.store.database import redact

    async with open_assembly(priced(config), open_bank=False) as assembly:
        traces = await assembly.traces.traces(config.tenant, limit=1)
        return f"{redact(config.store.url)} {'holds traces' if traces else 'is empty'}"


async def _embedder(config: Config) -> str:
    async with open_assembly(priced(config)) as assembly:
        started = time.perf_counter()
        vectors = await assembly.bank.embedder.embed(["put a clean mug in the cabinet"])
        spent_ms = (time.perf_counter() - started) * 1000
        size = await assembly.bank.size(config.tenant)
        name = assembly.bank.embedder.name
        text = f"{name}, {vectors.shape[1]} dimensions, {spent_ms:.0f} ms with loading"
        hint = "" if size else " (`tutelage collect household` plays some)"
        return f"{text}; bank of {config.tenant}: {size} demonstrations{hint}"


async def _student(config: Config) -> str:
    if config.student.base_url is not None:
        return await _answers(config.student, "student")
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import NAME, is_complete

    if config.student.checkpoint is None and not is_complete(cache_dir() / NAME):
        raise ModelError(
            f"{NAME} is not in {cache_dir()} yet: `tutelage student checkpoint` fetches it"
        )
    async with open_assembly(priced(config), open_bank=False) as assembly:
        student = await assembly.student()
        answer = await student.complete(_probe("student"))
        return f"answers in this process: {answer.text[:40]!r}"


async def _answers(model: ModelConfig, role: str) -> str:
    """Asks an endpoint for one token."""
    if role == "teacher" and model.base_url is None:
        raise ConfigError(
            "teacher.base_url is not set: benchmarks play an oracle without it; "
            "for your own traffic set it, `tutelage init` writes an example"
        )
    async with endpoint(model, role) as asked:
        started = time.perf_counter()
        try:
            await asyncio.wait_for(asked.complete(_probe(role)), PROBE_TIMEOUT_S)
        except TimeoutError:
            raise ModelTimeout(
                f"{model.base_url} gave no token in {PROBE_TIMEOUT_S:g} s: check that it is alive"
            ) from None
        return f"{model.model} at {model.base_url}: {time.perf_counter() - started:.2f} s a token"


def _probe(model: str) -> ChatRequest:
    return ChatRequest.model_validate(
        {"model": model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 1}
    )


def priced(config: Config) -> Config:
    """The configuration with prices, so that a missing one is found once and not everywhere."""
    free = {"price": {"input": 0.0, "output": 0.0}}
    values = config.model_dump()
    return Config.model_validate(
        {**values, "teacher": values["teacher"] | free, "student": values["student"] | free}
    )
