"""Preference: the teacher's action above the student's at the states where it was overruled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tutelage.runtime.errors import NoExamples, TrainingError
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
from tutelage.training.recipes.reference import Reference
from tutelage.training.recipes.run import Run, fingerprint, weights_digest
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_student, logits_at, resolve_device, trainable

if TYPE_CHECKING:
    from torch import Tensor

    from tutelage.training.objectives.given import Given, Scored

PreferenceObjective = Literal["dpo", "kto-pair", "redi"]


@dataclass(frozen=True, slots=True)
class Preference:
    """Learns from pairs of answers to one state; run it on a student that was fine-tuned before.

    Each example is a single step: its last message alone is supervised, the answer that the
    teacher gave. Examples without a rejected answer are left out. Rates are far below those of
    fine-tuning, because these losses know no end.
    """

    rejected: Mapping[str, str]
    """By the example's id: what the student would have answered there."""
    objective: PreferenceObjective = "dpo"
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the objective, such as ``beta`` or ``alpha``."""
    teacher: Path | None = None
    """Reference of ``dpo`` and ``kto-pair``; ``None``: the student as it was before training."""
    settings: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(learning_rate=5e-5, epochs=1, warm_up=0.1)
    )

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
    ) -> TrainedStudent:
        """See `tutelage.training.recipes.recipe.Recipe`."""
        settings = self.settings
        pairs = [
            (example, _rejected(example, self.rejected[example.id]))
            for example in examples
            if example.id in self.rejected and example.weight > 0
        ]
        if not pairs:
            raise NoExamples(
                f"none of {len(examples)} examples has a rejected answer: give those of steps at "
                "which the teacher overruled the student"
            )
        if settings.batching != "sorted":
            raise TrainingError("batching must be 'sorted' here: one answer a row")
        processes = Processes(resolve_device(settings.device))
        run = Run(
            out,
            recipe="preference",
            settings=settings,
            fingerprint=fingerprint(
                "preference",
                settings.learning(),
                [example for pair in pairs for example in pair],
                checkpoint,
                objective=self.objective,
                options=dict(self.options),
                teacher=None if self.teacher is None else weights_digest(self.teacher),
            ),
            processes=processes,
            watch=watch,
        )
        with run.locked(), training_state(settings.threads):
            if (done := run.result()) is not None:
                return done
            tokenizer = load_tokenizer(checkpoint)
            right, wrong = tokenizer.encode_pairs(pairs, settings.max_tokens)
            # Both answers go through the model, so a batch of pairs is twice as large.
            widths = [
                len(good.tokens) + len(bad.tokens) for good, bad in zip(right, wrong, strict=True)
            ]
            plan = settings.packing.plan(widths, settings.epochs, settings.steps)
            tokens = step_totals(plan, widths)
            counts = step_totals(plan, [1] * len(widths))
            from tutelage.training.objectives.registry import objective as make

            objective = make(self.objective, self.options)
            seeded(settings.seed, 0, 0)
            model = load_student(checkpoint, settings, processes.device)
            needs_reference = self.objective != "redi"
            reference = (
                Reference(model, self.teacher, checkpoint, settings, processes.device)
                if needs_reference
                else None
            )
            parameters = list(trainable(model).values())
            optimizer = adamw(parameters, settings)
            schedule = settings.schedule(len(plan))
            made = run.resume(model, optimizer, tokens, objective)
            with deferred_interrupts() as interrupted:
                for step in range(made, len(plan)):
                    seeded(settings.seed, step + 1, processes.rank)
                    loss = 0.0
                    for rows in processes.share(plan[step]):
                        good = collate(rows, right).to(processes.device)
                        bad = collate(rows, wrong).to(processes.device)
                        with (
                            memory_advice(step, good, settings),
                            autocast(processes.device, settings.precision),
                        ):
                            given = _given(
                                logits_at(model, good),
                                good,
                                logits_at(model, bad),
                                bad,
                                None if reference is None else reference.logits(good),
                                None if reference is None else reference.logits(bad),
                            )
                            mean, _ = objective.loss(given)
                            share = mean * (len(rows) / counts[step])
                            share.backward()
                        loss += float(share.detach())
                    rate = schedule.rate(step)
                    loss = processes.sum_number(loss)
                    processes.sum_gradients(parameters)
                    clipped_step(optimizer, parameters, rate, settings.clip)
                    objective.stepped(loss)
                    run.stepped(loss, tokens[step], rate)
                    if processes.any_says(interrupted.is_set()):
                        run.save()
                        raise KeyboardInterrupt
            answers = [
                good.supervised_tokens + bad.supervised_tokens
                for good, bad in zip(right, wrong, strict=True)
            ]
            return run.finish(model, tokenizer.tokenizer, sum(step_totals(plan, answers)))


def _rejected(example: TrainingExample, answer: str) -> TrainingExample:
    """The same state with the student's answer in the teacher's place."""
    if example.supervised != (len(example.messages) - 1,):
        raise TrainingError(
            f"example {example.id!r} is no single step: for pairs, its last message alone must be "
            "supervised"
        )
    wrong = {"role": "assistant", "content": answer}
    return example.model_copy(update={"messages": (*example.messages[:-1], wrong)})


def _given(
    right: Tensor,
    good: Batch,
    wrong: Tensor,
    bad: Batch,
    right_reference: Tensor | None,
    wrong_reference: Tensor | None,
) -> Given:
    from tutelage.training.objectives.given import Given, TeacherSignal
    from tutelage.training.objectives.tokens import target_log_probs

    def known(logits: Tensor | None, batch: Batch) -> Tensor | None:
        if logits is None:
            return None
        scored = scored_rows(logits, batch)
        return target_log_probs(scored.logits, scored.targets)

    return Given(
        scored_rows(right, good),
        scored_rows(wrong, bad),
        teacher=TeacherSignal(
            log_probs=known(right_reference, good),
            rejected_log_probs=known(wrong_reference, bad),
        ),
    )


def scored_rows(logits: Tensor, batch: Batch) -> Scored:
    """One row for each chat, padded to the longest answer.

    Args:
        logits: (n, vocab), of a batch of n supervised tokens.
        batch: Where they come from.
    """
    from torch.nn.utils.rnn import pad_sequence

    from tutelage.training.objectives.given import Scored

    sizes = batch.chats.bincount().tolist()
    padded = pad_sequence(list(logits.split(sizes)), batch_first=True)
    targets = pad_sequence(list(batch.targets.split(sizes)), batch_first=True)
    ones = pad_sequence(
        [chat >= 0 for chat in batch.chats.split(sizes)], batch_first=True, padding_value=0.0
    )
    return Scored(padded, targets, ones)
