"""Token counts of the Responses API and of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.runtime.types import Completion


def response_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """A chat ``usage`` object as that of a response."""
    prompt = _count(counts, "prompt_tokens")
    answer = _count(counts, "completion_tokens")
    details = counts.get("prompt_tokens_details") or {}
    answer_details = counts.get("completion_tokens_details") or {}
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": _count(details, "cached_tokens"),
            "cache_write_tokens": _count(details, "cache_write_tokens"),
        },
        "output_tokens": answer,
        "output_tokens_details": {"reasoning_tokens": _count(answer_details, "reasoning_tokens")},
        "total_tokens": prompt + answer,
    }


def usage_of(completion: Completion) -> dict[str, Any]:
    """The usage of a completion as that of a response."""
    counts = completion.usage.wire()
    details = completion.usage_details
    if details.get("completion_tokens") == counts["completion_tokens"]:
        # Otherwise the details are those of one call of several.
        counts["completion_tokens_details"] = details.get("completion_tokens_details")
    return response_usage(counts)


def chat_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The ``usage`` object of a response as that of a chat completion."""
    prompt = _count(usage, "input_tokens")
    answer = _count(usage, "output_tokens")
    details = usage.get("input_tokens_details") or {}
    read = min(_count(details, "cached_tokens"), prompt)
    written = min(_count(details, "cache_write_tokens"), prompt - read)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {
            "cached_tokens": read,
            **({"cache_write_tokens": written} if written else {}),
        },
        "completion_tokens_details": {
            "reasoning_tokens": _count(usage.get("output_tokens_details") or {}, "reasoning_tokens")
        },
    }


def _count(counts: Mapping[str, Any], name: str) -> int:
    return max(0, int(counts.get(name) or 0))
