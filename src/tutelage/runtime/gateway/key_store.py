"""Keys in the database: made, found, rotated and revoked, each change in the audit log."""

from __future__ import annotations

import dataclasses
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from tutelage.runtime.errors import BadRequest, Forbidden
from tutelage.runtime.gateway.audit import AuditLog
from tutelage.runtime.gateway.keys import Key, KeyRights, Pepper, new_key_text, shown_prefix
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.secret import Secret
from tutelage.runtime.store import schema
from tutelage.runtime.store.transactions import Transactions

_RIGHTS = tuple(field.name for field in dataclasses.fields(KeyRights) if field.name != "aliases")


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever has the database and the pepper: bound by no rights."""

    name: str


Author = Operator | Key
"""Who changes keys: an operator, or the holder of a key of the administration."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key, and its text, which is nowhere else."""

    key: Key
    text: Secret


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key, and until when the text that was looked up opens it."""

    key: Key
    text_expires_at_s: float | None

    def is_usable(self, now_s: float) -> bool:
        """Whether the text opens anything now."""
        is_replaced = self.text_expires_at_s is not None and now_s >= self.text_expires_at_s
        return not is_replaced and self.key.is_usable(now_s)


class KeyStore:
    """Blocking; an author with a tenant sees and changes that tenant's keys only.

    Args:
        transactions: Of the database.
        pepper: Keys are stored under it.
        audit: Every change is written there, in the same transaction.
        clock: Unix seconds.
    """

    def __init__(
        self,
        transactions: Transactions,
        pepper: Pepper,
        audit: AuditLog,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transactions = transactions
        self._pepper = pepper
        self._audit = audit
        self._clock = clock

    def find(self, digest: str) -> FoundKey | None:
        """The key with a text of this digest, usable or not.

        Raises:
            StoreError: The database cannot be read.
        """
        keys, digests = schema.keys, schema.key_digests
        query = (
            select(keys, digests.c.digest, digests.c.expires_at_s.label("text_expires_at_s"))
            .join(digests, digests.c.key_id == keys.c.id)
            .where(digests.c.digest == digest)
        )
        with self._transactions.reading() as connection:
            row = connection.execute(query).first()
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        return FoundKey(_key(row), row.text_expires_at_s)

    def keys(self, by: Author, tenant: str | None = None) -> list[Key]:
        """Keys of a tenant, or of all that the author may see, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        table = schema.keys
        query = select(table).order_by(table.c.created_at_s.desc(), table.c.id)
        for whose in (tenant, _tenant(by)):
            if whose is not None:
                query = query.where(table.c.tenant == whose)
        with self._transactions.reading() as connection:
            return self._with_prefixes(connection, [_key(row) for row in connection.execute(query)])

    def key(self, id: str, by: Author) -> Key | None:
        """One key; ``None``: there is none, or it is not the author's to see.

        Raises:
            StoreError: The database cannot be read.
        """
        with self._transactions.reading() as connection:
            return self._load(connection, id, by)

    def create(self, order: KeyOrder, by: Author) -> IssuedKey:
        """Makes a key.

        Raises:
            BadRequest: The order contradicts itself.
            Forbidden: It asks for more rights than its author has.
            StoreError: The database cannot be written.
        """
        now_s = self._clock()
        key = self._ordered(order, by, now_s)
        text = new_key_text(key.kind)
        with self._transactions.writing() as connection:
            connection.execute(schema.keys.insert().values(**_row(key)))
            key = self._add_text(connection, key, text, now_s)
            self._note(connection, by, "create", key, _described(key))
        return IssuedKey(key, text)

    def rotate(self, id: str, overlap_s: float, by: Author) -> IssuedKey | None:
        """Gives a key a new text; older ones open it for ``overlap_s`` more seconds at most.

        Limits, budget and what is spent stay as they are. ``None``: there is no such key.

        Raises:
            BadRequest: The key is revoked or expired.
            Forbidden: It has more rights than the author.
            StoreError: The database cannot be written.
        """
        now_s = self._clock()
        with self._transactions.writing() as connection:
            key = self._load(connection, id, by, lock=True)
            if key is None:
                return None
            if not key.is_usable(now_s):
                raise BadRequest(
                    f"key {id} is revoked or expired: make a new one", code="key_ended"
                )
            # Whoever gets the new text has the rights of the key.
            _check_rights(key, by)
            table = schema.key_digests
            connection.execute(
                table.delete().where(table.c.key_id == id, table.c.expires_at_s <= now_s)
            )
            ends_at_s = now_s + overlap_s
            lasting = or_(table.c.expires_at_s.is_(None), table.c.expires_at_s > ends_at_s)
            connection.execute(
                table.update().where(table.c.key_id == id, lasting).values(expires_at_s=ends_at_s)
            )
            text = new_key_text(key.kind)
            key = self._add_text(connection, key, text, now_s)
            self._note(connection, by, "rotate", key, {"overlap_s": overlap_s})
        return IssuedKey(key, text)

    def revoke(self, id: str, by: Author) -> Key | None:
        """Ends a key for good; again changes nothing. ``None``: there is no such key.

        Raises:
            StoreError: The database cannot be written.
        """
        with self._transactions.writing() as connection:
            key = self._load(connection, id, by, lock=True)
            if key is None or key.revoked_at_s is not None:
                return key
            key = dataclasses.replace(key, revoked_at_s=self._clock())
            table = schema.keys
            connection.execute(
                table.update().where(table.c.id == id).values(revoked_at_s=key.revoked_at_s)
            )
            self._note(connection, by, "revoke", key, {})
        return key

    def _ordered(self, order: KeyOrder, by: Author, now_s: float) -> Key:
        ceiling = by.rights if isinstance(by, Key) else KeyRights()
        ends_at_s = by.expires_at_s if isinstance(by, Key) else None
        rights = order.rights(ceiling)
        if rights.budget_period_s is not None and rights.budget_usd is None:
            raise BadRequest(
                "budget_period_s renews a budget: give budget_usd, too", param="budget_period_s"
            )
        tenant = order.tenant or _tenant(by)
        if order.kind == "client" and tenant is None:
            raise BadRequest("a client's key needs a tenant", param="tenant")
        key = Key(
            id=f"key_{secrets.token_hex(8)}",
            kind=order.kind,
            tenant=tenant,
            name=order.name,
            rights=rights,
            created_at_s=now_s,
            created_by=_actor(by),
            expires_at_s=ends_at_s if order.expires_in_s is None else now_s + order.expires_in_s,
        )
        _check_rights(key, by)
        return key

    def _add_text(self, connection: Connection, key: Key, text: Secret, now_s: float) -> Key:
        connection.execute(
            schema.key_digests.insert().values(
                digest=self._pepper.digest(text.reveal()),
                key_id=key.id,
                prefix=shown_prefix(text, key.kind),
                created_at_s=now_s,
            )
        )
        return self._with_prefixes(connection, [key])[0]

    def _load(
        self, connection: Connection, id: str, by: Author, *, lock: bool = False
    ) -> Key | None:
        table = schema.keys
        query = select(table).where(table.c.id == id)
        tenant = _tenant(by)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        row = connection.execute(query.with_for_update() if lock else query).first()
        return None if row is None else self._with_prefixes(connection, [_key(row)])[0]

    def _with_prefixes(self, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        table = schema.key_digests
        query = select(table.c.key_id, table.c.prefix).order_by(
            table.c.created_at_s.desc(), table.c.expires_at_s.is_not(None), table.c.digest
        )
        lasting = or_(table.c.expires_at_s.is_(None), table.c.expires_at_s > self._clock())
        if len(keys) == 1:
            query = query.where(table.c.key_id == keys[0].id)
        found: dict[str, list[str]] = {}
        for row in connection.execute(query.where(lasting)):
            found.setdefault(row.key_id, []).append(row.prefix)
        return [dataclasses.replace(key, prefixes=tuple(found.get(key.id, ()))) for key in keys]

    def _note(
        self, connection: Connection, by: Author, action: str, key: Key, detail: dict[str, Any]
    ) -> None:
        self._audit.append(
            connection,
            actor=_actor(by),
            action=f"key.{action}",
            subject=key.id,
            detail={"tenant": key.tenant, "name": key.name, **detail},
        )


def _actor(by: Author) -> str:
    return f"key:{by.id}" if isinstance(by, Key) else f"operator:{by.name}"[:128]


def _tenant(by: Author) -> str | None:
    return by.tenant if isinstance(by, Key) else None


def _check_rights(key: Key, by: Author) -> None:
    """Nobody makes or opens a key with more rights than their own."""
    if isinstance(by, Operator):
        return
    if by.kind != "admin":
        raise Forbidden(f"{by.id} is no key of the administration")
    excess = key.rights.excess(by.rights)
    if by.tenant is not None and key.tenant != by.tenant:
        excess = "tenant"
    if by.expires_at_s is not None and not (
        key.expires_at_s is not None and key.expires_at_s <= by.expires_at_s
    ):
        excess = "expires_in_s"
    if excess is not None:
        raise Forbidden(f"{excess}: beyond the rights of {by.id}, which asks for it")


def _described(key: Key) -> dict[str, Any]:
    row = _row(key)
    left_out = ("id", "tenant", "name", "created_at_s", "created_by", "revoked_at_s")
    return {name: value for name, value in row.items() if name not in left_out}


def _row(key: Key) -> dict[str, Any]:
    rights = key.rights
    return {
        "id": key.id,
        "kind": key.kind,
        "tenant": key.tenant,
        "name": key.name,
        "aliases": None if rights.aliases is None else sorted(rights.aliases),
        **{name: getattr(rights, name) for name in _RIGHTS},
        "created_at_s": key.created_at_s,
        "created_by": key.created_by,
        "expires_at_s": key.expires_at_s,
        "revoked_at_s": key.revoked_at_s,
    }


def _key(row: Row[Any]) -> Key:
    rights = KeyRights(
        aliases=None if row.aliases is None else frozenset(row.aliases),
        **{name: row._mapping[name] for name in _RIGHTS},
    )
    return Key(
        id=row.id,
        kind=row.kind,
        tenant=row.tenant,
        name=row.name,
        rights=rights,
        created_at_s=row.created_at_s,
        created_by=row.created_by,
        expires_at_s=row.expires_at_s,
        revoked_at_s=row.revoked_at_s,
    )
