"""What a provider's prompt cache would have done with the prompts of one episode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.types import ChatRequest, Message, Usage

CHARACTERS_A_TOKEN = 4
"""Usual rule of thumb for English text and byte-pair vocabularies."""


@dataclass(frozen=True, slots=True)
class CountedPart:
    """One message of a prompt, or its tools: what the cache compares, and how long it is."""

    digest: str
    tokens: int


class PrefixCacheMeter:
    """Splits the consecutive prompts of one episode into cached, written and plain tokens.

    Assumptions, true in outline of the large providers: a prefix is reused if all its messages are
    byte-equal; it can end at any message; below about 1,024 tokens nothing is read or written; what
    is not read of a longer prompt is written (billed at the write price, or as input where the
    provider has none); entries outlive the episode. So it is an upper bound for steps further apart
    than the provider's time to live, and for providers that cache only at marked places.
    Source for the limit and the billing: Anthropic's and OpenAI's prompt-caching guides.

    Args:
        min_tokens: Shortest prefix that the provider caches.

    Raises:
        ConfigError: ``min_tokens`` is negative.
    """

    def __init__(self, min_tokens: int = 1024) -> None:
        if min_tokens < 0:
            raise ConfigError(f"min_tokens = {min_tokens}: give 0 or more tokens")
        self._min_tokens = min_tokens
        self._written: set[bytes] = set()

    def split(self, prompt: Sequence[CountedPart]) -> Usage:
        """The prompt's tokens by bucket, without output; the prompt is remembered."""
        read = total = 0
        prefix = hashlib.sha256()
        prefixes: list[bytes] = []
        for part in prompt:
            prefix.update(f"{len(part.digest)}:{part.digest}".encode())
            total += part.tokens
            if total >= self._min_tokens:
                reached = prefix.digest()
                prefixes.append(reached)
                if reached in self._written:
                    read = total
        if not prefixes:
            return Usage(input_tokens=total)
        self._written.update(prefixes)
        return Usage(cache_read_tokens=read, cache_write_tokens=total - read)


def counted_parts(request: ChatRequest, prompt_tokens: int | None = None) -> list[CountedPart]:
    """The parts of a request's prompt in the order in which providers cache them: tools first.

    Args:
        request: The request.
        prompt_tokens: The endpoint's own count of the whole prompt; the estimates of the parts are
            scaled to add up to it.
    """
    texts = [json.dumps(tool, sort_keys=True) for tool in request.tools or ()]
    lengths = [len(text) for text in texts]
    for message in request.messages:
        texts.append(message.model_dump_json(exclude_unset=True))
        lengths.append(characters(message))
    length_of_all = sum(lengths)
    parts: list[CountedPart] = []
    done = before = 0
    for text, length in zip(texts, lengths, strict=True):
        done += length
        # Rounded sums, not rounded parts, so that the parts add up to the total.
        if prompt_tokens is None:
            until = -(-done // CHARACTERS_A_TOKEN)
        else:
            until = prompt_tokens * done // length_of_all if length_of_all else 0
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        parts.append(CountedPart(digest, until - before))
        before = until
    return parts


def estimate_tokens(request: ChatRequest) -> int:
    """Prompt tokens of a request, estimated as characters / 4, rounded up.

    Counts the text and tool calls of all messages and the tools; images and the template of the
    chat are left out.
    """
    return sum(part.tokens for part in counted_parts(request))


def characters(message: Message) -> int:
    """Characters of a message's text and of its tool calls as JSON."""
    return len(message.text) + (len(json.dumps(message.tool_calls)) if message.tool_calls else 0)
