"""Chats to token ids, and which of them carry loss."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.runtime.errors import MissingExtra, NoExamples, TrainingError
from tutelage.training.data.example import TrainingExample

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TokenizedChat:
    """A chat as the student reads it; the token at i carries loss where ``supervised[i]``."""

    id: str
    tokens: tuple[int, ...]
    supervised: tuple[bool, ...]
    weight: float = 1.0
    lost_turns: int = 0
    """Supervised turns that did not fit and were cut off."""

    @property
    def supervised_tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(self.supervised)


class ChatTokenizer:
    """A tokenizer with its chat template.

    Loss is taken on a supervised turn's content and on the token that ends the turn, not on what
    the template puts before or after them. Text is encoded in pieces that end where a prompt ends,
    so that each turn has the tokens that a served student gives.

    Args:
        tokenizer: A Hugging Face tokenizer with a chat template.
        name: What errors call it.

    Raises:
        TrainingError: It has no chat template.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        if tokenizer.chat_template is None:
            raise TrainingError(f"the tokenizer of {name} has no chat template: add one")
        self.tokenizer = tokenizer
        self._name = name

    def encode(self, example: TrainingExample, max_tokens: int) -> TokenizedChat | None:
        """The chat up to its last supervised turn that ends within ``max_tokens``.

        Returns:
            ``None`` if not even the first supervised turn fits.

        Raises:
            TrainingError: The template refuses the chat, rewrites earlier turns of it or does not
                end turns, or a supervised message is not the assistant's.
        """
        tokens: list[int] = []
        supervised: list[bool] = []
        past, kept, kept_turns = "", 0, 0
        for index in example.supervised:
            self._check_turn(example, index)
            prompt = self._render(example, index, prompt=True)
            text = self._render(example, index + 1, prompt=False)
            if not prompt.startswith(past) or not text.startswith(prompt):
                raise TrainingError(
                    f"the chat template of {self._name} writes earlier turns of example "
                    f"{example.id!r} differently once others follow: make one example a step, with "
                    "its last message alone supervised"
                )
            before = self._ids(prompt[len(past) :])
            answered = text[len(prompt) :]
            answered = answered[: self._turn_end(example, answered)]
            answer = self._ids(answered)
            tokens += [*before, *answer]
            supervised += [False] * len(before) + [True] * len(answer)
            past = prompt + answered
            if len(tokens) > max_tokens:
                break
            kept, kept_turns = len(tokens), kept_turns + 1
        if not kept:
            return None
        return TokenizedChat(
            id=example.id,
            tokens=tuple(tokens[:kept]),
            supervised=tuple(supervised[:kept]),
            weight=example.weight,
            lost_turns=len(example.supervised) - kept_turns,
        )

    def encode_all(
        self, examples: Iterable[TrainingExample], max_tokens: int
    ) -> list[TokenizedChat]:
        """All examples of positive weight that fit, in their order.

        Raises:
            NoExamples: There is none.
            TrainingError: As ``encode``.
        """
        chats, given, too_long = [], 0, 0
        for example in examples:
            if example.weight == 0 or not example.supervised:
                continue
            given += 1
            chat = self.encode(example, max_tokens)
            if chat is None:
                too_long += 1
            else:
                chats.append(chat)
        if not chats and too_long:
            raise NoExamples(
                f"none of {given} examples has a supervised turn within max_tokens={max_tokens}: "
                "raise max_tokens, or make examples of less history"
            )
        if not chats:
            raise NoExamples("no example has a supervised turn and a weight above 0: add some")
        cut = sum(chat.lost_turns for chat in chats)
        if too_long or cut:
            logger.warning(
                "max_tokens=%d leaves out %d examples and cuts %d turns", max_tokens, too_long, cut
            )
        return chats

    def encode_pairs(
        self,
        pairs: Sequence[tuple[TrainingExample, TrainingExample]],
        max_tokens: int,
    ) -> tuple[list[TokenizedChat], list[TokenizedChat]]:
        """Two views of each example, of those that fit whole in both.

        Raises:
            NoExamples: There is none.
            TrainingError: As ``encode``.
        """
        firsts, seconds = [], []
        for first, second in pairs:
            one, other = self.encode(first, max_tokens), self.encode(second, max_tokens)
            if one is not None and other is not None and not one.lost_turns + other.lost_turns:
                firsts.append(one)
                seconds.append(other)
        if not firsts:
            raise NoExamples(
                f"none of {len(pairs)} examples fits whole within max_tokens={max_tokens}: raise "
                "max_tokens, or make examples of less history"
            )
        if len(firsts) < len(pairs):
            logger.warning(
                "max_tokens=%d leaves out %d examples", max_tokens, len(pairs) - len(firsts)
            )
        return firsts, seconds

    def _check_turn(self, example: TrainingExample, index: int) -> None:
        if not 0 < index < len(example.messages):
            raise TrainingError(
                f"example {example.id!r} supervises message {index} of {len(example.messages)}: "
                "name an assistant's message that has another before it"
            )
        role = example.messages[index].get("role")
        if role != "assistant":
            raise TrainingError(
                f"example {example.id!r} supervises message {index}, which is of role {role!r}: "
                "only the assistant's are learned"
            )

    def _render(self, example: TrainingExample, end: int, *, prompt: bool) -> str:
        from jinja2 import TemplateError

        messages = [plain(message) for message in example.messages[:end]]
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages,
                tools=template_tools(example.tools),
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except (TemplateError, TypeError) as error:
            raise TrainingError(
                f"the chat template of {self._name} refuses example {example.id!r}: {error}"
            ) from error
        return text

    def _turn_end(self, example: TrainingExample, text: str) -> int:
        """Characters of a rendered answer through the token that ends the turn."""
        end = self.tokenizer.eos_token
        if not end or end not in text:
            raise TrainingError(
                f"the chat template of {self._name} does not end the turns of example "
                f"{example.id!r} with the tokenizer's end token {end!r}: a student would not learn "
                "to stop; set eos_token to what ends a turn"
            )
        return text.rindex(end) + len(end)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its content as one string, as chat templates take it."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    return {**message, "content": content or ""}


def template_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Definitions as chat templates are given them when vLLM serves; ``None``: no tools.

    A template shows them in the order of their fields: there it is name, description, parameters,
    absent ones ``null``, then ``strict`` where it is set; unknown fields are left out.
    """
    made = []
    for tool in tools:
        function = tool.get("function")
        if not isinstance(function, Mapping):
            made.append(dict(tool))
            continue
        fields = {name: function.get(name) for name in ("name", "description", "parameters")}
        if function.get("strict") is not None:
            fields["strict"] = function["strict"]
        made.append({"type": "function", "function": fields})
    return made or None


def load_tokenizer(checkpoint: Path) -> ChatTokenizer:
    """The tokenizer of a checkpoint.

    Raises:
        MissingExtra: transformers is not installed.
        TrainingError: The folder has no usable one.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", "train") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise TrainingError(f"{checkpoint} has no usable tokenizer: {line}") from error
    return ChatTokenizer(tokenizer, str(checkpoint))
