"""Probes: log-probabilities by which the weights behind a name are recognised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.runtime.errors import MissingExtra, TrainingError
from tutelage.runtime.models.quiet import quiet_transformers
from tutelage.runtime.release import Probe

CONTINUATION = 16
"""Tokens whose log-probability is compared."""
LEAST_GAP = 1.0
"""Least difference to the parent, in nats, from which weights can be told apart: servers round
otherwise, which moved the sum over a continuation by 0.1 nats where it was measured."""
SHARE = 0.5
"""How near to the release, as a share of its distance from the parent, an answer must be."""

Score = Callable[[Sequence[int], Sequence[int]], float]
"""Log-probability of a continuation after a prompt, both as token ids, in nats."""


def best_probe(
    prompts: Sequence[Sequence[int]],
    continue_greedily: Callable[[Sequence[int]], Sequence[int]],
    score: Score,
    parent_score: Score,
    learnt: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
) -> Probe:
    """The probe in which the release differs most from its parent.

    Args:
        prompts: Token ids of prompts.
        continue_greedily: The release's own greedy continuation.
        score: By the release.
        parent_score: By the weights that it was trained from.
        learnt: Prompts with continuations that it has learnt, tried besides.

    Raises:
        TrainingError: No prompt tells them apart.
    """
    found: Probe | None = None
    tried = [*learnt, *((prompt, continue_greedily(prompt)) for prompt in prompts)]
    for prompt, continuation in tried:
        if not prompt or not continuation:
            continue
        own, theirs = score(prompt, continuation), parent_score(prompt, continuation)
        if found is None or abs(own - theirs) > _gap(found):
            found = Probe(
                prompt=tuple(prompt),
                continuation=tuple(continuation),
                logprob=own,
                parent_logprob=theirs,
            )
    if found is None or _gap(found) < LEAST_GAP:
        gap = 0.0 if found is None else _gap(found)
        raise TrainingError(
            f"the new weights answer like those they came from (they differ by {gap:.4f} nats): "
            "train longer, or with a larger learning rate"
        )
    return found


def recognised(probe: Probe, logprob: float) -> bool:
    """Whether an answer comes from the release, and not from its parent."""
    return abs(logprob - probe.logprob) <= SHARE * _gap(probe)


def record_probe(
    checkpoint: Path,
    parent: Path,
    prompts: Sequence[Sequence[int]],
    learnt: Sequence[tuple[Sequence[int], Sequence[int]]] = (),
    *,
    threads: int | None = None,
) -> Probe:
    """The best probe for two checkpoints on disk, computed in this process.

    Args:
        checkpoint: Merged weights of the release.
        parent: The weights that it was trained from.
        prompts: Token ids of prompts.
        learnt: Prompts with continuations that it has learnt.
        threads: Threads of torch in the meantime; absent: as they are.

    Raises:
        MissingExtra: torch or transformers is not installed.
        TrainingError: No prompt tells them apart.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtra(error.name or "torch", "train") from error
    from tutelage.training.recipes.optimizer import training_state

    def loaded(folder: Path) -> Any:
        with quiet_transformers():
            # In the type that servers compute in, as rounding moves log-probabilities.
            return AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.bfloat16, local_files_only=True
            ).eval()

    def scorer(model: Any) -> Score:
        def score(prompt: Sequence[int], continuation: Sequence[int]) -> float:
            ids = torch.tensor([[*prompt, *continuation]])
            with torch.inference_mode():
                logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
            chosen = torch.tensor(list(continuation))
            return float(logits.log_softmax(-1)[range(len(chosen)), chosen].sum())

        return score

    def continue_greedily(prompt: Sequence[int]) -> Sequence[int]:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=CONTINUATION,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=0,
            )
        return [int(token) for token in made[0, ids.shape[1] :]]

    with training_state(threads):
        model = loaded(checkpoint)
        own, theirs = scorer(model), scorer(loaded(parent))
        return best_probe(prompts, continue_greedily, own, theirs, learnt)


def _gap(probe: Probe) -> float:
    return abs(probe.logprob - probe.parent_logprob)
