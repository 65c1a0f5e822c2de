"""Tokens from a causal language model: n samples after one prefill, prompts' prefixes reused."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.runtime.errors import ConfigError, ContextTooLong, MissingExtra, Refused
from tutelage.runtime.models.prompt_caches import PromptCaches
from tutelage.runtime.models.quiet import quiet_transformers

PREFILL_CHUNK = 1024

OnText = Callable[[str], None]
KeysValues = list[tuple[Any, Any]]
"""One (keys, values) pair a layer, each of shape (1, heads, tokens, width)."""


class GenerationCancelled(Exception):
    """Nobody waits for the generation any more."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one prompt."""

    n: int = 1
    temperature: float = 0.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int | None = None
    """Alternatives to report for each token; ``None`` reports no log probabilities."""
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)
    """Ends the generation before its next token."""


@dataclass(slots=True)
class GeneratedText:
    """One sample, growing until ``finish_reason`` is set."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Generated:
    """The samples of one prompt, and what they took."""

    samples: list[GeneratedText]
    prompt_tokens: int
    reused_tokens: int
    """Prompt tokens whose keys and values an earlier prompt had left."""


class TextGenerator:
    """A loaded checkpoint. Not thread-safe: one thread owns it.

    Args:
        checkpoint: Folder of a Hugging Face checkpoint with a chat template.
        threads: Threads that torch computes with in this process; ``None`` leaves one core free.
        dtype: Name of the weights' torch type.
        device: torch device.
        max_prompt_tokens: Longest prompt; ``None`` is what the model allows.
        cached_prompts: Prompts whose keys and values are kept for reuse.
        seed: Seed of the samples of requests that name none; ``None`` draws one.

    Raises:
        ConfigError: The folder is not a usable checkpoint, or ``dtype`` is unknown.
        MissingExtra: torch or transformers is not installed.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        threads: int | None = None,
        dtype: str = "bfloat16",
        device: str = "cpu",
        max_prompt_tokens: int | None = None,
        cached_prompts: int = 8,
        seed: int | None = None,
    ) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtra("torch or transformers", "local") from error
        weights = getattr(torch, dtype, None)
        if not isinstance(weights, torch.dtype):
            raise ConfigError(f"dtype {dtype!r} is no torch type: use bfloat16, float16 or float32")
        # Threads of torch spin at barriers: with a neighbour on the last core, all of them wait for
        # it, and decoding becomes many times slower than on one thread.
        torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) - 1))
        try:
            with quiet_transformers():
                self._tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
                self._model = AutoModelForCausalLM.from_pretrained(
                    checkpoint, dtype=weights, local_files_only=True, use_safetensors=True
                )
        except (OSError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise ConfigError(f"{checkpoint} is no usable checkpoint: {line}") from error
        if self._tokenizer.chat_template is None:
            raise ConfigError(f"the tokenizer of {checkpoint} has no chat template: add one")
        self._model.to(device).eval()
        # transformers 5.24 renamed the argument, and warns of the old name.
        taken = inspect.signature(self._model.forward).parameters
        self._cache_argument = "cache" if "cache" in taken else "past_key_values"
        self._device = device
        self._longest = int(self._model.config.max_position_embeddings)
        self._max_prompt_tokens = min(max_prompt_tokens or self._longest - 1, self._longest - 1)
        ends = self._model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self._ends = {
            int(end) for end in [*listed, self._tokenizer.eos_token_id] if end is not None
        }
        self._caches: PromptCaches[KeysValues] = PromptCaches(cached_prompts)
        self._random = torch.Generator(device)
        if seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(seed)

    def generate(
        self, messages: Sequence[dict[str, str]], sampling: Sampling, on_text: OnText | None = None
    ) -> Generated:
        """Continues a chat ``sampling.n`` times.

        Args:
            messages: Role and content of each message.
            sampling: How to sample.
            on_text: Called with each new piece of the first sample's final text.

        Raises:
            ContextTooLong: The prompt has more tokens than allowed.
            Refused: The chat template does not take these messages.
            GenerationCancelled: ``sampling.cancelled`` was set.
        """
        import torch

        tokens = self.encode(messages)
        room = self._longest - len(tokens)
        with torch.inference_mode():
            logits, keys_values, reused = self._prefill(tokens, sampling.cancelled)
            self._caches.keep(tokens, keys_values)
            # Greedy samples are one sample: drawing it once is cheaper, and exact.
            rows = 1 if sampling.temperature == 0 else sampling.n
            limit = min(sampling.max_tokens, room)
            samples = self._decode(logits, keys_values, rows, limit, sampling, on_text)
        if rows < sampling.n:
            samples *= sampling.n
        return Generated(samples, prompt_tokens=len(tokens), reused_tokens=reused)

    def encode(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """The prompt's tokens, chat template applied, up to where the answer begins.

        Raises:
            ContextTooLong: There are more tokens than allowed.
            Refused: The chat template does not take these messages.
        """
        from jinja2 import TemplateError

        try:
            prompt = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise Refused(f"the student's chat template refuses the messages: {error}") from error
        tokens = tuple(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if len(tokens) > self._max_prompt_tokens:
            raise ContextTooLong(
                f"the prompt has {len(tokens)} tokens, the student takes at most "
                f"{self._max_prompt_tokens}: shorten it, or show fewer demonstrations"
            )
        return tokens

    def _prefill(
        self, tokens: tuple[int, ...], cancelled: threading.Event
    ) -> tuple[Any, KeysValues, int]:
        """Logits (1, vocabulary) after the prompt, its keys and values, and the tokens reused."""
        import torch
        from transformers import DynamicCache

        shared, kept = self._caches.longest(tokens)
        # The last token is always computed: its logits are what the first sampled token needs.
        reused = min(shared, len(tokens) - 1)
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(kept or () if reused else ()):
            cache.update(keys[:, :, :reused], values[:, :, :reused], layer)
        logits = None
        for start in range(reused, len(tokens), PREFILL_CHUNK):
            _raise_if(cancelled)
            chunk = torch.tensor([tokens[start : start + PREFILL_CHUNK]], device=self._device)
            answer = self._model(
                input_ids=chunk,
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_argument: cache},
            )
            logits = answer.logits[:, -1]
        return logits, [(layer.keys, layer.values) for layer in cache.layers], reused

    def _decode(
        self,
        logits: Any,
        keys_values: KeysValues,
        rows: int,
        limit: int,
        sampling: Sampling,
        on_text: OnText | None,
    ) -> list[GeneratedText]:
        import torch

        from tutelage.runtime.models.growing_cache import growing_cache

        random = self._random
        if sampling.seed is not None:
            random = torch.Generator(self._device).manual_seed(sampling.seed)
        samples = [GeneratedText() for _ in range(rows)]
        cache = growing_cache(keys_values, rows, limit)
        logits = logits.expand(rows, -1)
        told = 0
        while True:
            _raise_if(sampling.cancelled)
            chosen = choose_tokens(logits, sampling, random)
            listed = chosen.tolist()
            if sampling.top_logprobs is not None:
                self._record(logits, listed, samples, sampling.top_logprobs)
            for sample, token in zip(samples, listed, strict=True):
                if sample.finish_reason is None:
                    self._extend(sample, token, limit, sampling.stop)
            if on_text is not None:
                told = _tell(samples[0], told, sampling.stop, on_text)
            if all(sample.finish_reason for sample in samples):
                return samples
            logits = self._model(
                input_ids=chosen[:, None], use_cache=True, **{self._cache_argument: cache}
            ).logits[:, -1]

    def _extend(self, sample: GeneratedText, token: int, limit: int, stop: tuple[str, ...]) -> None:
        sample.tokens.append(token)
        if token in self._ends:
            sample.finish_reason = "stop"
            return
        sample.text = self._tokenizer.decode(
            sample.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = [at for at in (sample.text.find(text) for text in stop) if at >= 0]
        if found:
            sample.text = sample.text[: min(found)]
            sample.finish_reason = "stop"
        elif len(sample.tokens) >= limit:
            sample.finish_reason = "length"

    def _record(
        self, logits: Any, chosen: list[int], samples: list[GeneratedText], alternatives: int
    ) -> None:
        logprobs = logits.float().log_softmax(-1)
        best = logprobs.topk(max(alternatives, 1), dim=-1)
        for row, (sample, token) in enumerate(zip(samples, chosen, strict=True)):
            if sample.finish_reason is not None:
                continue
            ranked = zip(best.indices[row].tolist(), best.values[row].tolist(), strict=True)
            others = [self._entry(index, value) for index, value in ranked][:alternatives]
            entry = self._entry(token, float(logprobs[row, token]))
            sample.logprobs.append({**entry, "top_logprobs": others})

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def choose_tokens(logits: Any, sampling: Sampling, random: Any) -> Any:
    """Tokens (rows,) for logits (rows, vocabulary) by temperature and nucleus (``top_p``)."""
    import torch

    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ranked, order = probabilities.sort(-1, descending=True)
        # A token stays if the more likely ones do not fill the nucleus; the first one always does.
        outside = ranked.cumsum(-1) - ranked >= sampling.top_p
        outside[:, 0] = False
        ranked = ranked.masked_fill(outside, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ranked)
    return torch.multinomial(probabilities, 1, generator=random)[:, 0]


def _tell(sample: GeneratedText, told: int, stop: tuple[str, ...], on_text: OnText) -> int:
    """Passes on what later tokens cannot change; the length passed on so far."""
    final = len(sample.text)
    if sample.finish_reason is None:
        final -= max((len(text) - 1 for text in stop), default=0)
        # Half of a character that is spread over several tokens decodes to U+FFFD.
        final = min(final, len(sample.text.rstrip("\ufffd")))
    if final <= told:
        return told
    on_text(sample.text[told:final])
    return final


def _raise_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise GenerationCancelled
