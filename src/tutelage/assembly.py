"""Configuration to runtime: the only code that knows every concrete class."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tutelage.chaining import Chain, with_tiers
from tutelage.demonstrating import keyed, measured_worth
from tutelage.endpoints import endpoint
from tutelage.runtime.config import Config, ModelConfig
from tutelage.runtime.errors import PriceUnknown
from tutelage.runtime.protocols import (
    AgreementRule,
    Model,
    Retriever,
    TraceStore,
)
from tutelage.runtime.types import Served, Step

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tutelage.curating import AfterFeedback
    from tutelage.policies import Choice, Policies
    from tutelage.released import Releases
    from tutelage.retrieval.bank import Bank
    from tutelage.retrieval.embedding import Embedder
    from tutelage.retrieval.exposures import SqlExposureLog
    from tutelage.retrieval.worth import MeasuredWorth
    from tutelage.runtime.auditing import Auditing
    from tutelage.runtime.ledger import Ledger
    from tutelage.runtime.pipeline import Runtime
    from tutelage.runtime.pricing import Price
    from tutelage.runtime.prompt import CountTokens, PromptSettings
    from tutelage.runtime.store.audits import SqlAuditStore
    from tutelage.runtime.store.traces import SqlTraceStore

Client = TypeVar("Client")

WHOLE_TRAJECTORY = 64
ANY_TEACHER = "the model asked for"
"""The teacher of a configuration that names none."""
ORACLE = "oracle: "
"""So begins the name of what stood for a teacher in a rehearsal; it is served by another."""


class Assembly:
    """The parts that a configuration names, each made once and shared by all runtimes.

    Made by ``open_assembly``.
    """

    def __init__(
        self,
        config: Config,
        *,
        engine: Engine,
        traces: SqlTraceStore,
        count_tokens: CountTokens,
        stack: AsyncExitStack,
    ) -> None:
        self.config = config
        self.engine = engine
        self.traces = traces
        self.count_tokens = count_tokens
        self._stack = stack
        self._student: Model | None = None
        self._chain = Chain(self)

    @functools.cached_property
    def embedder(self) -> Embedder:
        """Texts to vectors, made at the first use.

        Raises:
            RetrievalError: The embedder is missing.
        """
        return _embedder(self.config)

    @functools.cached_property
    def bank(self) -> Bank:
        """The demonstrations, made at the first use: what needs none needs no embedder.

        Raises:
            ConfigError: The configured index needs another database.
            RetrievalError: The embedder is missing.
        """
        from tutelage.retrieval.bank import Bank
        from tutelage.retrieval.pgvector_bank import PgVectorBank

        kind = PgVectorBank if self.config.retrieval.index == "pgvector" else Bank
        cache = _database_cache(self.engine) / self.embedder.name
        return kind(self.engine, self.embedder, cache, time.time)

    @functools.cached_property
    def audits(self) -> SqlAuditStore:
        """What the teacher said of the student's steps."""
        from tutelage.runtime.store.audits import SqlAuditStore

        made = SqlAuditStore(self.engine)
        self._stack.push_async_callback(made.aclose)
        return made

    async def student(self) -> Model:
        """The student's model, made at the first call.

        Raises:
            ConfigError: The endpoint or checkpoint is not usable.
            MissingExtra: The in-process student needs an extra that is not installed.
        """
        if self._student is None:
            self._student = await self._make_student()
        return self._student

    def teacher(self) -> Model:
        """The configured teacher.

        Raises:
            ConfigError: No endpoint is configured, or its key is missing.
        """
        made = endpoint(self.config.teacher, "teacher")
        self._stack.push_async_callback(made.aclose)
        return made

    def runtime(
        self,
        *,
        teacher: Model,
        student: Model | None,
        choice: Choice | None = None,
        teacher_only_tools: tuple[str, ...] = (),
        student_deadline_s: float | None = None,
        demonstrations: bool = True,
        retriever: Retriever | None = None,
        traces: TraceStore | None = None,
        releases: bool = False,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> Runtime:
        """Joins the parts; whatever is not given is as configured.

        With ``releases``, as what serves has it, those of ``releases.student`` take the student's
        place, it is noted which demonstrations are shown, and judged episodes become new ones.

        Raises:
            ConfigError: A policy or guard is unknown, or its options do not fit.
        """
        from tutelage.curating import noted
        from tutelage.policies import Choice
        from tutelage.runtime.pipeline import Runtime

        config, choice = self.config, choice or Choice()
        agreement, prices = self.policies.agreement(), ledger(config)
        near: Retriever | None = retriever
        whole: Retriever | None = None
        if retriever is None and demonstrations and config.retrieval.enabled:
            layout = config.prompt.layout
            near = self.delta_retriever() if layout == "pinned" else self.retriever()
            whole = self.pinned_retriever() if layout != "per-step" else None
            if releases:
                near, whole = noted(self, near, "step"), noted(self, whole, "pinned")
        prepare = student is not None
        policy = self.policies.policy(choice, teacher_only_tools, prepare=prepare)
        released = self.releases if releases and prepare else None
        return Runtime(
            teacher=teacher,
            student=self._chain.behind(student),
            retriever=near,
            pinned_retriever=whole,
            agreement=agreement,
            policy=policy,
            describer=self.policies.describer(choice.options),
            releases=released.students(choice, teacher_only_tools) if released else None,
            auditing=self._auditing(choice, teacher, agreement, prices),
            watch=None if choice.bare else self.policies.watches,
            judged=self.after_feedback.judged if releases and self.after_feedback else None,
            traces=traces or self.traces,
            ledger=prices,
            student_deadline_s=student_deadline_s,
            prompt=prompt_settings(config),
            count_tokens=self.count_tokens,
            tenant=config.tenant,
            close=close,
        )

    @functools.cached_property
    def releases(self) -> Releases | None:
        """Releases of the student, if they are configured."""
        from tutelage.released import Releases

        if self.config.releases.student is None:
            return None
        made = Releases(self.config, self.engine, self.bank_version, self.policies.watches)
        self._stack.push_async_callback(made.aclose)
        return made

    @functools.cached_property
    def exposures(self) -> SqlExposureLog:
        """Which demonstrations were shown, and which left out."""
        from tutelage.retrieval.exposures import SqlExposureLog

        made = SqlExposureLog(self.engine)
        self._stack.push_async_callback(made.aclose)
        return made

    @functools.cached_property
    def after_feedback(self) -> AfterFeedback | None:
        """What makes demonstrations of judged episodes; ``None``: nothing does."""
        from tutelage.curating import after_feedback

        return after_feedback(self)

    def close_later(self, close: Callable[[], Awaitable[None]]) -> None:
        """Has a part that was made from this closed, before what was made earlier."""
        self._stack.push_async_callback(close)

    async def bank_version(self) -> str:
        """Version of the tenant's demonstrations; empty where none are shown."""
        shows = self.config.retrieval.enabled
        return await self.bank.version(self.config.tenant) if shows else ""

    def retriever(self) -> Retriever:
        """Finds the demonstrations of a step."""
        chosen = self.config.retrieval
        return keyed(self, chosen.k, chosen.before, chosen.after, budgeted=True)

    def delta_retriever(self) -> Retriever | None:
        """What a pinned prompt shows of the step itself; ``None`` for nothing."""
        chosen = self.config.retrieval
        if not chosen.delta_k:
            return None
        return keyed(self, chosen.delta_k, chosen.before, chosen.after, budgeted=True)

    def pinned_retriever(self) -> Retriever | None:
        """Finds whole trajectories for an episode; ``None`` if none are pinned."""
        count = self.config.retrieval.pinned_k
        return keyed(self, count, 0, WHOLE_TRAJECTORY) if count else None

    @functools.cached_property
    def worth(self) -> MeasuredWorth:
        """What the demonstrations have been worth."""
        made = measured_worth(self)
        self._stack.push_async_callback(made.aclose)
        return made

    @functools.cached_property
    def policies(self) -> Policies:
        """What decides who serves a step."""
        from tutelage.policies import Policies

        return Policies(self.config, teacher_cost(self.config))

    async def check_policy_file(self) -> None:
        """Refuses a policy file that was calibrated for something else.

        Raises:
            ConfigError: It cannot be read, or a condition differs.
        """
        path, file = self.config.cascade.policy_file, self.policies.file
        if path is None or file is None:
            return
        bank, teacher = await self.bank_version(), teacher_of(self.config, file.conditions.teacher)
        file.check(self.policies.conditions(bank, teacher), Path(path))

    def _auditing(
        self, choice: Choice, teacher: Model, agreement: AgreementRule, prices: Ledger
    ) -> Auditing | None:
        from tutelage.cascade.audit import RandomAudits
        from tutelage.runtime.auditing import Auditing

        evidence = self.config.evidence
        share = 1.0 if choice.labels else 0.0 if choice.bare else evidence.audits
        if not share:
            return None
        return Auditing(
            teacher=teacher,
            agreement=agreement,
            trigger=RandomAudits(share, evidence.seed),
            audits=self.audits,
            ledger=prices,
            clock=time.time,
            waits=choice.labels,
            watch=None if choice.bare else self.policies.watches,
        )

    async def _make_student(self) -> Model:
        chosen = self.config.student
        if chosen.base_url is not None:
            made = endpoint(chosen, "student")
            self._stack.push_async_callback(made.aclose)
            return made
        from tutelage.runtime.cache_dir import cache_dir
        from tutelage.runtime.models.checkpoint import student_checkpoint
        from tutelage.runtime.models.local import LocalModel

        folder = (
            Path(chosen.checkpoint)
            if chosen.checkpoint
            else await asyncio.to_thread(student_checkpoint, cache_dir())
        )
        local = LocalModel(folder, threads=chosen.threads)
        self._stack.push_async_callback(local.aclose)
        return local


@asynccontextmanager
async def open_assembly(config: Config, *, open_bank: bool = True) -> AsyncIterator[Assembly]:
    """Opens the database and the bank of a configuration, and closes all that was made from it.

    Args:
        config: What to open.
        open_bank: Whether the bank is loaded now, so that what is wrong with it shows at once.

    Raises:
        ConfigError: A value of the configuration does not fit.
        StoreError: The database cannot be opened.
        RetrievalError: The embedder is missing, or another one built the bank.
    """
    from tutelage.runtime.store.database import migrate, open_engine
    from tutelage.runtime.store.spool import Spool
    from tutelage.runtime.store.traces import SqlTraceStore

    ledger(config)
    async with AsyncExitStack() as stack:
        engine = open_engine(config.store.url)
        stack.callback(engine.dispose)
        await asyncio.to_thread(migrate, engine)
        spooled = Path(config.store.spool) if config.store.spool else None
        spool = Spool(spooled or _database_cache(engine) / "spool")
        traces = await stack.enter_async_context(SqlTraceStore(engine, spool=spool))
        assembly = Assembly(
            config,
            engine=engine,
            traces=traces,
            count_tokens=token_counter(config),
            stack=stack,
        )
        if open_bank and config.retrieval.enabled:
            await assembly.bank.open()
        if open_bank:
            await assembly.check_policy_file()
        yield assembly


@asynccontextmanager
async def open_runtime(config: Config | None = None) -> AsyncIterator[Runtime]:
    """A runtime as configured, open until the block ends.

    Args:
        config: Absent: ``tutelage.toml`` here, if any, and the environment.

    Raises:
        TutelageError: A part of it cannot be made; the text says how to mend it.
    """
    from tutelage.runtime.config import load_config

    async with open_assembly(config or load_config()) as assembly:
        teacher, student = assembly.teacher(), await assembly.student()
        runtime = assembly.runtime(teacher=teacher, student=student, releases=True)
        try:
            yield runtime
        finally:
            # Audits still need the teacher and the database.
            await runtime.aclose()


def wrap(client: Client, config: Config | Path | str | None = None) -> Client:
    """An ``openai`` client whose chat completions are served by the student where it may.

    The result is used as the given client, which stays the teacher. Nothing is opened before the
    first request.

    Args:
        client: An ``openai.OpenAI`` or ``openai.AsyncOpenAI``.
        config: A configuration or its file; absent: ``tutelage.toml`` here, if any.

    Raises:
        ConfigError: ``client`` is something else, or the configuration is not usable.
        MissingExtra: The package ``openai`` is not installed.
    """
    from tutelage.lazy import LazyRuntime
    from tutelage.runtime.client import ClientModel, wrap_client
    from tutelage.runtime.config import load_config

    chosen = config if isinstance(config, Config) else load_config(Path(config) if config else None)
    ledger(chosen)
    return wrap_client(client, LazyRuntime(chosen, lambda: ClientModel(client)))


def teacher_of(config: Config, calibrated: str) -> str:
    """The teacher as a policy file names it; an oracle stood for whatever is configured."""
    return calibrated if calibrated.startswith(ORACLE) else config.teacher.model or ANY_TEACHER


def prompt_settings(config: Config) -> PromptSettings:
    """Layout of the student's prompt."""
    from tutelage.runtime.prompt import PromptSettings

    chosen = config.prompt
    return PromptSettings(
        rendering=chosen.rendering,
        layout=chosen.layout,
        history_turns=None if chosen.history_turns == "all" else chosen.history_turns,
        mirror=chosen.mirror,
        unaided_first=config.retrieval.unaided_first,
        max_prompt_tokens=chosen.max_prompt_tokens,
    )


def ledger(config: Config) -> Ledger:
    """The prices of both roles.

    A teacher without a name is priced by the model that each request asks for.

    Raises:
        PriceUnknown: A model is in no table and no price is given.
    """
    from tutelage.runtime.ledger import Ledger
    from tutelage.runtime.pricing import PriceTable

    prices: dict[Served, Price] = {"student": with_tiers(config, price(config.student, "student"))}
    named = config.teacher.price or config.teacher.priced_as or config.teacher.model
    if named:
        prices["teacher"] = price(config.teacher, "teacher")
    return Ledger(prices, PriceTable.shipped())


def price(model: ModelConfig, role: Served) -> Price:
    """The price of a model: its own, else that of ``priced_as``, else that of its name.

    Raises:
        PriceUnknown: The model is in no table and no price is given.
    """
    from tutelage.runtime.pricing import Price, PriceTable

    if model.price is not None:
        own = model.price
        return Price(own.input, own.output, own.cache_read, own.cache_write)
    try:
        return PriceTable.shipped().price(model.priced_as or model.model or "")
    except PriceUnknown as error:
        raise PriceUnknown(f"{role}: {error}") from None


def teacher_cost(config: Config) -> Callable[[Step], float]:
    """What the teacher would cost in a step, estimated without a tokenizer.

    The transcript is characters / 4; what stood in the teacher's last prompt is priced as read from
    its cache, the rest as written where the prompt is long enough for one, and the answer is as
    long as the episode's answers are on average.
    """
    from tutelage.runtime.teacher_cost import TeacherCost

    return TeacherCost(ledger(config), config.teacher.model or "")


def token_counter(config: Config) -> Callable[[str], int]:
    """Tokens by the student's tokenizer where its checkpoint is here, else characters / 4."""
    from tutelage.runtime.cache_dir import cache_dir
    from tutelage.runtime.models.checkpoint import NAME

    folder = Path(config.student.checkpoint or cache_dir() / NAME)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return lambda text: -(-len(text) // 4)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _database_cache(engine: Engine) -> Path:
    """What is kept beside one database: two of them may hold the same tenants."""
    from tutelage.runtime.cache_dir import cache_dir

    # The rendered URL hides the password.
    digest = hashlib.sha256(str(engine.url).encode()).hexdigest()[:16]
    return cache_dir() / "databases" / digest


def _embedder(config: Config) -> Embedder:
    if config.retrieval.embedder == "hash":
        from tutelage.retrieval.embedding import HashEmbedder

        return HashEmbedder()
    from tutelage.retrieval.minilm import MiniLmEmbedder, find_minilm

    return MiniLmEmbedder(find_minilm())
