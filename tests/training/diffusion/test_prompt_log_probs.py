"""``/v1/completions`` of a diffusion student's server, as replicas ask it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.training.diffusion.served_student import NAME, serving
from tests.training.diffusion.toys import toy_student

from tutelage.runtime.release import Probe
from tutelage.training.diffusion.probing import masked_log_probs
from tutelage.training.replica import Replica


async def test_a_replica_reads_the_probe_of_a_diffusion_student() -> None:
    student = toy_student(slots=8)
    probe = Probe(prompt=(3, 4, 5, 6), continuation=(7, 8, 9), logprob=0.0, parent_logprob=0.0)

    async with serving(student) as served, Replica(served.base_url) as replica:
        told = await replica.logprob(NAME, probe)

    expected = masked_log_probs(student, [*probe.prompt, *probe.continuation])[4:]
    assert told == pytest.approx(sum(one for one in expected if one is not None))
    assert told < 0


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "other", "prompt": [3, 4], "prompt_logprobs": 1}, 404, "not served here"),
        ({"model": NAME, "prompt": "go", "prompt_logprobs": 1}, 400, "two or more token ids"),
        ({"model": NAME, "prompt": [3, 4]}, 400, "/v1/chat/completions"),
        ({"model": NAME, "prompt": [3, 999], "prompt_logprobs": 1}, 400, "token ids from 0 to"),
        ({"model": NAME, "prompt": [3, True], "prompt_logprobs": 1}, 400, "token ids from 0 to"),
        ([], 404, "not served here"),
    ],
)
async def test_what_is_no_probe_is_refused(body: Any, status: int, words: str) -> None:
    async with (
        serving(toy_student()) as served,
        served.client.post(f"{served.base_url}/completions", json=body) as answer,
    ):
        told = await answer.json()

    assert answer.status == status
    assert words in told["error"]["message"]
