"""Ways of guessing ahead, one vLLM server after another over the same steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from tutelage.overhead.drafted_calls import WARM_UP, DraftedCalls, measured_calls
from tutelage.runtime.errors import BenchmarkError, ModelError
from tutelage.runtime.models.openai import OpenAIModel
from tutelage.runtime.models.speculation import NgramSpeculation, Speculation, SuffixSpeculation
from tutelage.runtime.models.vllm import VllmServer
from tutelage.runtime.types import ChatRequest

PLAIN, AGAIN = "plain", "plain, again"
RESAMPLES = 2000
COLUMNS = (
    "drafter",
    "accepted of drafted",
    "tokens a forward",
    "ms a step",
    "CPU ms a step",
    "over plain (95 %)",
    "same answers",
    "samples that are greedy",
)

MakeServer = Callable[[Speculation | None], VllmServer]
"""A server of the student that guesses so, not started."""
Told = Callable[[str, int], None]
"""Hears what is under way and how many calls are done."""


@dataclass(frozen=True, slots=True)
class Drafter:
    """A way of guessing ahead, and how it is set."""

    name: str
    speculation: Speculation | None
    settings: tuple[str, ...] = ()
    """What stands in the configuration, as ``--set`` takes it."""


DRAFTERS = (
    Drafter(PLAIN, None),
    Drafter(
        "n-gram",
        NgramSpeculation(),
        ("student.speculation.method=ngram", "student.speculation.tokens=4"),
    ),
    Drafter(
        "suffix",
        SuffixSpeculation(),
        ("student.speculation.method=suffix", "student.speculation.tokens=32"),
    ),
)


@dataclass(frozen=True, slots=True)
class DrafterScore:
    """One drafter over the steps."""

    drafter: Drafter
    steps: DraftedCalls | None = None
    """As the cascade asks: all samples of a step in one call."""
    greedy: DraftedCalls | None = None
    """One greedy answer a step, its prompt cached; what tells tokens a forward."""
    refused: str | None = None
    """Why the server does not run so."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of a plain step over that of another, above 1 where the other is faster."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """For a person."""
        return f"{self.value:.2f}x ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Advice:
    """What the figures say."""

    drafter: Drafter
    text: str


async def compare_drafters(
    make_server: MakeServer,
    requests: Sequence[ChatRequest],
    *,
    samples: int,
    temperature: float,
    drafters: Sequence[Drafter] = DRAFTERS,
    again: bool = True,
    told: Told = lambda *_: None,
) -> list[DrafterScore]:
    """Starts a server for each drafter and sends it the steps.

    Args:
        make_server: Makes them.
        requests: One a step, in the order in which they were asked.
        samples: Of a step.
        temperature: Of these samples.
        drafters: The plain one first.
        again: Whether the plain one is measured once more at the end: what differs then is the
            machine, not the drafter.
        told: Hears of each call.

    Raises:
        BenchmarkError: There is no step.
        ModelError: The plain server does not run, or one that runs does not answer.
    """
    if not requests:
        raise BenchmarkError("there is no step to measure with")
    wanted = [*drafters, Drafter(AGAIN, None)] if again else list(drafters)
    scores = []
    for number, drafter in enumerate(wanted):
        done = 2 * len(requests) * number
        scores.append(
            await _score(drafter, make_server, requests, samples, temperature, told, done)
        )
    return scores


async def _score(
    drafter: Drafter,
    make_server: MakeServer,
    requests: Sequence[ChatRequest],
    samples: int,
    temperature: float,
    told: Told,
    done: int,
) -> DrafterScore:
    told(f"{drafter.name}: starting vLLM", done)

    def counted() -> None:
        nonlocal done
        done += 1
        told(drafter.name, done)

    sampled = [one.model_copy(update={"temperature": temperature}) for one in requests]
    greedy = [one.model_copy(update={"temperature": 0.0}) for one in requests]
    server = make_server(drafter.speculation)
    try:
        await server.__aenter__()
    except ModelError as error:
        if drafter.speculation is None:
            raise
        return DrafterScore(drafter, refused=reason_of(str(error)))
    try:
        async with OpenAIModel(server.base_url, server.served_name) as model:
            await model.complete(WARM_UP)
            where = (model, server.base_url)
            first = await measured_calls(*where, sampled, n=samples, pid=server.pid, told=counted)
            second = await measured_calls(*where, greedy, pid=server.pid, told=counted)
    finally:
        await server.__aexit__(None, None, None)
    return DrafterScore(drafter, first, second)


def reason_of(failure: str) -> str:
    """The line of a server's log that says why it ended, else the first line of the failure."""
    lines = [line.strip() for line in failure.splitlines()]
    named = [line for line in lines[1:] if "Error: " in line]
    return named[0].rpartition("Error: ")[2] if named else lines[0]


def speed_up(plain: DraftedCalls, other: DraftedCalls, seed: int = 0) -> Ratio:
    """Time of the plain steps over that of the others, with a percentile bootstrap over steps.

    Args:
        plain: The plain server's.
        other: Another server's, over the same steps.
        seed: Of the resampling.
    """
    pairs = list(zip(plain.call_s, other.call_s, strict=True))
    random = Random(seed)
    drawn = sorted(_ratio(random.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    low, high = (drawn[round(share * (RESAMPLES - 1))] for share in (0.025, 0.975))
    return Ratio(_ratio(pairs), low, high)


def changed_samples(
    plain: DrafterScore, other: DrafterScore, seed: int = 0
) -> tuple[float, float, float] | None:
    """How much rarer or commoner the plain server's greedy answers are among the samples.

    Guessing ahead must leave what is drawn as it was. Where it does not, samples that would have
    agreed no longer do.

    Args:
        plain: The plain server's.
        other: Another server's, over the same steps.
        seed: Of the resampling.

    Returns:
        The difference of the shares with its percentile bootstrap interval over steps (99 %);
        ``None`` where a server was not measured or its samples are not known.
    """
    if other.steps is None or plain.greedy is None or not other.steps.samples:
        return None
    shares = _steps(plain).named_shares(plain.greedy.texts)
    moved = [
        after - before
        for before, after in zip(shares, other.steps.named_shares(plain.greedy.texts), strict=True)
    ]
    random = Random(seed)
    drawn = sorted(fmean(random.choices(moved, k=len(moved))) for _ in range(RESAMPLES))
    low, high = (drawn[round(share * (RESAMPLES - 1))] for share in (0.005, 0.995))
    return fmean(moved), low, high


def spoils(plain: DrafterScore, other: DrafterScore) -> bool:
    """Whether the samples are shown to be others than those of the plain server."""
    found = changed_samples(plain, other)
    return found is not None and (found[2] < 0 or found[1] > 0)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(one for one, _ in pairs) / sum(two for _, two in pairs)


def advise(scores: Sequence[DrafterScore]) -> Advice:
    """The fastest drafter whose gain is outside its interval and outside the machine's own drift.

    Args:
        scores: The plain one first; one named ``plain, again`` tells the drift.
    """
    plain = _steps(scores[0])
    drift = 1.0
    best: tuple[float, Drafter, Ratio] | None = None
    spoilt = [
        one.drafter.name for one in scores[1:] if one.drafter.speculation and spoils(scores[0], one)
    ]
    warning = "".join(
        f"; {name} draws other samples than plain: set it only where cascade.temperature is 0"
        for name in spoilt
    )
    for score in scores[1:]:
        if score.steps is None:
            continue
        ratio = speed_up(plain, score.steps)
        if score.drafter.name == AGAIN:
            drift = max(ratio.value, 1 / ratio.value)
        elif score.drafter.name not in spoilt and (best is None or ratio.value > best[0]):
            best = (ratio.value, score.drafter, ratio)
    noise = f"plain against itself differs by {100 * (drift - 1):.0f} %"
    if best is not None and best[2].low > drift:
        settings = " ".join(f"--set {one}" for one in best[1].settings)
        text = f"{best[1].name} is {best[2].text} faster a step ({noise}): {settings}{warning}"
        return Advice(best[1], text)
    found = f"; {best[1].name} is {best[2].text}" if best is not None else ""
    text = f"no drafter is shown to be faster{found} ({noise}): leave student.speculation unset"
    return Advice(scores[0].drafter, text + warning)


def rows(scores: Sequence[DrafterScore]) -> list[list[str]]:
    """The table, a row a drafter."""
    plain, plain_greedy = _steps(scores[0]), scores[0].greedy
    found = []
    for score in scores:
        if score.steps is None or score.greedy is None:
            found.append([score.drafter.name, f"not run: {score.refused}", *["-"] * 6])
            continue
        assert plain_greedy is not None
        counted = score.greedy.counters
        share = "-" if counted.acceptance is None else f"{counted.acceptance:.2f}"
        cpu_ms = score.steps.cpu_ms
        first = score is scores[0]
        found.append(
            [
                score.drafter.name,
                f"{share} ({counted.accepted_tokens} of {counted.drafted_tokens})",
                "-" if counted.tokens_a_forward is None else f"{counted.tokens_a_forward:.2f}",
                f"{score.steps.mean_ms:.0f}",
                "-" if cpu_ms is None else f"{cpu_ms:.0f}",
                "-" if first else speed_up(plain, score.steps).text,
                "-" if first else f"{score.greedy.same_share(plain_greedy):.2f}",
                _greedy_share(score.steps, plain_greedy.texts),
            ]
        )
    return found


def _greedy_share(steps: DraftedCalls, answers: Sequence[str]) -> str:
    return f"{fmean(steps.named_shares(answers)):.2f}" if steps.samples else "-"


def document(scores: Sequence[DrafterScore]) -> Mapping[str, Any]:
    """Scores and advice as JSON values."""
    plain, advice = _steps(scores[0]), advise(scores)
    return {
        "drafters": [
            {
                "name": one.drafter.name,
                "settings": one.drafter.settings,
                "refused": one.refused,
                "steps": one.steps.document() if one.steps else None,
                "greedy": one.greedy.document() if one.greedy else None,
                "spoils_samples": spoils(scores[0], one),
                "speed_up": _plainly(speed_up(plain, one.steps)) if one.steps else None,
            }
            for one in scores
        ],
        "advice": {
            "drafter": advice.drafter.name,
            "settings": advice.drafter.settings,
            "text": advice.text,
        },
    }


def _plainly(ratio: Ratio) -> dict[str, float]:
    return {"value": ratio.value, "low": ratio.low, "high": ratio.high}


def _steps(plain: DrafterScore) -> DraftedCalls:
    assert plain.steps is not None, "the plain server runs or its failure is raised"
    return plain.steps
