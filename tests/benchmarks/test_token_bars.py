from __future__ import annotations

import numpy as np
from tests.benchmarks.tiny_world import result

from tutelage.benchmarks.summary import ArmSummary, Bank, summarise
from tutelage.benchmarks.token_bars import token_bars, token_parts
from tutelage.runtime.types import Usage

USAGE = {
    "student": Usage(input_tokens=60, cache_read_tokens=40, output_tokens=8),
    "teacher": Usage(input_tokens=10, output_tokens=2),
}


def summary(arm: str, usage: dict[str, Usage], parts: dict[str, int] | None = None) -> ArmSummary:
    results = [
        result(arm, task=task, success=True, usage=usage, prompt_parts=parts or {})
        for task in range(2)
    ]
    return summarise(arm, f"<{arm}>", results, [], Bank(0), np.random.default_rng(0))


def test_prompts_are_one_part_where_their_parts_are_unknown() -> None:
    parts = {part.name: part.tokens for part in token_parts(summary("a", usage=USAGE))}

    assert parts == {
        "student: prompt": 100.0,
        "student: answers": 8.0,
        "teacher: prompt": 10.0,
        "teacher: answers": 2.0,
    }


def test_prompts_are_split_as_they_were_assembled_and_billed() -> None:
    assembled = {"system": 10, "demonstrations": 30, "history": 10}

    parts = {part.name: part.tokens for part in token_parts(summary("a", USAGE, assembled))}

    # 50 were counted, and 100 billed.
    assert parts["student: instructions"] == 20.0
    assert parts["student: demonstrations"] == 60.0
    assert parts["student: task and history"] == 20.0
    assert "student: prompt" not in parts


def test_bars_share_a_scale_and_a_legend() -> None:
    small = {"student": Usage(input_tokens=12)}

    bars = token_bars(
        [summary("a", usage=USAGE), summary("b", usage=small), summary("c", usage={})]
    )

    assert "&lt;a&gt;</b>" in bars
    assert 'style="width:82.0%"' in bars
    assert 'style="width:8.2%"' in bars
    assert bars.count("<li>") == 4
    assert bars.endswith('<span style="width:0.0%"></span>0</div></div>')
