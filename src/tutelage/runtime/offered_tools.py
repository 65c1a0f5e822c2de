"""The tools that a step offered, named by what they are, so that they are kept once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson


def encoded_tools(tools: Sequence[Mapping[str, Any]]) -> str:
    """Definitions as JSON in their own order: a chat template shows it."""
    try:
        return orjson.dumps(tools).decode()
    except TypeError:
        # A number of more than 64 bits.
        return json.dumps(tools, ensure_ascii=False, separators=(",", ":"))


def tools_sha256(tools: Sequence[Mapping[str, Any]] | None) -> str | None:
    """SHA-256 of the definitions in hexadecimal digits; ``None`` where no tool is offered."""
    if not tools:
        return None
    return hashlib.sha256(encoded_tools(tools).encode("utf-8", "surrogatepass")).hexdigest()
