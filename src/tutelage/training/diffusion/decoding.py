"""Answers from a masked-diffusion student: several tokens a forward, block after block."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.attention import allowed
from tutelage.training.diffusion.canvas import Canvas, lay_out
from tutelage.training.diffusion.commit_rule import CommitRule, EntropyThreshold
from tutelage.training.diffusion.drawing import Draw, draw_tokens
from tutelage.training.diffusion.model import DiffusionTransformer, KeysValues

Cache = Literal["none", "exact", "approximate"]
"""``exact`` keeps what came before a block, for block-causal students, and changes no answer;
``approximate`` does so for fully attending ones too, for which it is stale within a block."""
UNCOMMITTED = -1
OnCommit = Callable[[int, Sequence[int]], bool]
"""Called with a row and the tokens written from its start on without a gap; ``False`` ends it."""


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """How answers are written."""

    rule: CommitRule = field(default_factory=EntropyThreshold)
    block_length: int | None = None
    """``None``: the student's own."""
    slots: int | None = None
    """Length of the canvas; ``None``: the student's own."""
    stops_at_end: bool = True
    """Whether an answer is done when all before its end token is written; what follows an end
    token then costs no forward, so that a long canvas is no merit of a rule that fills it fast."""
    cache: Cache = "none"


@dataclass(frozen=True, slots=True)
class Decoded:
    """One answer, and what it took."""

    tokens: tuple[int, ...]
    """Up to the end token, which is left out."""
    finish_reason: Literal["stop", "length"]
    forwards: int
    """Passes of the model in which this row was not yet done."""
    latency_s: float
    order: tuple[int, ...]
    """Of every slot, the forward in which it was written, from 0; -1: it was never written."""
    log_probs: tuple[float, ...]
    """Of each token when it was written, nats at temperature 1."""

    @property
    def tokens_a_forward(self) -> float:
        """Tokens before the end token, over forwards."""
        return len(self.tokens) / self.forwards if self.forwards else 0.0


def decode(
    model: DiffusionTransformer,
    prompts: Sequence[Sequence[int]],
    settings: DecodingSettings,
    *,
    draws: Sequence[Draw] | None = None,
    limits: Sequence[int] | None = None,
    on_commit: OnCommit | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Decoded]:
    """Answers a batch of prompts; no row's answer depends on the others.

    The rows write their blocks in step; a row that is done leaves the batch.

    Args:
        model: The student.
        prompts: Token ids.
        settings: How.
        draws: How each row's tokens are drawn; greedily if ``None``.
        limits: Most tokens of each row; the canvas if ``None``.
        on_commit: Told what each forward has written.
        clock: Seconds.

    Raises:
        TrainingError: A prompt does not fit.
        ConfigError: The cache does not fit the student's attention.
    """
    attention = model.shape.attention
    if settings.cache == "exact" and attention != "block-causal":
        raise ConfigError(
            f"cache = 'exact' needs a block-causal student, and this one attends {attention}: "
            "use 'approximate' or 'none'"
        )
    canvas = lay_out(
        prompts,
        None,
        model.shape,
        block_length=settings.block_length,
        slots=settings.slots,
    )
    if attention == "block-causal" and canvas.block_length != model.shape.block_length:
        raise ConfigError(
            f"block_length = {canvas.block_length}: a block-causal student decodes in the blocks "
            f"it was trained with, {model.shape.block_length}"
        )
    writing = _Writing(model, canvas.to(model.device), settings, draws, limits, on_commit, clock)
    with torch.inference_mode():
        for block in range(canvas.blocks):
            if not writing.write_block(block):
                break
    return writing.results()


class _Writing:
    """A batch while it is written; the tensors of the canvas shrink to the rows not yet done."""

    def __init__(
        self,
        model: DiffusionTransformer,
        canvas: Canvas,
        settings: DecodingSettings,
        draws: Sequence[Draw] | None,
        limits: Sequence[int] | None,
        on_commit: OnCommit | None,
        clock: Callable[[], float],
    ) -> None:
        rows = canvas.tokens.shape[0]
        self._model = model
        self._settings = settings
        self._draws = list(draws or [Draw()] * rows)
        self._limits = [min(limit, canvas.slots) for limit in limits or [canvas.slots] * rows]
        self._on_commit = on_commit
        self._clock = clock
        self._started_s = clock()
        self._canvas = canvas
        self._rows = list(range(rows))
        self._past: _Past | None = None
        self._answers = canvas.answers.cpu().clone()
        self._order = torch.full((rows, canvas.slots), UNCOMMITTED)
        self._log_probs = torch.zeros((rows, canvas.slots), dtype=torch.float64)
        self._forwards = [0] * rows
        self._done_s: dict[int, float] = {}
        self._told = [0] * rows

    def write_block(self, block: int) -> bool:
        """Writes one block in all rows; whether any row goes on after it."""
        canvas = self._canvas
        start = canvas.prompt_columns + block * canvas.block_length
        end = min(start + canvas.block_length, int(canvas.tokens.shape[1]))
        full = self._model.shape.attention == "full"
        if full or self._settings.cache == "none":
            self._past = None
        horizon = int(canvas.tokens.shape[1]) if full else end
        while self._rows:
            masked = self._canvas.tokens[:, start:end] == self._model.shape.mask_token
            if not bool(masked.any()):
                break
            log_probs = self._forward(start, end, horizon)
            self._commit(log_probs, masked, block, start, end)
            self._leave(start, end)
        return bool(self._rows)

    def results(self) -> list[Decoded]:
        """One for each prompt, in their order."""
        return [self._result(row) for row in range(len(self._forwards))]

    def _forward(self, start: int, end: int, horizon: int) -> Tensor:
        """Log-probabilities (rows, end - start, vocabulary) of the active block."""
        model, canvas, past = self._model, self._canvas, self._past
        begin = past.columns if past is not None else 0
        seen = allowed(canvas, model.shape.attention)[:, begin:horizon, :horizon]
        made = model(
            canvas.tokens[:, begin:horizon],
            canvas.positions()[:, begin:horizon],
            seen,
            past.keys_values if past is not None else None,
        )
        hidden = made.hidden
        if model.shape.shifted:
            # The token before the first column of a pass was seen in an earlier one.
            before = past.last if past is not None else hidden[:, :1]
            hidden = torch.cat([before, hidden[:, :-1]], 1)
        if self._settings.cache != "none" and begin < start:
            self._past = _Past(
                [(keys[:, :, :start], values[:, :, :start]) for keys, values in made.keys_values],
                made.hidden[:, start - begin - 1 : start - begin],
                start,
            )
        logits = model.logits(hidden[:, start - begin : end - begin])
        return logits.double().log_softmax(-1)

    def _commit(self, log_probs: Tensor, masked: Tensor, block: int, start: int, end: int) -> None:
        has_mask = masked.any(-1).tolist()
        for row, has in zip(self._rows, has_mask, strict=True):
            self._forwards[row] += has
        # A row that waits for others draws nothing, so that they do not shift its chance.
        draws = [
            self._draws[row] if has else Draw()
            for row, has in zip(self._rows, has_mask, strict=True)
        ]
        tokens = draw_tokens(log_probs, draws)
        chosen = self._settings.rule.commit(log_probs, self._eligible(tokens, masked))
        said = log_probs.gather(-1, tokens[..., None])[..., 0]
        self._canvas.tokens[:, start:end] = torch.where(
            chosen, tokens, self._canvas.tokens[:, start:end]
        )
        first = block * self._canvas.block_length
        slots = slice(first, first + end - start)
        chosen, said = chosen.cpu(), said.cpu()
        for place, row in enumerate(self._rows):
            self._order[row, slots][chosen[place]] = self._forwards[row] - 1
            self._log_probs[row, slots][chosen[place]] = said[place][chosen[place]]
            if self._settings.stops_at_end:
                self._fill_after_end(place, row)
        self._answers[self._rows] = self._canvas.answers.cpu()

    def _eligible(self, tokens: Tensor, masked: Tensor) -> Tensor:
        """The masked slots, without those predicted to follow the end of the answer."""
        if not self._settings.stops_at_end:
            return masked
        ends = masked & (tokens == self._model.shape.end_token)
        return masked & ~(ends & (ends.cumsum(-1) > 1))

    def _fill_after_end(self, place: int, row: int) -> None:
        shape, answer = self._model.shape, self._canvas.answers[place]
        ends = (answer == shape.end_token).nonzero()
        if len(ends):
            after = answer == shape.mask_token
            after[: int(ends[0])] = False
            answer[after] = shape.end_token
            self._order[row, after.cpu()] = self._forwards[row] - 1

    def _leave(self, start: int, end: int) -> None:
        """Lets rows go that are done, or that nobody waits for."""
        staying = []
        last = end == self._canvas.tokens.shape[1]
        for place, row in enumerate(self._rows):
            prefix, ended = self._prefix(row)
            done = len(prefix) >= self._limits[row] or (ended and self._settings.stops_at_end)
            done = done or (last and not self._has_mask(row))
            wanted = True
            if self._on_commit is not None and len(prefix) > self._told[row]:
                self._told[row] = len(prefix)
                wanted = self._on_commit(row, prefix[: self._limits[row]])
            if done or not wanted:
                self._done_s[row] = self._clock()
            else:
                staying.append(place)
        if len(staying) < len(self._rows):
            self._rows = [self._rows[place] for place in staying]
            self._canvas = self._canvas.rows(staying)
            if self._past is not None:
                self._past = self._past.rows(staying)

    def _has_mask(self, row: int) -> bool:
        return bool((self._answers[row] == self._model.shape.mask_token).any())

    def _prefix(self, row: int) -> tuple[list[int], bool]:
        """What is written without a gap before the end token, and whether that is reached."""
        found: list[int] = []
        for token in self._answers[row].tolist():
            if token == self._model.shape.end_token:
                return found, True
            if token == self._model.shape.mask_token:
                return found, False
            found.append(token)
        return found, False

    def _result(self, row: int) -> Decoded:
        prefix, ended = self._prefix(row)
        limit = self._limits[row]
        tokens = tuple(prefix[:limit])
        return Decoded(
            tokens=tokens,
            finish_reason="stop" if ended and len(prefix) <= limit else "length",
            forwards=self._forwards[row],
            latency_s=self._done_s.get(row, self._clock()) - self._started_s,
            order=tuple(self._order[row].tolist()),
            log_probs=tuple(self._log_probs[row, : len(tokens)].tolist()),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """What a block's later forwards need not compute again."""

    keys_values: KeysValues
    last: Tensor
    """(rows, 1, width): hidden state of the column before the first that is not kept."""
    columns: int

    def rows(self, staying: list[int]) -> _Past:
        kept = [(keys[staying], values[staying]) for keys, values in self.keys_values]
        return _Past(kept, self.last[staying], self.columns)
