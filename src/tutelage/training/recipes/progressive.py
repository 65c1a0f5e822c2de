"""Distillation from a local teacher's distributions, or from the student with demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from tutelage.training.recipes.packing import collate, step_totals
from tutelage.training.recipes.processes import Processes
from tutelage.training.recipes.recipe import TrainedStudent, Watch
from tutelage.training.recipes.reference import Reference
from tutelage.training.recipes.run import Run, fingerprint, weights_digest
from tutelage.training.recipes.settings import TrainingSettings
from tutelage.training.recipes.tokenized import ChatTokenizer, TokenizedChat, load_tokenizer
from tutelage.training.recipes.weights import load_student, logits_at, resolve_device, trainable

if TYPE_CHECKING:
    from torch import Tensor

    from tutelage.training.objectives.given import Given
    from tutelage.training.objectives.objective import Objective

Shown = Callable[[TrainingExample], TrainingExample]
"""An example as the teacher reads it, with demonstrations in its chat; the supervised turns are
the same, word for word."""


@dataclass(frozen=True, slots=True)
class Progressive:
    """Matches next-token distributions at the supervised positions.

    Two uses. With ``teacher``, a larger local model of the same vocabulary, by ``taid`` or a
    divergence. With ``shown`` alone, demonstrations into weights: the student as it was, with
    demonstrations in view, teaches the student without them (objective ``context``). An example of
    weight 0 is left out; other weights count alike.
    """

    objective: str = "taid"
    options: Mapping[str, object] = field(default_factory=dict)
    """Of the objective; ``steps`` of ``taid`` is filled in."""
    teacher: Path | None = None
    """Folder of its checkpoint; ``None``: the student as it was before training."""
    shown: Shown | None = None
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def train(
        self,
        examples: Sequence[TrainingExample],
        checkpoint: Path,
        out: Path,
        watch: Watch | None = None,
    ) -> TrainedStudent:
        """See `tutelage.training.recipes.recipe.Recipe`.

        Raises:
            NoExamples: There is nothing to train on.
            TrainingError: Teacher and student differ in vocabulary, or an example as shown has
                other supervised tokens.
        """
        if self.teacher is None and self.shown is None:
            raise TrainingError(
                "the teacher would be the student itself: give teacher, the folder of a larger "
                "model, or shown, which puts demonstrations into the examples"
            )
        settings = self.settings
        seen = examples if self.shown is None else [self.shown(example) for example in examples]
        processes = Processes(resolve_device(settings.device))
        run = Run(
            out,
            recipe="progressive",
            settings=settings,
            fingerprint=fingerprint(
                "progressive",
                settings.learning(),
                [*examples, *seen],
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
            _check_vocabulary(tokenizer, self.teacher)
            views = [
                (example, view)
                for example, view in zip(examples, seen, strict=True)
                if example.weight > 0 and example.supervised
            ]
            if not views:
                raise NoExamples("no example has a supervised turn and a weight above 0: add some")
            chats, shown = tokenizer.encode_pairs(views, settings.max_tokens)
            _check_answers(chats, shown)
            # Both views of a chat stand at the same place of the same batch.
            widths = [max(len(a.tokens), len(b.tokens)) for a, b in zip(chats, shown, strict=True)]
            plan = settings.packing.plan(widths, settings.epochs, settings.steps)
            tokens = step_totals(plan, [len(chat.tokens) for chat in chats])
            supervised = step_totals(plan, [chat.supervised_tokens for chat in chats])
            objective = self._objective(len(plan))
            seeded(settings.seed, 0, 0)
            model = load_student(checkpoint, settings, processes.device)
            teacher = Reference(model, self.teacher, checkpoint, settings, processes.device)
            parameters = list(trainable(model).values())
            optimizer = adamw(parameters, settings)
            schedule = settings.schedule(len(plan))
            made = run.resume(model, optimizer, tokens, objective)
            with deferred_interrupts() as interrupted:
                for step in range(made, len(plan)):
                    seeded(settings.seed, step + 1, processes.rank)
                    loss = 0.0
                    for rows in processes.share(plan[step]):
                        here = collate(rows, chats).to(processes.device)
                        there = collate(rows, shown).to(processes.device)
                        with (
                            memory_advice(step, there, settings),
                            autocast(processes.device, settings.precision),
                        ):
                            taught = teacher.logits(there)
                            given = _given(logits_at(model, here), here.targets, taught)
                            mean, _ = objective.loss(given)
                            share = mean * (len(here.targets) / supervised[step])
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
            return run.finish(model, tokenizer.tokenizer, sum(supervised))

    def _objective(self, steps: int) -> Objective:
        from tutelage.training.objectives.registry import objective
        from tutelage.training.objectives.signal import Need, Signal

        options = dict(self.options)
        if self.objective == "taid":
            options.setdefault("steps", steps)
        made = objective(self.objective, options)
        made.require(Signal.LOGITS)
        fit = {Need.SAME_VOCABULARY, Need.DEMONSTRATIONS}
        if made.needs - fit or (Need.DEMONSTRATIONS in made.needs and self.shown is None):
            needs = ", ".join(sorted(made.needs))
            raise TrainingError(
                f"objective {self.objective!r} needs {needs}, which this recipe does not give: "
                "choose taid, context (with shown) or a divergence"
            )
        return made


def _check_answers(chats: Sequence[TokenizedChat], shown: Sequence[TokenizedChat]) -> None:
    for chat, view in zip(chats, shown, strict=True):
        if _answers(chat) != _answers(view):
            raise TrainingError(
                f"example {chat.id!r} has other supervised turns where demonstrations are shown: "
                "show them before the chat and keep its turns"
            )


def _answers(chat: TokenizedChat) -> list[int]:
    return [token for token, on in zip(chat.tokens, chat.supervised, strict=True) if on]


def _given(logits: Tensor, targets: Tensor, taught: Tensor) -> Given:
    from tutelage.training.objectives.given import Given, Scored, TeacherSignal

    # Tokenizers agree; what is beyond is padding of either model's table.
    common = min(logits.shape[-1], taught.shape[-1])
    taught = taught[None, :, :common]
    mask = targets[None] >= 0
    return Given(
        Scored(logits[None, :, :common], targets[None], mask),
        teacher=TeacherSignal(logits=taught),
        demonstrated=taught,
    )


def _check_vocabulary(tokenizer: ChatTokenizer, teacher: Path | None) -> None:
    if teacher is None:
        return
    theirs: dict[str, Any] = load_tokenizer(teacher).tokenizer.get_vocab()
    if theirs != tokenizer.tokenizer.get_vocab():
        raise TrainingError(
            f"teacher {teacher} has another vocabulary than the student: take one of the same "
            "family, or train on its answers with the recipe supervised"
        )
