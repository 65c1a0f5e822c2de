from __future__ import annotations

from typing import Any

from tests.benchmarks.tiny_world import result

from tutelage.benchmarks.failed_episodes import (
    example_json,
    example_list,
    failed_episode,
    failures,
    votes,
)
from tutelage.runtime.types import Decision, Reason, Sample, Trace


def traced(index: int, *actions: str | None, **changes: Any) -> Trace:
    made: dict[str, Any] = {
        "id": f"t{index}",
        "tenant": "default",
        "episode_id": "e",
        "step_index": index,
        "created_at_s": 1.0,
        "model": "agent",
        "goal": "g",
        "observation": f"seen {index}",
        "answer": "<b>look</b>",
        "decision": Decision(served="student", reason=Reason.AGREED, score=0.5),
        "samples": tuple(Sample(text=one or "hm", action=one) for one in actions),
        **changes,
    }
    return Trace(**made)


def test_the_first_failures_of_every_arm_are_taken() -> None:
    results = [result(arm, task=task, success=task == 0) for arm in "ba" for task in range(4)]

    found = failures(results, 2)

    assert [one.key[:2] for one in found] == [
        (arm, results[task].task_id) for arm in "ab" for task in (1, 2)
    ]


def test_an_example_tells_prompt_samples_votes_and_decision() -> None:
    prompt = ({"role": "system", "content": "s"}, {"role": "user", "content": "x" * 700})
    steps = [traced(3, "go", "go", None, prompt=prompt), traced(2), traced(1), traced(0)]

    example = failed_episode(result("a", success=False), steps)

    assert example is not None
    assert [one.step_index for one in example.steps] == [1, 2, 3]
    page = example_list([example])
    assert "2 × go\n1 × unusable" in page
    assert "student (agreed, score 0.50)" in page
    assert "&lt;b&gt;look&lt;/b&gt;" in page
    assert "<dt>seen</dt><dd><pre>" + "x" * 600 + " \u2026</pre>" in page
    assert "seen 1" in page
    # The whole prompt is there, too.
    assert "prompt: 2 messages, 0 demonstrations" in page
    assert "<small>user</small><pre>" + "x" * 700 + "</pre>" in page
    told = example_json(example)["steps"][-1]
    assert told["votes"] == {"go": 2, "unusable": 1}
    assert told["prompt"] == list(prompt)


def test_a_prompt_of_parts_falls_back_on_what_was_seen() -> None:
    parts = ({"role": "user", "content": [{"type": "text", "text": "t"}]},)
    decision = Decision(served="teacher", reason=Reason.ALWAYS)
    step = traced(0, prompt=parts, decision=decision)

    example = failed_episode(result("a", success=False), [step])

    assert example is not None
    page = example_list([example])
    assert "seen 0" in page
    assert "teacher (always)" in page
    assert votes(step) == {}


def test_an_episode_that_the_store_lacks_is_no_example() -> None:
    assert failed_episode(result("a", success=False), []) is None
