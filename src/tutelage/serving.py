"""Configuration to gateway: aliases, upstreams, keys and limits, made anew at a reload."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeVar

from tutelage.assembly import open_assembly, price
from tutelage.endpoints import api_key, timeouts
from tutelage.runtime.config import AliasConfig, Config, PriceConfig, UpstreamConfig
from tutelage.runtime.errors import ConfigError, PriceUnknown

if TYPE_CHECKING:
    from tutelage.assembly import Assembly
    from tutelage.runtime.gateway.alias import Alias, CertifiedRisk, Upstream
    from tutelage.runtime.gateway.app import Gateway
    from tutelage.runtime.gateway.caller import Caller
    from tutelage.runtime.gateway.metrics import Gauges, UpstreamState
    from tutelage.runtime.gateway.parts import Parts
    from tutelage.runtime.gateway.scribe import Scribe
    from tutelage.runtime.protocols import Model

Result = TypeVar("Result")

TEACHER = "teacher"
_DAY_S = 86_400.0
_DECIDES_ALONE = frozenset({"always-teacher", "always-student", "random"})
"""Policies that need no samples."""


class _InThread:
    """Runs blocking functions in threads of its own.

    Args:
        threads: Which.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def __call__(self, function: Callable[[], Result], /) -> Result:
        """What the function returns."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


class OpenDoor:
    """Lets everyone in, as the configured tenant; for the loopback interface only.

    Args:
        tenant: Whose requests these are.
    """

    def __init__(self, tenant: str) -> None:
        from tutelage.runtime.gateway.caller import Caller

        self._caller = Caller(tenant, "open")

    async def identify(self, token: str | None) -> Caller:
        """The one caller there is."""
        return self._caller

    async def identify_admin(self, token: str | None) -> object:
        """Whoever asks."""
        return None


def check_door(host: str, *, is_open: bool) -> None:
    """Refuses to let everyone in from elsewhere.

    Raises:
        ConfigError: The gateway would be open to other machines.
    """
    if is_open and host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"--open on gateway.host = {host!r} would let every machine spend your money: bind to "
            "127.0.0.1, or leave --open out and make a key with `tutelage keys create`"
        )


async def open_gateway(config: Config, *, is_open: bool, writes_apart: bool = False) -> Gateway:
    """A gateway as configured; ``aclose`` of the result closes it.

    Args:
        config: What to open.
        is_open: Whether no keys are asked for; for the loopback interface only.
        writes_apart: Whether another process may be started that writes traces.

    Raises:
        TutelageError: A part of it cannot be made; the text says how to mend it.
    """
    from prometheus_client import CollectorRegistry

    from tutelage.runtime.gateway.access_log import AccessLog
    from tutelage.runtime.gateway.app import Gateway
    from tutelage.runtime.gateway.metrics import Metrics
    from tutelage.runtime.gateway.telemetry import telemetry_from

    check_door(config.gateway.host, is_open=is_open)
    spans = telemetry_from(config)
    parts = await open_parts(config, is_open=is_open, writes_apart=writes_apart)
    watched = WatchedGateway()
    gateway = Gateway(
        parts,
        metrics=Metrics(CollectorRegistry(), aliases=config.aliases, gauges=watched.gauges(config)),
        spans=spans,
        access_log=AccessLog() if config.gateway.log_requests else None,
    )
    watched.gateway = gateway
    return gateway


class WatchedGateway:
    """Reads, at every scrape, what the gateway's parts keep."""

    def __init__(self) -> None:
        self.gateway: Gateway | None = None

    def gauges(self, config: Config) -> Gauges:
        """Where the values are read."""
        from tutelage.runtime.gateway.metrics import Gauges

        return Gauges(
            in_flight=lambda: self.gateway.in_flight if self.gateway else 0,
            queue_rows=lambda: self._scribe.backlog if self._scribe else 0,
            dropped_traces=lambda: (
                sum(one.runtime.lost_traces for one in self._aliases())
                + (self._scribe.lost if self._scribe else 0)
            ),
            upstreams=self._upstreams,
            student_version=lambda: ", ".join(sorted(self._serving())) or _student_name(config),
            releases=self._serving,
            refused_policies=self._refused,
            risks=lambda: {
                one.name: (one.risk.estimate, one.risk.bound)
                for one in self._aliases()
                if one.risk is not None
            },
        )

    def _serving(self) -> frozenset[str]:
        releases = self.gateway.parts.releases if self.gateway else None
        return releases.serving if releases is not None else frozenset()

    def _refused(self) -> frozenset[str]:
        releases = self.gateway.parts.releases if self.gateway else None
        return releases.refused if releases is not None else frozenset()

    @property
    def _scribe(self) -> Scribe | None:
        return self.gateway.parts.scribe if self.gateway else None

    def _aliases(self) -> list[Alias]:
        return list(self.gateway.parts.aliases.by_name.values()) if self.gateway else []

    def _upstreams(self) -> dict[str, UpstreamState]:
        from tutelage.runtime.gateway.metrics import UpstreamState

        return {
            one.name: UpstreamState(one.transport.in_flight, one.transport.breaker.state)
            for alias in self._aliases()
            for one in alias.upstreams
            if one.transport is not None and one.transport.breaker is not None
        }


async def open_parts(config: Config, *, is_open: bool, writes_apart: bool = False) -> Parts:
    """Everything that a gateway serves with; ``aclose`` of the result closes it.

    Args:
        config: What to open.
        is_open: Whether no keys are asked for.
        writes_apart: Whether another process may be started that writes traces.

    Raises:
        TutelageError: A part of it cannot be made; the text says how to mend it.
    """
    async with AsyncExitStack() as stack:
        parts = await _opened(config, is_open, stack, writes_apart=writes_apart)
        stack.pop_all()
        return parts
    raise AssertionError("an exit stack swallows nothing")


async def _opened(
    config: Config, is_open: bool, stack: AsyncExitStack, *, writes_apart: bool
) -> Parts:
    from tutelage.runtime.gateway.admission import Admission
    from tutelage.runtime.gateway.alias import Aliases
    from tutelage.runtime.gateway.conversation_store import SqlConversationStore
    from tutelage.runtime.gateway.conversations import Conversations
    from tutelage.runtime.gateway.episodes import Episodes
    from tutelage.runtime.gateway.expiry import Expiry
    from tutelage.runtime.gateway.keyring import Keyring
    from tutelage.runtime.gateway.keys import read_pepper
    from tutelage.runtime.gateway.parts import Doorkeeper, Parts
    from tutelage.runtime.gateway.scribe import Scribe
    from tutelage.runtime.gateway.stored_responses import StoredResponses
    from tutelage.runtime.gateway.visitors import LocalVisitors
    from tutelage.trace_writing import is_shared, start

    settings = config.gateway
    if not any(_asks_student(one, config) for one in config.aliases.values()):
        config = _without_student(config)
    assembly = await stack.enter_async_context(open_assembly(config))
    doorkeeper: Doorkeeper = OpenDoor(config.tenant)
    if not is_open:
        pepper = read_pepper(os.environ, settings.pepper_env)
        doorkeeper = await stack.enter_async_context(
            Keyring(assembly.engine, pepper, key_cache_s=settings.key_cache_s)
        )
    admission = await stack.enter_async_context(Admission(assembly.engine))
    conversations = SqlConversationStore(assembly.engine, clock=time.time)
    stack.push_async_callback(conversations.aclose)
    # Workers and replicas find each other's conversations; one process remembers its own.
    shared = is_shared(config, assembly.engine)
    threads = ThreadPoolExecutor(1, thread_name_prefix="tutelage-responses")
    stack.callback(threads.shutdown)
    responses = StoredResponses(
        assembly.engine,
        _InThread(threads),
        clock=time.time,
        lifetime_s=settings.responses_days * _DAY_S,
    )

    def forget_conversations(limit: int) -> Awaitable[int]:
        return conversations.forget(time.time() - settings.conversations_days * _DAY_S, limit)

    expiry = Expiry([forget_conversations, responses.prune], random=Random())
    stack.push_async_callback(expiry.aclose)
    expiry.start()
    upstreams = {
        name: _upstream(name, chosen, stack)
        for name, chosen in {TEACHER: config.teacher, **config.upstreams}.items()
        if name != TEACHER or _is_set(chosen) or not config.upstreams
    }
    aliases = {
        name: await _alias(name, chosen, assembly, upstreams)
        for name, chosen in config.aliases.items()
    }
    if not aliases:
        raise ConfigError("aliases is empty: name a model that clients may ask for, or '*'")
    scribe = None
    if writes_apart and _may_write_apart(config):
        prices = {one.name: one.price for one in upstreams.values()}
        scribe = Scribe(partial(start, config, prices))
        scribe.open()
        stack.push_async_callback(scribe.aclose)
    for alias in aliases.values():
        stack.push_async_callback(alias.runtime.aclose)
    return Parts(
        settings=settings,
        aliases=Aliases(aliases),
        watch=assembly.policies.watches,
        judged=assembly.after_feedback.judged if assembly.after_feedback else None,
        releases=assembly.releases,
        scribe=scribe,
        visitors=LocalVisitors((settings.host, *settings.hosts)) if is_open else None,
        doorkeeper=doorkeeper,
        admission=admission,
        conversations=Conversations(store=conversations if shared else None),
        episodes=Episodes(next(iter(aliases.values())).runtime),
        responses=responses,
        traces=assembly.traces,
        samples=config.cascade.samples,
        count_tokens=assembly.count_tokens,
        clock=time.time,
        timer=time.perf_counter,
        aclose=stack.pop_all().aclose,
    )


async def _alias(
    name: str, chosen: AliasConfig, assembly: Assembly, upstreams: dict[str, Upstream]
) -> Alias:
    from tutelage.policies import Choice
    from tutelage.runtime.gateway.alias import Alias
    from tutelage.runtime.models.fallback import FallbackModel
    from tutelage.runtime.store.memory import MemoryTraceStore

    config = assembly.config
    unknown = [one for one in chosen.upstreams if one not in upstreams]
    if unknown:
        known = ", ".join(upstreams) or "none"
        raise ConfigError(f"aliases.{name}.upstreams: {unknown[0]!r} is unknown; there are {known}")
    if not chosen.upstreams and TEACHER not in upstreams:
        raise ConfigError(
            f"aliases.{name}.upstreams is not set, and teacher.base_url neither: name an upstream"
        )
    picked = tuple(upstreams[one] for one in chosen.upstreams or (TEACHER,))
    policy = chosen.policy or config.cascade.policy
    if chosen.mode == "route" and policy not in _DECIDES_ALONE:
        raise ConfigError(
            f"aliases.{name}.mode = 'route' decides before anything is sampled, and policy "
            f"{policy!r} needs samples: choose mode 'cascade', or one of "
            f"{', '.join(sorted(_DECIDES_ALONE))}"
        )
    student: Model | None = None
    if _asks_student(chosen, config):
        student = await assembly.student()
    runtime = assembly.runtime(
        teacher=FallbackModel([one.model for one in picked]),
        student=student,
        choice=Choice(policy=chosen.policy),
        teacher_only_tools=chosen.teacher_only_tools,
        student_deadline_s=config.gateway.student_deadline_s,
        traces=None if config.gateway.trace else MemoryTraceStore(capacity=1),
        releases=True,
    )
    return Alias(
        name=name,
        mode=chosen.mode,
        runtime=runtime,
        upstreams=picked,
        policy=policy,
        risk=_certified(assembly, policy),
        student=_student_name(config) if student is not None else None,
        student_prompt_tokens=config.prompt.max_prompt_tokens,
    )


def _certified(assembly: Assembly, policy: str) -> CertifiedRisk | None:
    """What is certified of a policy; ``benefit`` reads the same file, and nothing is of it."""
    from tutelage.runtime.gateway.alias import CertifiedRisk

    file = assembly.policies.file if policy == "calibrated" else None
    found = file.certified() if file is not None else None
    return None if found is None else CertifiedRisk(found.alpha, found.risk, found.risk_bound)


def _asks_student(chosen: AliasConfig, config: Config) -> bool:
    policy = chosen.policy or config.cascade.policy
    return chosen.mode != "passthrough" and policy != "always-teacher"


def _may_write_apart(config: Config) -> bool:
    """Whether traces of relayed calls may be made where nobody else remembers conversations.

    Spans say what is in a trace, so with them it is made here.
    """
    settings = config.gateway
    relays = all(one.mode == "passthrough" for one in config.aliases.values())
    return settings.trace and settings.trace_process and relays and not settings.otlp_endpoint


def _without_student(config: Config) -> Config:
    """The configuration of a gateway that never asks the student: no price, no embedder needed."""
    free = PriceConfig(input=0.0, output=0.0)
    return config.model_copy(
        update={
            "student": config.student.model_copy(update={"price": free}),
            "retrieval": config.retrieval.model_copy(update={"enabled": False}),
            "cascade": config.cascade.model_copy(
                update={"policy": "always-teacher", "policy_file": None}
            ),
        }
    )


def _upstream(name: str, chosen: UpstreamConfig, stack: AsyncExitStack) -> Upstream:
    from tutelage.runtime.gateway.alias import Upstream
    from tutelage.runtime.gateway.app import WIRES
    from tutelage.runtime.models.breaker import Breaker
    from tutelage.runtime.models.fields import PUBLIC_FIELDS
    from tutelage.runtime.models.litellm import LitellmModel
    from tutelage.runtime.models.retries import Retries
    from tutelage.runtime.models.transport import Transport, anthropic, bearer
    from tutelage.runtime.models.wire_model import WireModel

    role = name if name == TEACHER else f"upstreams.{name}"
    cost = price(chosen, "teacher") if _is_priced(chosen) else None
    if chosen.provider is not None:
        if chosen.model is None:
            raise ConfigError(f"{role}.model is not set: litellm needs the provider's own name")
        through = LitellmModel(
            chosen.provider,
            chosen.model,
            api_key=api_key(chosen, role),
            base_url=chosen.base_url,
            timeouts=timeouts(chosen),
            retries=Retries(attempts=chosen.attempts),
            breaker=Breaker(chosen.break_after, chosen.break_s, endpoint=name),
        )
        return Upstream(name, through, model_name=chosen.model, price=cost)
    if chosen.base_url is None:
        raise ConfigError(
            f"{role}.base_url is not set: give the address of an endpoint, for example "
            "https://api.openai.com/v1; `tutelage init` writes an example"
        )
    if not chosen.wires:
        raise ConfigError(f"{role}.wires is empty: name at least one of chat, responses, messages")
    transport = Transport(
        chosen.base_url,
        headers=anthropic if chosen.wires[0] == "messages" else bearer,
        secret=api_key(chosen, role),
        timeouts=timeouts(chosen),
        retries=Retries(attempts=chosen.attempts),
        breaker=Breaker(chosen.break_after, chosen.break_s, endpoint=chosen.base_url),
        name=name,
    )
    stack.push_async_callback(transport.aclose)
    standard = chosen.fields == "standard"
    model = WireModel(
        transport,
        WIRES[chosen.wires[0]],
        chosen.model,
        allowed_fields=PUBLIC_FIELDS if standard else None,
        output_limit=chosen.output_limit,
    )
    return Upstream(
        name,
        model,
        transport=transport,
        # A client's own bytes may hold fields that such a server must not see.
        wires=frozenset() if standard else frozenset(chosen.wires),
        model_name=chosen.model,
        price=cost,
    )


def _is_set(chosen: UpstreamConfig) -> bool:
    return chosen.base_url is not None or chosen.provider is not None


def _is_priced(chosen: UpstreamConfig) -> bool:
    if chosen.price is None and chosen.priced_as is None:
        if chosen.model is None:
            return False
        try:
            price(chosen, "teacher")
        except PriceUnknown:
            return False
    return True


def _student_name(config: Config) -> str:
    from tutelage.runtime.models.checkpoint import NAME

    return config.student.model or NAME
