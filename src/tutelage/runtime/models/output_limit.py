"""By which field a chat endpoint is told how long an answer may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

OutputLimit = Literal["max_tokens", "max_completion_tokens"]

_OTHER: Mapping[OutputLimit, OutputLimit] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_OPENAI = ("api.openai.com", ".api.openai.com", ".openai.azure.com")


def usual_limit(base_url: str) -> OutputLimit | None:
    """The field of an endpoint by its address; ``None``: it takes whichever a request has.

    OpenAI's reasoning models refuse ``max_tokens``, and all its models take the other.

    Args:
        base_url: The endpoint's address.
    """
    host = urlsplit(base_url).hostname or ""
    is_openai = host == _OPENAI[0] or host.endswith(_OPENAI[1:])
    return "max_completion_tokens" if is_openai else None


def with_limit(body: dict[str, Any], field: OutputLimit | None) -> dict[str, Any]:
    """The body of a chat call with its limit in the field that the endpoint takes.

    Args:
        body: The body.
        field: The field; ``None``: the body stays as it is.
    """
    if field is None or body.get(_OTHER[field]) is None:
        return body
    limit = body[_OTHER[field]]
    kept = {name: value for name, value in body.items() if name != _OTHER[field]}
    return kept if kept.get(field) is not None else {**kept, field: limit}
