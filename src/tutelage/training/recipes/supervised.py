"""Supervised fine-tuning: the student learns the gated actions word for word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.training.data.example import TrainingExample
from tutelage.training.recipes.interrupts import deferred_interrupts
from tutelage.training.recipes.memory import memory_advice
from tutelage.training.recipes.optimizer import (
    adamw,
    autocast,
    clipped_step,
    seeded,
    training_state,
)
from tutelage.training.recipes.packing import Batch, collate, step_totals
from tutelage.training.recipes.processes import Processes
from tutelage.training.recipes.recipe import TrainedStudent, Watch
from tutelage.training.recipes.run import Run, fingerprint
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_student, logits_at, resolve_device, trainable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Supervised:
    """Cross-entropy of the supervised turns, each token weighing as its example does.

    ``(1 / sum_m w_m) sum_m -w_m log q(y_m)`` over all supervised tokens m of a step.
    """

    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
    ) -> TrainedStudent:
        """See `tutelage.training.recipes.recipe.Recipe`."""
        settings = self.settings
        processes = Processes(resolve_device(settings.device))
        run = Run(
            out,
            recipe="supervised",
            settings=settings,
            fingerprint=fingerprint("supervised", settings.learning(), examples, checkpoint),
            processes=processes,
            watch=watch,
        )
        with run.locked(), training_state(settings.threads):
            if (done := run.result()) is not None:
                return done
            tokenizer = load_tokenizer(checkpoint)
            chats = tokenizer.encode_all(examples, settings.max_tokens)
            plan = settings.packing.plan(
                [len(chat.tokens) for chat in chats], settings.epochs, settings.steps
            )
            tokens = step_totals(plan, [len(chat.tokens) for chat in chats])
            supervised = step_totals(plan, [chat.supervised_tokens for chat in chats])
            seeded(settings.seed, 0, 0)
            model = load_student(checkpoint, settings, processes.device)
            parameters = list(trainable(model).values())
            optimizer = adamw(parameters, settings)
            schedule = settings.schedule(len(plan))
            made = run.resume(model, optimizer, tokens)
            with deferred_interrupts() as interrupted:
                for step in range(made, len(plan)):
                    seeded(settings.seed, step + 1, processes.rank)
                    batches = [collate(rows, chats) for rows in plan[step]]
                    total = sum(float(batch.weights.sum()) for batch in batches)
                    loss = 0.0
                    for batch in processes.share(batches):
                        with (
                            memory_advice(step, batch, settings),
                            autocast(processes.device, settings.precision),
                        ):
                            here = batch.to(processes.device)
                            share = weighted_cross_entropy(logits_at(model, here), here) / total
                            share.backward()
                        loss += float(share.detach())
                    rate = schedule.rate(step)
                    processes.sum_gradients(parameters)
                    clipped_step(optimizer, parameters, rate, settings.clip)
                    run.stepped(processes.sum_number(loss), tokens[step], rate)
                    if processes.any_says(interrupted.is_set()):
                        run.save()
                        raise KeyboardInterrupt
            return run.finish(model, tokenizer.tokenizer, sum(supervised))


def weighted_cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """``sum_m -w_m log q(y_m)``, not yet divided by the weights of the whole step.

    Args:
        logits: (n, vocab).
        batch: Of n supervised tokens.

    Returns:
        Scalar, nats.
    """
    from tutelage.training.objectives.tokens import target_log_probs

    return -(batch.weights * target_log_probs(logits[None], batch.targets[None])[0]).sum()
