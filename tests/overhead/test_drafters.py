from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from tests.overhead.drafting_server import Servers

from tutelage.overhead.drafted_calls import DraftedCalls
from tutelage.overhead.drafters import (
    AGAIN,
    DRAFTERS,
    Drafter,
    DrafterScore,
    advise,
    changed_samples,
    compare_drafters,
    document,
    reason_of,
    rows,
    speed_up,
    spoils,
)
from tutelage.runtime.errors import BenchmarkError, ModelError
from tutelage.runtime.models.draft_counters import DraftCounters
from tutelage.runtime.types import ChatRequest, Message

STEPS = [
    ChatRequest(model="student", messages=[Message(role="user", content=f"step {n}")], max_tokens=8)
    for n in range(3)
]


def calls(*seconds: float, texts: tuple[str, ...] = ()) -> DraftedCalls:
    counted = DraftCounters(0, 0, 0, 8 * len(seconds), 8 * len(seconds))
    return DraftedCalls(counted, seconds, texts or ("look",) * len(seconds))


def score(name: str, *seconds: float) -> DrafterScore:
    drafter = next((one for one in DRAFTERS if one.name == name), Drafter(name, None))
    return DrafterScore(drafter, calls(*seconds), calls(*seconds))


async def test_every_drafter_gets_the_same_steps_on_a_server_of_its_own() -> None:
    servers = Servers()
    stages: list[tuple[str, int]] = []

    scores = await compare_drafters(
        servers,
        STEPS,
        samples=5,
        temperature=0.7,
        told=lambda stage, done: stages.append((stage, done)),
    )

    assert [one.drafter.name for one in scores] == ["plain", "n-gram", "suffix", AGAIN]
    plain, guessing, suffix, again = scores
    assert plain.greedy is not None
    assert guessing.greedy is not None
    assert plain.greedy.counters.tokens_a_forward == 1.0
    assert plain.greedy.counters.acceptance is None
    assert guessing.greedy.counters.tokens_a_forward == 2.0
    assert guessing.greedy.counters.acceptance == 0.5
    assert suffix.refused == "Arctic Inference is required for suffix."
    assert suffix.steps is None
    assert again.steps is not None
    asked = [
        [(body.get("n"), body.get("temperature")) for body in one.bodies] for one in servers.made
    ]
    # The first call of a server is not counted.
    assert asked[0][1:] == [(5, 0.7)] * 3 + [(None, 0.0)] * 3
    assert asked[1] == asked[0] == asked[3]
    assert asked[2] == []
    assert stages[0] == ("plain: starting vLLM", 0)
    assert stages[-1] == (AGAIN, 24)


async def test_without_steps_nothing_is_started() -> None:
    servers = Servers()

    with pytest.raises(BenchmarkError, match="no step"):
        await compare_drafters(servers, [], samples=1, temperature=0.0)

    assert servers.made == []


async def test_a_plain_server_that_does_not_start_ends_the_measurement() -> None:
    servers = Servers()

    def broken(speculation: Any) -> Any:
        server = servers(speculation)
        server.refusal = "vLLM is not installed in X: run `make student`"
        return server

    with pytest.raises(ModelError, match="make student"):
        await compare_drafters(broken, STEPS, samples=1, temperature=0.0)


def test_a_drafter_that_is_clearly_faster_is_advised_with_its_settings() -> None:
    scores = [score("plain", 2.0, 2.2, 1.9), score("n-gram", 1.0, 1.1, 1.0)]
    scores.append(score(AGAIN, 2.0, 2.1, 2.0))

    advice = advise(scores)

    assert advice.drafter.name == "n-gram"
    assert "--set student.speculation.method=ngram" in advice.text
    assert "plain against itself differs by 0 %" in advice.text


def test_a_gain_below_the_drift_of_the_machine_is_no_gain() -> None:
    scores = [score("plain", 2.0, 2.0, 2.0), score("n-gram", 1.8, 1.8, 1.8)]
    scores.append(score(AGAIN, 1.6, 1.6, 1.6))

    advice = advise(scores)

    assert advice.drafter.name == "plain"
    assert "n-gram is 1.11x" in advice.text
    assert "differs by 25 %" in advice.text
    assert "leave student.speculation unset" in advice.text


def drawn(name: str, seconds: float, samples: Sequence[tuple[str, ...]]) -> DrafterScore:
    drafter = next((one for one in DRAFTERS if one.name == name), Drafter(name, None))
    times = (seconds,) * len(samples)
    steps = dataclasses.replace(calls(*times), samples=tuple(samples))
    return DrafterScore(drafter, steps, calls(*times))


def test_a_faster_drafter_that_draws_other_samples_is_not_advised() -> None:
    as_usual = [("look", "look", "go"), ("look", "go", "look"), ("look",) * 3] * 5
    noise = [("look", "lobby", "lost"), ("loom", "go to", "go"), ("a", "b", "c")] * 5
    plain, again = drawn("plain", 2.0, as_usual), drawn(AGAIN, 2.0, as_usual)

    spoilt = advise([plain, drawn("n-gram", 1.0, noise), again])
    sound = advise([plain, drawn("n-gram", 1.0, as_usual[::-1]), again])

    assert spoilt.drafter.name == "plain"
    assert "n-gram draws other samples than plain" in spoilt.text
    assert sound.drafter.name == "n-gram"
    assert "other samples" not in sound.text


def test_how_far_samples_moved_is_told_with_its_interval() -> None:
    plain = drawn("plain", 1.0, [("look", "look")] * 20)
    half = drawn("n-gram", 1.0, [("look", "look"), ("a", "b")] * 10)

    found = changed_samples(plain, half)

    assert found is not None
    assert found[0] == -0.5
    assert -1 < found[1] < found[0] < found[2] < 0
    assert spoils(plain, half)
    assert not spoils(plain, plain)
    assert changed_samples(plain, DrafterScore(DRAFTERS[2], refused="not installed")) is None


def test_a_gain_whose_interval_holds_no_gain_is_not_advised() -> None:
    scores = [score("plain", 1.0, 1.0, 5.0), score("n-gram", 1.5, 1.5, 1.5)]

    assert advise(scores).drafter.name == "plain"
    assert speed_up(calls(1.0, 1.0, 5.0), calls(1.5, 1.5, 1.5)).low < 1


def test_the_ratio_of_equal_steps_is_one() -> None:
    ratio = speed_up(calls(1.0, 3.0), calls(1.0, 3.0))

    assert (ratio.value, ratio.low, ratio.high) == (1.0, 1.0, 1.0)
    assert ratio.text == "1.00x (1.00-1.00)"


def test_table_and_document_say_what_was_measured_and_what_was_not() -> None:
    refused = DrafterScore(DRAFTERS[2], refused="not installed")
    scores = [score("plain", 2.0, 2.0), score("n-gram", 1.0, 1.0), refused]

    table, told = rows(scores), document(scores)

    assert table[0] == ["plain", "- (0 of 0)", "1.00", "2000", "-", "-", "-", "-"]
    assert table[1][5:] == ["2.00x (2.00-2.00)", "1.00", "-"]
    assert table[2][:2] == ["suffix", "not run: not installed"]
    assert told["drafters"][1]["speed_up"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert told["drafters"][2]["refused"] == "not installed"
    assert told["advice"]["settings"][0] == "student.speculation.method=ngram"


def test_the_line_of_the_log_that_says_why_is_found() -> None:
    log = "ended with status 1; end of its log x:\nValueError: no suffix here\nTraceback"

    assert reason_of(log) == "no suffix here"
    assert reason_of("port 9 is in use") == "port 9 is in use"
