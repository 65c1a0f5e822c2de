"""What each layout of the student's prompt takes and gives, teacher-forced, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tutelage.assembly import Assembly, price
from tutelage.benchmarks.household.world import INSTRUCTIONS
from tutelage.benchmarks.statistics import wilson_interval
from tutelage.overhead.episodes import oracle_episodes, requests
from tutelage.overhead.metered import MeteredModel
from tutelage.overhead.report import Machine
from tutelage.overhead.setting import TENANT, Setting
from tutelage.policies import Choice
from tutelage.runtime.config import RetrievalConfig
from tutelage.runtime.errors import ConfigError, ContextTooLong, ModelError
from tutelage.runtime.models.scripted import ScriptedModel
from tutelage.runtime.pricing import Price, PriceTable
from tutelage.runtime.protocols import Model
from tutelage.runtime.store.memory import MemoryTraceStore
from tutelage.runtime.types import ChatRequest, Message, Usage

OWN, PROVIDER = "own server", "provider"
CACHES: Mapping[str, int] = {OWN: 0, PROVIDER: 1024}
"""Shortest prefix in tokens that is cached: vLLM keeps all full blocks, large providers less."""
BUDGETS = (150, 300)
"""Tokens of demonstrations a step."""

UNAIDED = "per-step, unaided first"

COLUMNS = (
    "layout",
    "exact match (95 %)",
    "prompt tokens a step",
    "cached, own server",
    "cached, provider",
    "USD per 1,000 steps, own server",
    "provider",
    "uncached",
    "cached, as told",
    "s a step",
)
CASCADE_COLUMNS = (
    "layout",
    "served by the student",
    "of these right (95 %)",
    "right in all",
    "unaided",
    "student's prompt tokens a step",
    "student, USD per 1,000 steps",
    "teacher",
    "together",
)


@dataclass(slots=True)
class LayoutScore:
    """One layout over the steps of episodes."""

    layout: str
    steps: int = 0
    served: int = 0
    """Steps that the student served; all of them where it is asked for one greedy answer."""
    right: int = 0
    """Of these, those with the teacher's action."""
    unaided: int = 0
    """Of these, those answered without demonstrations."""
    usage: dict[str, Usage] = field(default_factory=dict)
    """The student's tokens by cache."""
    teacher_usage: dict[str, Usage] = field(default_factory=dict)
    told: Usage = field(default_factory=Usage)
    """The student's tokens as its endpoint told them."""
    seconds: float = 0.0
    """Wall time of all steps."""

    def cached(self, cache: str) -> float:
        """Share of the prompt tokens that a cache served."""
        usage = self.usage[cache]
        return usage.cache_read_tokens / max(1, usage.prompt_tokens)

    @property
    def tokens(self) -> float:
        """The student's prompt tokens a step."""
        return next(iter(self.usage.values())).prompt_tokens / self.steps


def layouts(setting: Setting, budgets: Sequence[int] = BUDGETS) -> dict[str, Assembly]:
    """What is compared, by name.

    Args:
        setting: Parts and bank.
        budgets: Tokens a step for the demonstrations that are chosen under a budget.
    """
    made = {
        "no demonstrations": setting.with_retrieval(RetrievalConfig(enabled=False)),
        "per-step": setting.with_layout("per-step"),
        "per-step, 1 demonstration": setting.with_retrieval(RetrievalConfig(k=1)),
        "pinned": setting.with_layout("pinned"),
        "pinned + 1 of the step": setting.with_layout("pinned", delta_k=1),
        "pinned-delta, trajectory": setting.with_layout("pinned-delta"),
        "pinned-delta, first step": setting.with_retrieval(
            RetrievalConfig(pinned_k=0), "pinned-delta"
        ),
    }
    for tokens in budgets:
        chosen = RetrievalConfig(budget_tokens=tokens)
        made[f"budget of {tokens} tokens"] = setting.with_retrieval(chosen)
    return made


def unaided_layouts(setting: Setting, budgets: Sequence[int] = BUDGETS) -> dict[str, Assembly]:
    """The layouts of a cascade, and those in which the student is first asked unaided."""
    asked = RetrievalConfig(unaided_first=True)
    return {**layouts(setting, budgets), UNAIDED: setting.with_retrieval(asked)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A step, and what the teacher does there."""

    episode: int
    task_id: str | None
    request: ChatRequest
    action: str


def steps_of(count: int, split: str = "test") -> Iterator[Asked]:
    """The first steps of the oracle's episodes, whole episodes but for the last."""
    left = count
    for place, episode in enumerate(oracle_episodes(f"{split}:{count}", TENANT)):
        asked = requests(episode, INSTRUCTIONS)
        for request, turn in zip(asked, episode.turns, strict=True):
            if not left:
                return
            left -= 1
            yield Asked(place, episode.task_id, request, turn.action)


async def score_layout(
    name: str,
    assembly: Assembly,
    student: Model,
    steps: Sequence[Asked],
    *,
    policy: str = "always-student",
    clock: Callable[[], float] = time.perf_counter,
) -> LayoutScore:
    """Asks the student at every step, the world going on as the teacher has it.

    Args:
        name: Of the layout.
        assembly: With the layout.
        student: Who is asked.
        steps: Episode by episode.
        policy: ``always-student`` for one greedy answer, ``paper`` for a cascade.
        clock: Seconds.

    Raises:
        ModelError: The student failed.
    """
    canonicalizer, count = assembly.policies.canonicalizer, assembly.count_tokens
    asked = MeteredModel(student, count, CACHES)
    teacher = MeteredModel(ScriptedModel([one.action for one in steps]), count, CACHES)
    score = LayoutScore(name)
    runtime = assembly.runtime(
        teacher=teacher,
        student=asked,
        choice=Choice(policy=policy, guards=(), bare=True),
        traces=MemoryTraceStore(),
    )

    def canonical(text: str) -> object:
        return canonicalizer.action(Message(role="assistant", content=text))

    episode, place = runtime.episode(tenant=TENANT), -1
    for one in steps:
        if one.episode != place:
            episode = runtime.episode(tenant=TENANT, task_id=one.task_id)
            place = one.episode
        started_s = clock()
        answer = await runtime.complete(one.request, episode=episode)
        score.seconds += clock() - started_s
        trace = answer.trace
        if trace.error is not None and not trace.error.startswith(ContextTooLong.__name__):
            raise ModelError(f"layout {name}, task {one.task_id}: {trace.error}")
        score.steps += 1
        if trace.decision.served == "student":
            score.served += 1
            score.right += canonical(answer.text) == canonical(one.action)
            score.unaided += not trace.demonstrations
    score.usage, score.told = asked.usage, asked.told
    score.teacher_usage = teacher.usage
    return score


@dataclass(frozen=True, slots=True)
class LayoutReport:
    """All layouts of one run."""

    student: str
    """Who was asked."""
    priced_as: str
    price: Price
    """The student's."""
    teacher_price: Price
    greedy: tuple[LayoutScore, ...]
    cascades: tuple[LayoutScore, ...]

    @property
    def title(self) -> str:
        """What the table is about."""
        steps = self.greedy[0].steps if self.greedy else 0
        return f"Layouts of the prompt: {self.student}, {steps} household steps, teacher-forced"

    def rows(self) -> list[list[str]]:
        """The table of single greedy answers; its columns are ``COLUMNS``."""
        return [
            [
                score.layout,
                _share(score.right, score.steps),
                f"{score.tokens:,.0f}",
                *(f"{score.cached(cache):.1%}" for cache in CACHES),
                *(_usd(self.price.cost_usd(score.usage[cache]), score.steps) for cache in CACHES),
                _usd(self.price.uncached_cost_usd(score.usage[OWN]), score.steps),
                f"{score.told.cache_read_tokens / max(1, score.told.prompt_tokens):.1%}",
                f"{score.seconds / score.steps:.3f}",
            ]
            for score in self.greedy
        ]

    def cascade_rows(self) -> list[list[str]]:
        """The table of cascades; its columns are ``CASCADE_COLUMNS``."""
        found = []
        for score in self.cascades:
            own = self.price.cost_usd(score.usage[OWN])
            others = self.teacher_price.cost_usd(score.teacher_usage[PROVIDER])
            found.append(
                [
                    score.layout,
                    f"{score.served / score.steps:.2f}",
                    _share(score.right, score.served),
                    _share(score.steps - score.served + score.right, score.steps),
                    f"{score.unaided / score.steps:.2f}",
                    f"{score.tokens:,.0f}",
                    *(_usd(cost, score.steps) for cost in (own, others, own + others)),
                ]
            )
        return found

    def document(self, machine: Machine) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "machine": asdict(machine),
            "student": self.student,
            "priced_as": self.priced_as,
            "greedy": [_plain(score) for score in self.greedy],
            "cascades": [_plain(score) for score in self.cascades],
        }

    def markdown(self, command: str, machine: Machine) -> str:
        """The report as a block of Markdown."""
        lines = [
            f"`{command}` on {machine.processor}, {machine.cores} cores, load {machine.load:.1f} at"
            f" the start. {self.title}; the student is priced as {self.priced_as}.",
            "",
            *_table(COLUMNS, self.rows()),
        ]
        if self.cascades:
            lines += ["", *_table(CASCADE_COLUMNS, self.cascade_rows())]
        return "\n".join([*lines, ""])


async def measure(
    setting: Setting,
    student: Model,
    named: str,
    *,
    steps: int,
    budgets: Sequence[int] = BUDGETS,
    only: Sequence[str] = (),
    priced_as: str = "gpt-4.1-mini",
    cascade: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> LayoutReport:
    """All layouts over the same recorded steps, one after the other.

    Args:
        setting: Parts and bank.
        student: Who is asked.
        named: What the report calls it.
        steps: How many steps.
        budgets: Tokens a step for the demonstrations that are chosen under a budget.
        only: Names of layouts; empty: all.
        priced_as: Row of the price table for the student.
        cascade: Whether the layouts are also measured in a cascade of three samples.
        progress: Told what comes next.

    Raises:
        ConfigError: A layout is unknown.
        ModelError: The student failed.
        PriceUnknown: The price table has no such row.
    """
    priced = PriceTable.shipped().price(priced_as)
    material = list(steps_of(steps))
    greedy, cascades = [], []
    for name, assembly in _picked(layouts(setting, budgets), only).items():
        progress(f"{name}, {len(material)} steps")
        greedy.append(await score_layout(name, assembly, student, material))
    if cascade:
        for name, assembly in _picked(unaided_layouts(setting, budgets), only).items():
            progress(f"cascade: {name}, {len(material)} steps")
            score = await score_layout(name, assembly, student, material, policy="paper")
            cascades.append(score)
    config = setting.assembly.config
    return LayoutReport(
        named,
        priced_as,
        priced,
        price(config.teacher, "teacher"),
        tuple(greedy),
        tuple(cascades),
    )


def _picked(known: Mapping[str, Assembly], only: Sequence[str]) -> dict[str, Assembly]:
    unknown = [name for name in only if name not in known and name != UNAIDED]
    if unknown:
        raise ConfigError(f"layout {unknown[0]!r} is unknown; known: {', '.join(known)}")
    return {name: one for name, one in known.items() if not only or name in only}


def _plain(score: LayoutScore) -> dict[str, Any]:
    told = asdict(score)
    for name in ("usage", "teacher_usage"):
        told[name] = {cache: usage.model_dump() for cache, usage in getattr(score, name).items()}
    return {**told, "told": score.told.model_dump()}


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, marks, *rows)]


def _share(right: int, steps: int) -> str:
    if not steps:
        return "-"
    interval = wilson_interval(right, steps)
    return f"{right / steps:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def _usd(cost_usd: float, steps: int) -> str:
    return f"{1000 * cost_usd / steps:.4f}"
