"""The session that a client names, in any of the ways that clients do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

OWN_HEADER: Final = "x-tutelage-session"

SESSION_HEADERS: Final = (
    OWN_HEADER,
    # Set by an application or a gateway before us.
    "x-session-id",
    # Claude Code.
    "x-claude-code-session-id",
    "x-conversation-id",
    # Codex CLI; its thread is the conversation, its session may hold several.
    "thread-id",
    "thread_id",
    "session-id",
    "session_id",
    "conversation-id",
    "conversation_id",
    # opencode.
    "x-opencode-session",
    "x-session-affinity",
    # Other gateways.
    "x-switchyard-session-id",
    "x-model-affinity",
    "x-litellm-session-id",
)
"""Headers that name a session, the first one present wins."""

MOST_CHARACTERS: Final = 128
"""Of a session that is kept as it is; it is what the store has room for."""

_PLAIN = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_CLAUDE_CODE = re.compile(r"user_.*_session_(\S+)", re.ASCII)
_NAMES = frozenset(name.encode() for name in SESSION_HEADERS)


def session_of(
    headers: Iterable[tuple[bytes, bytes]], body: Mapping[str, Any], caller_tenant: str
) -> str | None:
    """The session that a request belongs to, fit to be an episode id; ``None``: it names none.

    In this order, the first that is not empty:

    1. ``x-tutelage-session``;
    2. the session headers of other clients and gateways, in the order of ``SESSION_HEADERS``;
    3. ``metadata.user_id`` in the forms of Claude Code: ``user_…_session_<id>``, or an object or
       its JSON text with a ``session_id``. Any other value names a user and is not read;
    4. ``metadata.session_id``, ``metadata.conversation_id``, then ``session_id``;
    5. ``conversation`` of the Responses API, as a text or an object with an ``id``;
    6. ``prompt_cache_key``, where it is a UUID as Codex sends it. Any other value may be shared by
       many conversations and is not read.

    A value of at most 128 characters from ``A-Za-z0-9._:@/+=-`` is kept; of any other one stands
    a hash that depends on the tenant, so that it tells nothing and breaks no header or log line.

    Args:
        headers: As ASGI gives them, names in lower case.
        body: The decoded body.
        caller_tenant: Whose request it is.
    """
    for value in _values(headers, body):
        if value:
            return _bounded(value, caller_tenant)
    return None


def _values(headers: Iterable[tuple[bytes, bytes]], body: Mapping[str, Any]) -> Iterator[str]:
    found = {name: value for name, value in headers if name in _NAMES}
    if found:
        for name in SESSION_HEADERS:
            value = found.get(name.encode())
            if value is not None:
                yield value.decode("utf-8", "replace").strip()
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping):
        yield _claude_code(metadata.get("user_id"))
        yield _text(metadata.get("session_id"))
        yield _text(metadata.get("conversation_id"))
    yield _text(body.get("session_id"))
    conversation = body.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    yield _text(conversation)
    key = _text(body.get("prompt_cache_key"))
    yield key if _UUID.fullmatch(key) else ""


def _claude_code(user_id: object) -> str:
    if isinstance(user_id, str) and user_id.lstrip().startswith("{"):
        try:
            user_id = orjson.loads(user_id)
        except orjson.JSONDecodeError:
            return ""
    if isinstance(user_id, Mapping):
        return _text(user_id.get("session_id"))
    match = _CLAUDE_CODE.fullmatch(_text(user_id))
    return match.group(1) if match else ""


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _bounded(session: str, tenant: str) -> str:
    if _PLAIN.fullmatch(session):
        return session
    digest = hashlib.sha256()
    for part in (tenant, session):
        # Lengths keep two pairs from having the same bytes.
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"session-{digest.hexdigest()[:40]}"
