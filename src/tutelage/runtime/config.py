"""One frozen configuration, read from TOML and the environment."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tutelage.runtime.chain_config import ChainConfig
from tutelage.runtime.errors import ConfigError
from tutelage.runtime.loop_config import (
    CurationConfig,
    FlywheelConfig,
    ReleaseConfig,
    TrainingConfig,
)
from tutelage.runtime.speculation_config import SpeculationConfig
from tutelage.runtime.types import Draw

ENVIRONMENT_PREFIX = "TUTELAGE_"
DEFAULT_FILE = "tutelage.toml"
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)
"""A name or an address of a machine; of IPv6 in brackets."""


class Section(BaseModel):
    """A table of the configuration; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PriceConfig(Section):
    """Prices of a model that the table does not know, USD per million tokens."""

    input: float = Field(ge=0)
    """Of a prompt token that no cache served."""
    output: float = Field(ge=0)
    """Of a generated token."""
    cache_read: float | None = Field(None, ge=0)
    """Absent: cached tokens are billed at the input price."""
    cache_write: float | None = Field(None, ge=0)
    """Absent: written tokens are billed at the input price."""


class TimeoutConfig(Section):
    """Deadlines of one model call, seconds."""

    connect_s: float = Field(5.0, gt=0)
    """Until the connection stands."""
    first_byte_s: float = Field(120.0, gt=0)
    """Until the first byte of an answer; without streaming that is the whole answer."""
    idle_s: float = Field(60.0, gt=0)
    """Longest silence within a stream."""
    total_s: float = Field(300.0, gt=0)
    """For a call with all its attempts and the waits between them."""


class ModelConfig(Section):
    """An OpenAI-compatible endpoint."""

    base_url: str | None = None
    """For example ``https://api.openai.com/v1``; absent for a student: it runs in this process."""
    model: str | None = None
    """The endpoint's own name of the model."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key itself never stands in a file."""
    priced_as: str | None = None
    """Row of the price table; absent: ``model``."""
    price: PriceConfig | None = None
    """Own prices; they win over the table."""
    attempts: int = Field(3, ge=1, le=10)
    """Calls in all, the first included."""
    output_limit: Literal["max_tokens", "max_completion_tokens"] | None = None
    """Field of a chat call that limits its answer; absent: ``max_completion_tokens`` at OpenAI and
    its Azure addresses, elsewhere the one that the client's API has. What is relayed stays as it
    is."""
    timeouts: TimeoutConfig = TimeoutConfig()


class UpstreamConfig(ModelConfig):
    """An endpoint of a teacher, and how it is spoken to."""

    wires: tuple[Literal["chat", "responses", "messages"], ...] = ("chat",)
    """APIs the endpoint speaks, the preferred one first; a client of one of them is relayed."""
    provider: str | None = None
    """litellm's name of a provider without an endpoint of its own here (extra ``providers``)."""
    fields: Literal["all", "standard"] = "all"
    """``standard``: fields of a request that are not part of the public API are dropped, as
    self-hosted servers need it."""
    break_after: int = Field(5, ge=1)
    """Failures in a row after which the endpoint is left alone for a while."""
    break_s: float = Field(30.0, gt=0)
    """How long it is left alone."""


class StudentConfig(ModelConfig):
    """The cheap model: an endpoint, or a checkpoint that runs in this process."""

    checkpoint: str | None = None
    """Folder of a Hugging Face checkpoint; absent: SmolLM2-135M-Instruct from the cache."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the in-process student; absent: all cores but one."""
    logprobs: bool = False
    """Whether the endpoint is asked for the log-probabilities of its samples."""
    weights: str | None = None
    """SHA-256 of the weights, which policy files then hold for; a release sets its own."""
    speculation: SpeculationConfig | None = None
    """How `tutelage student start` lets vLLM guess ahead; absent: not at all."""


class RetrievalConfig(Section):
    """How demonstrations are chosen."""

    enabled: bool = True
    """Whether the student sees demonstrations at all."""
    k: int = Field(3, ge=1, le=64)
    """Demonstrations a step."""
    before: int = Field(2, ge=0)
    """Turns shown before the one to imitate."""
    after: int = Field(0, ge=0)
    """Turns shown after it."""
    pool: int = Field(60, ge=1)
    """Trajectories whose steps are compared, the most similar goals first."""
    goal_weight: float = Field(0.3, ge=0)
    """Weight of the trajectory's similarity beside the step's."""
    rebind: bool = True
    """Whether demonstrations are retold with the names of the step at hand."""
    delta_k: int = Field(0, ge=0)
    """Demonstrations of the step itself beside pinned ones (``prompt.layout = "pinned"``)."""
    pinned_k: int = Field(1, ge=0)
    """Whole trajectories pinned for an episode by the pinned layouts; with 0 ``pinned-delta`` pins
    the demonstrations of the first step."""
    budget_tokens: int | None = Field(None, ge=0)
    """What a step's demonstrations may add to the prompt; absent: the ``k`` best, whatever they
    cost."""
    budget_usd: float | None = Field(None, ge=0)
    """The same in USD at the student's price."""
    diversity: float | None = Field(None, ge=0)
    """Taken off for likeness to what is already chosen (MMR); absent: 0.6 with a budget, else 0."""
    saved_per_value: float = Field(0.5, ge=0, le=1)
    """Calls of the teacher that a demonstration of the very state and goal saves; with a budget
    none is shown that costs more than it saves."""
    unaided_first: bool = False
    """Whether the student is first asked without demonstrations, and with them only where its
    samples disagree or the policy refuses them."""
    query_projection: str | None = None
    """Folder that the recipe ``retriever`` wrote: it turns the states that are searched for."""
    embedder: Literal["minilm", "hash"] = "minilm"
    """``hash`` knows no meaning; it is for tests."""
    index: Literal["faiss", "pgvector"] = "faiss"
    """``faiss``: each process holds the bank in memory; ``pgvector``: PostgreSQL holds and searches
    it for all processes (``store.url`` must be PostgreSQL)."""


class PromptConfig(Section):
    """Layout of the student's prompt."""

    rendering: Literal["turns", "block"] = "turns"
    """``turns``: user/assistant pairs; ``block``: quoted text in one message a demonstration."""
    layout: Literal["per-step", "pinned", "pinned-delta"] = "per-step"
    """``per-step``: retrieved anew at each step; ``pinned``: chosen once an episode, so that
    prefix caches hold; ``pinned-delta``: so, with what the step needs beside it at the end."""
    history_turns: Annotated[int, Field(ge=0)] | Literal["all"] = 5
    """Latest turns of the transcript that the student sees, or ``"all"``; ``per-step`` only."""
    mirror: bool = True
    """Whether the transcript beside demonstrations is cut as they are; not ``pinned``."""
    max_prompt_tokens: int = Field(1600, ge=64)
    """Budget of the whole prompt."""


class CascadeConfig(Section):
    """Who serves a step."""

    policy: str = "paper"
    """``always-teacher``, ``always-student``, ``random``, ``paper``, ``calibrated`` or
    ``benefit``."""
    policy_file: str | None = None
    """What ``tutelage calibrate`` wrote; policies ``calibrated`` and ``benefit`` only."""
    value_usd: float | None = Field(None, ge=0)
    """What a right action instead of a wrong one is worth; policy ``benefit`` only."""
    effects: dict[str, Literal["read", "write"]] = {}
    """What tools and commands do, by name or shell pattern; what is not named may write."""
    samples: int = Field(3, ge=1, le=64)
    """Student answers that vote at a step."""
    temperature: float = Field(0.7, ge=0, le=2)
    """Temperature of the samples that vote."""
    draw: Draw = "together"
    """``together``: one call for all samples; ``sequential``: one by one, until no further one can
    matter; ``racing``: all at once, and the late ones are given up. The first bills the prompt
    once, the others suit an endpoint that caches it."""
    greedy_first: bool = False
    """Whether the first sample is the greedy one; agreed, it is the one that is acted on."""
    rule: Literal["votes", "asymmetric", "majority", "likelihood"] = "votes"
    """When samples agree: ``votes``: ``cascade.agree`` of them name one action; ``asymmetric``: as
    many (absent: more than half) if all actions only read, else all; ``majority``: one
    action is the most frequent with probability ``cascade.rule_threshold``; ``likelihood``: one
    action has that share of the likelihood (``student.logprobs``)."""
    rule_threshold: float = Field(0.9, gt=0, le=1)
    """For the rules ``majority`` and ``likelihood``."""
    agree: int | None = Field(None, ge=1)
    """Votes that make an agreement; absent: all samples."""
    enough_logprob: float | None = Field(None, le=0)
    """Mean log-probability of its tokens from which on the first sample is enough alone; under
    ``asymmetric`` only for actions that read; needs ``student.logprobs``; absent: never."""
    guards: tuple[str, ...] = ("rejection", "loop", "stall")
    """What hands a step to the teacher whatever the votes say."""
    grammar: Literal["any", "household"] = "any"
    """``household``: an answer that is no command of the household worlds names no action."""
    canonical: str | None = None
    """How answers are compared: ``text``, ``tools``, ``code``, ``code-fingerprint``, ``json``,
    ``react``, or ``module:attribute``; absent: ``text``, or as ``grammar`` says."""
    order_free: dict[str, tuple[str, ...]] = {}
    """By tool, paths of arguments that are lists without an order."""
    ordered: dict[str, tuple[str, ...]] = {}
    """By tool, paths of lists whose order counts in spite of ``uniqueItems``."""
    stateful: bool = True
    """Whether variables of one code answer are seen by the next."""
    react_tools: tuple[str, ...] = ()
    """Names of the tools of a ReAct agent."""
    p_teacher: float = Field(0.5, ge=0, le=1)
    """Share of steps for the teacher, policy ``random`` only."""
    seed: int = 0
    """Seed of the policy ``random``."""


class RoutingConfig(Section):
    """What is decided from the demonstrations alone, before the student is sampled."""

    coverage: float | None = None
    """Least similarity of the best demonstration; below it the teacher serves; absent: none."""
    recall: float | None = None
    """From this similarity on, the action that all demonstrations show is the answer, and no model
    is called; absent: never."""
    recall_mutating: bool = False
    """Whether that holds for actions that may write (``cascade.effects``), too."""
    easy: float | None = None
    """From this similarity on, one sample is enough if it is what all demonstrations show; absent:
    never."""
    votes: int = Field(3, ge=2)
    """Least number of demonstrations for ``recall`` and ``easy``."""


class EpisodeConfig(Section):
    """What one episode may take of the teacher; beyond it the student serves the rest."""

    max_cost_usd: float | None = Field(None, ge=0)
    """Of both roles, as billed, as far as this process served it."""
    max_steps: int | None = Field(None, ge=0)
    """Steps in which the teacher may be asked, counted from the first."""
    max_deferrals: int | None = Field(None, ge=0)
    """Steps that the teacher serves."""
    sticky_deferrals: int | None = Field(None, ge=1)
    """Teacher steps among the last ``sticky_window`` after which the teacher keeps the episode."""
    sticky_window: int = Field(6, ge=1)
    """Steps that are looked at for it."""


class EvidenceConfig(Section):
    """What is left to chance so that savings and risk can be measured."""

    holdout: float = Field(0.0, ge=0, lt=1)
    """Share of episodes that the teacher plays alone."""
    audits: float = Field(0.0, ge=0, le=1)
    """Share of the student's steps about which the teacher is asked afterwards."""
    seed: int = 0
    """Another seed chooses others."""
    failures: float | None = Field(None, gt=0, lt=1)
    """Share of episodes of the cascade that may fail; above it a calibrated policy is tightened.
    Absent: outcomes are not watched. Audits always are."""
    alarm_delta: float = Field(0.05, gt=0, lt=1)
    """Allowed probability that a calibrated policy is ever tightened without cause."""


class StoreConfig(Section):
    """Where traces and demonstrations are kept."""

    url: str = "sqlite:///tutelage.sqlite"
    """SQLAlchemy URL."""
    spool: str | None = None
    """File for traces while the database is gone; absent: in the cache folder,
    beside what else is kept of this database."""


class AliasConfig(Section):
    """A model name that clients of the gateway may ask for."""

    mode: Literal["passthrough", "route", "cascade", "shadow"] = "cascade"
    """``passthrough``: the teacher alone; ``route``: decided before anything is sampled;
    ``cascade``: the student where its samples agree; ``shadow``: the teacher, the student aside."""
    upstreams: tuple[str, ...] = ()
    """Names in ``upstreams``, tried in this order; absent: ``teacher``."""
    policy: str | None = None
    """Absent: ``cascade.policy``."""
    teacher_only_tools: tuple[str, ...] = ()
    """Tools that only the teacher may call; shell patterns such as ``delete_*``."""


class LimitConfig(Section):
    """What a request to the gateway may be at most."""

    body_bytes: int = Field(8_000_000, ge=1024)
    """Larger bodies are refused before they are parsed."""
    header_bytes: int = Field(32_768, ge=1024)
    """All headers together."""
    depth: int = Field(64, ge=4)
    """Nesting of the JSON."""
    messages: int = Field(2_000, ge=1)
    """Messages of a conversation."""
    tools: int = Field(256, ge=1)
    """Tools offered in one request."""
    output_tokens: int = Field(131_072, ge=1)
    """What a client may ask for as ``max_tokens``."""
    in_flight: int = Field(1_000, ge=1)
    """Requests served at once in one worker; more are refused with 429."""
    connections: int = Field(4_000, ge=1)
    """Open connections of one worker; for one more the oldest that is silent is closed, and if none
    is, it is refused with 503."""
    read_s: float = Field(30.0, gt=0)
    """Until a client has sent its whole request."""
    write_s: float = Field(60.0, gt=0)
    """How long a client may leave a piece of a stream unread."""


class GatewayConfig(Section):
    """The gateway of ``tutelage serve``."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(8080, ge=0, le=65535)
    """0: any free port."""
    admin_port: int | None = Field(None, ge=0, le=65535)
    """Port of the admin API on the same address; absent: there is none."""
    workers: int = Field(1, ge=1, le=64)
    """Processes."""
    pepper_env: str = "TUTELAGE_PEPPER"
    """Environment variable with the secret under which keys are stored."""
    hosts: tuple[str, ...] = ()
    """Names, without a port, under which clients of ``tutelage serve --open`` may call this machine
    beside ``localhost``, for example ``host.docker.internal``."""
    key_cache_s: float = Field(30.0, ge=0)
    """How long a key that was looked up is remembered; a revoked one works so long."""
    ping_s: float = Field(10.0, gt=0)
    """Silence after which a stream gets a ping."""
    student_deadline_s: float = Field(30.0, gt=0)
    """How long the student may take before the teacher gets the step."""
    conversations_days: float = Field(30.0, gt=0)
    """How long the hashes are kept by which conversations are recognised."""
    responses_days: float = Field(30.0, gt=0)
    """How long an answer of the Responses API is kept, counted from when it was given."""
    shutdown_s: float = Field(30.0, ge=0)
    """How long requests in flight may take to finish when the gateway stops."""
    trace: bool = True
    """Whether requests are traced; without traces nothing is learnt from them."""
    trace_process: bool = True
    """Whether a process of its own writes traces where all models are in mode ``passthrough``."""
    capture_content: bool = False
    """Whether spans carry prompts and answers."""
    otlp_endpoint: str | None = None
    """Where spans are sent, for example ``http://127.0.0.1:4318`` (extra ``otel``)."""
    log_requests: bool = True
    """Whether each request is one line in the log."""
    raw_model: bool = False
    """Whether answers name the model that served instead of the one asked for."""
    limits: LimitConfig = LimitConfig()

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if _HOST.fullmatch(host) is None:
                raise ValueError("give names of machines, without a port")
        return hosts


class Config(Section):
    """Everything a runtime is built from."""

    teacher: UpstreamConfig = UpstreamConfig()
    student: StudentConfig = StudentConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    prompt: PromptConfig = PromptConfig()
    cascade: CascadeConfig = CascadeConfig()
    chain: ChainConfig = ChainConfig()
    routing: RoutingConfig = RoutingConfig()
    episode: EpisodeConfig = EpisodeConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    store: StoreConfig = StoreConfig()
    upstreams: dict[str, UpstreamConfig] = {}
    """More endpoints of teachers, by name; ``teacher`` is the one above."""
    aliases: dict[str, AliasConfig] = {"*": AliasConfig()}
    """Models that clients may ask for, by name; ``*`` is any other name."""
    gateway: GatewayConfig = GatewayConfig()
    curation: CurationConfig = CurationConfig()
    releases: ReleaseConfig = ReleaseConfig()
    training: TrainingConfig = TrainingConfig()
    flywheel: FlywheelConfig = FlywheelConfig()
    tenant: str = Field("default", min_length=1, max_length=128)
    """Whose traces and demonstrations, where a call names nobody."""


def load_config(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Reads the configuration: defaults, then the file, then the environment, then ``overrides``.

    ``TUTELAGE_CASCADE__SAMPLES=5`` sets ``cascade.samples``.

    Args:
        path: The TOML file; absent: ``tutelage.toml`` here, if there is one.
        environment: Variables; absent: the process environment.
        overrides: Dotted keys, for example ``{"cascade.policy": "paper"}``.

    Raises:
        ConfigError: The file is missing or malformed, or a key is unknown or out of range.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origin = DEFAULT_FILE
    origins: dict[tuple[str, ...], str] = {}
    found = path or (Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None)
    if found is not None:
        origin = str(found)
        values = _read_toml(found)
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            key = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
            _set(values, key, literal(text), name)
            origins[tuple(key)] = name
    for dotted, value in (overrides or {}).items():
        _set(values, dotted.split("."), value, dotted)
        origins[tuple(dotted.split("."))] = "setting"
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        place = tuple(str(part) for part in error.errors()[0]["loc"])
        set_by = [source for key, source in origins.items() if key == place[: len(key)]]
        raise ConfigError(f"{set_by[-1] if set_by else origin}: {_first_problem(error)}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: run `tutelage init` to write one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def _set(values: dict[str, Any], key: list[str], value: Any, origin: str) -> None:
    table = values
    for part in key[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin}: {part} is a value, not a table")
    table[key[-1]] = value


def literal(text: str) -> Any:
    """An environment value as TOML would read it; anything else is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(problem["loc"])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {key!r}; {hint}"
    return f"{key} = {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
