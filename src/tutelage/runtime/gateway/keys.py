"""Virtual keys: their text, what is stored of it, and the rights they carry."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.runtime.errors import ConfigError
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.secret import Secret, shown_variable

KeyKind = Literal["client", "admin"]

SECRET_BYTES = 32
"""Random bytes in a key."""

_PREFIXES: Mapping[KeyKind, str] = {"client": "tut-", "admin": "tutadmin-"}
_SHOWN_CHARACTERS = 6
_SHORTEST_PEPPER = 16
_TEXT = re.compile(r"(tut|tutadmin)-[A-Za-z0-9_-]{43}", re.ASCII)
_LONGEST_TEXT = 64


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What a key allows; ``None`` means without limit."""

    aliases: frozenset[str] | None = None
    """Models the key may ask for."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None
    budget_usd: float | None = None
    """What may be spent in one period."""
    budget_period_s: float | None = None
    """Length of a period, from the key's creation on; ``None``: the budget never renews."""
    writer: bool = True
    """Whether demonstrations may be made of what the key asks."""

    def excess(self, ceiling: KeyRights) -> str | None:
        """The first right that goes beyond those of ``ceiling``; ``None`` if none does."""
        if ceiling.aliases is not None and not (
            self.aliases is not None and self.aliases <= ceiling.aliases
        ):
            return "aliases"
        for name in ("requests_per_minute", "tokens_per_minute", "parallel_requests", "budget_usd"):
            if _is_above(getattr(self, name), getattr(ceiling, name)):
                return name
        if ceiling.budget_usd is not None and _is_above(
            ceiling.budget_period_s, self.budget_period_s
        ):
            # The same budget in a shorter period is a larger one.
            return "budget_period_s"
        return "writer" if self.writer and not ceiling.writer else None


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as it is stored; times are Unix seconds."""

    id: str
    kind: KeyKind
    tenant: str | None
    """Whose key it is; ``None``: a key that administers every tenant."""
    name: str
    rights: KeyRights
    created_at_s: float
    created_by: str
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    prefixes: tuple[str, ...] = ()
    """How the texts that open it begin, the newest first; two while a rotation overlaps."""

    def is_usable(self, now_s: float) -> bool:
        """Whether it is neither revoked nor expired."""
        is_expired = self.expires_at_s is not None and now_s >= self.expires_at_s
        return self.revoked_at_s is None and not is_expired

    def caller(self) -> Caller:
        """Who calls with this key.

        Raises:
            ValueError: It is a key of the administration.
        """
        if self.kind != "client" or self.tenant is None:
            raise ValueError(f"{self.id} opens the administration, not the gateway")
        rights = self.rights
        return Caller(
            tenant=self.tenant,
            key_id=self.id,
            aliases=rights.aliases,
            requests_per_minute=rights.requests_per_minute,
            tokens_per_minute=rights.tokens_per_minute,
            parallel_requests=rights.parallel_requests,
            budget_usd=rights.budget_usd,
            budget_period_s=rights.budget_period_s,
            writer=rights.writer,
        )


def shown_key(key: Key) -> dict[str, Any]:
    """A key as JSON, its rights beside the rest; nothing in it opens anything."""
    shown = dataclasses.asdict(key)
    rights = shown.pop("rights")
    aliases = key.rights.aliases
    return {**shown, **rights, "aliases": None if aliases is None else sorted(aliases)}


class Pepper:
    """The secret under which keys are stored: without it a copy of the database opens nothing.

    Args:
        secret: At least 16 characters.

    Raises:
        ConfigError: It is shorter.
    """

    def __init__(self, secret: Secret) -> None:
        if len(secret.reveal()) < _SHORTEST_PEPPER:
            raise ConfigError(
                f"the pepper has fewer than {_SHORTEST_PEPPER} characters: make one with "
                "`openssl rand -hex 32`"
            )
        # HKDF-SHA256 (RFC 5869) with outputs of one block.
        self._extracted = _hmac(b"tutelage", secret.reveal().encode())
        self._key_hash = self.derived("virtual keys")

    def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; those of two purposes tell nothing of each other."""
        return _hmac(self._extracted, purpose.encode() + b"\x01")

    def digest(self, text: str) -> str:
        """What is stored of a key's text, 64 hexadecimal digits."""
        return _hmac(self._key_hash, text.encode()).hex()


def read_pepper(environment: Mapping[str, str], name: str) -> Pepper:
    """The pepper from the environment variable ``gateway.pepper_env``.

    Raises:
        ConfigError: The variable is not set, or its value is not usable.
    """
    text, shown = environment.get(name, ""), shown_variable(name)
    if not text.strip():
        raise ConfigError(
            f"{shown} is not set: it holds the secret under which keys are stored; make one with "
            "`openssl rand -hex 32`, and keep it as long as the keys"
        )
    try:
        return Pepper(Secret(text))
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{shown}: {error}") from None


def new_key_text(
    kind: KeyKind, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> Secret:
    """The text of a new key, ``tut-…`` or ``tutadmin-…`` with 256 random bits."""
    drawn = base64.urlsafe_b64encode(random_bytes(SECRET_BYTES)).rstrip(b"=")
    return Secret(_PREFIXES[kind] + drawn.decode())


def shown_prefix(text: Secret, kind: KeyKind) -> str:
    """How a key begins: enough to tell keys apart, too little to guess one."""
    return text.reveal()[: len(_PREFIXES[kind]) + _SHOWN_CHARACTERS]


def is_key_text(text: str) -> bool:
    """Whether a text has the form of a key; any other opens nothing."""
    return len(text) <= _LONGEST_TEXT and _TEXT.fullmatch(text) is not None


def _is_above(value: float | None, ceiling: float | None) -> bool:
    return ceiling is not None and (value is None or value > ceiling)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
