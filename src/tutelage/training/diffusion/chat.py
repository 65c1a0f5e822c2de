"""Chats as the tokens of a prompt, and tokens as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.runtime.errors import ConfigError, MissingExtra, Refused

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
UNKNOWN, MASK, END = "<unknown>", "<mask>", "<end>"
ROLES = ("system", "user", "assistant", "tool")
WORD_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""For students that are trained from scratch on words."""


class ChatTokens:
    """A tokenizer with a chat template; both are files of the student's folder.

    Args:
        tokenizer: Of the ``tokenizers`` package.
        template: Jinja template over ``messages`` and ``add_generation_prompt``.
        special: Further names for the template, as ``bos_token``.

    Raises:
        ConfigError: The template cannot be read.
        MissingExtra: jinja2 is not installed.
    """

    def __init__(
        self, tokenizer: Any, template: str, special: Mapping[str, str] | None = None
    ) -> None:
        try:
            from jinja2 import TemplateSyntaxError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise MissingExtra("jinja2", "train") from error
        self.tokenizer = tokenizer
        self.template = template
        self._special = dict(special or {})
        made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        made.globals["raise_exception"] = _refuse
        try:
            self._template = made.from_string(template)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{TEMPLATE_FILE} cannot be read: {error}") from None

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The tokens up to where the answer begins.

        Raises:
            Refused: The template does not take these messages.
        """
        from jinja2 import TemplateError

        try:
            text = self._template.render(
                messages=list(messages), add_generation_prompt=True, **self._special
            )
        except TemplateError as error:
            raise Refused(f"the student's chat template refuses the messages: {error}") from error
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without any around it."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def write(self, folder: Path) -> None:
        """Writes tokenizer and template into a folder."""
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        (folder / TEMPLATE_FILE).write_text(self.template, encoding="utf-8")


def _refuse(message: str) -> str:
    """What templates call when they do not take the messages."""
    from jinja2 import TemplateError

    raise TemplateError(message)


def read_chat_tokens(folder: Path) -> ChatTokens:
    """Reads the tokenizer and the template of a folder.

    Raises:
        ConfigError: One of them is missing or damaged.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"{folder} has no {TOKENIZER_FILE}: name a complete student") from None
    except Exception as error:  # noqa: BLE001 - the package raises bare exceptions
        raise ConfigError(f"{path} is no tokenizer: {error}") from None
    try:
        template = (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
        settings = folder / "tokenizer_config.json"
        named = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} has no usable {TEMPLATE_FILE}: {error}") from None
    special = {name: text for name, text in named.items() if isinstance(text, str)}
    return ChatTokens(tokenizer, template, special)


def word_tokens(texts: Iterable[str]) -> ChatTokens:
    """A tokenizer whose tokens are the words of some texts, split at spaces.

    Args:
        texts: All that the student shall read and write; a word that is in none is unknown to it.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    special = [UNKNOWN, MASK, END, *(f"<{role}>" for role in ROLES)]
    words = dict.fromkeys([*special, *sorted({w for text in texts for w in text.split()})])
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in special])
    return ChatTokens(tokenizer, WORD_TEMPLATE)
