from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.made_releases import PROBE

from tutelage.runtime.errors import TrainingError
from tutelage.training.probe import best_probe, recognised, record_probe


def flat(each: float) -> Callable[[Sequence[int], Sequence[int]], float]:
    return lambda prompt, continuation: each * len(continuation)


def test_the_prompt_is_chosen_in_which_the_weights_differ_most() -> None:
    def theirs(prompt: Sequence[int], continuation: Sequence[int]) -> float:
        return -float(prompt[0])

    probe = best_probe([[1], [9], [4]], lambda prompt: [5, 6], flat(-0.5), theirs)
    assert probe.prompt == (9,)
    assert (probe.continuation, probe.logprob, probe.parent_logprob) == ((5, 6), -1.0, -9.0)


def test_what_was_learnt_is_tried_besides() -> None:
    probe = best_probe(
        [[1]], lambda prompt: [5], flat(-0.1), flat(-2.0), [([7], [8, 8]), ([7], []), ([], [8])]
    )
    assert (probe.prompt, probe.continuation) == ((7,), (8, 8))


@pytest.mark.parametrize("continuation", [[5], []])
def test_weights_that_answer_alike_are_refused(continuation: list[int]) -> None:
    with pytest.raises(TrainingError, match=r"differ by 0\.0"):
        best_probe([[1]], lambda prompt: continuation, flat(-1.0), flat(-1.0))


@pytest.mark.parametrize(
    ("logprob", "is_release"),
    [(-1.0, True), (-1.5, True), (-0.2, True), (-9.0, False), (-8.0, False), (-30.0, False)],
)
def test_an_answer_is_recognised_by_its_log_probability(logprob: float, is_release: bool) -> None:
    assert recognised(PROBE, logprob) is is_release


def test_a_probe_of_two_checkpoints_tells_them_apart(tiny_llama: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    changed = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in changed.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    changed.save_pretrained(tmp_path)

    probe = record_probe(tmp_path, tiny_llama, [[0, 5, 6, 7], [0, 30, 31]], threads=1)

    assert 0 < len(probe.continuation) <= 16
    assert recognised(probe, probe.logprob)
    assert not recognised(probe, probe.parent_logprob)
    with pytest.raises(TrainingError, match="answer like those"):
        record_probe(tiny_llama, tiny_llama, [[0, 5, 6, 7]], threads=1)
