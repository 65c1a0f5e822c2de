"""Whoever gets hold of the database gets no key with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.security.conftest import PEPPER
from tests.served_gateway import WIRES, Served, World, call

from tutelage.runtime.errors import Unauthenticated
from tutelage.runtime.gateway.key_store import Operator
from tutelage.runtime.gateway.keyring import Keyring
from tutelage.runtime.gateway.keys import Pepper
from tutelage.runtime.gateway.orders import KeyOrder, RotationOrder
from tutelage.runtime.secret import Secret
from tutelage.runtime.store.database import open_engine

UPSTREAM_KEY = "sk-upstream-0123456789-abcdefghijklmnop"
COOKIE = "tulip-in-a-cookie"
WRONG = "tut-" + "W" * 43
_KEY = re.compile(rb"(?:tut|tutadmin)-[A-Za-z0-9_-]{12,}")


@dataclass
class Used:
    """A gateway that was used: keys were made, rotated and revoked, and calls were served."""

    served: Served
    keys: list[str]
    """Every text that was ever given out."""
    folder: Path

    def everything(self) -> bytes:
        """All bytes in files: the database, its log, the spool, caches."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files)


@pytest.fixture
async def used(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Used]:
    monkeypatch.setenv("TEACHER_KEY", UPSTREAM_KEY)
    async with world.serve({"teacher.api_key_env": "TEACHER_KEY"}, is_open=False) as served:
        keyring = served.gateway.parts.doorkeeper
        assert isinstance(keyring, Keyring)
        operator = Operator("tests")
        admin = await keyring.create(KeyOrder(name="admin", kind="admin"), operator)
        issued = [
            await keyring.create(KeyOrder(name=f"key {n}", tenant="acme"), admin.key)
            for n in range(3)
        ]
        rotated = await keyring.rotate(issued[1].key.id, RotationOrder().overlap_s, admin.key)
        assert rotated is not None
        assert await keyring.revoke(issued[2].key.id, admin.key)
        texts = [one.text.reveal() for one in (admin, *issued, rotated)]
        for key in (texts[1], texts[4], WRONG):
            for wire in WIRES:
                headers = {"authorization": f"Bearer {key}", "cookie": COOKIE}
                body = call(wire, "two-cascade", store=True) if wire == "responses" else None
                await served.ask(wire, body or call(wire, "passthrough"), headers)
        await served.idle()
        await served.traces(6, "acme")
        yield Used(served, texts, tmp_path)


async def test_no_file_holds_a_key_or_the_pepper_in_any_form(used: Used) -> None:
    found = used.everything()
    assert b"acme" in found, "nothing was written at all"
    for text in (*used.keys, WRONG, UPSTREAM_KEY, PEPPER, COOKIE):
        raw = text.encode()
        assert raw not in found
        secret = raw.partition(b"-")[2]
        for form in (secret, raw[::-1], raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")):
            assert form not in found
        if text.startswith("tut"):
            # Nor the random bytes themselves.
            drawn = base64.urlsafe_b64decode(secret + b"=")
            assert drawn not in found
            assert drawn.hex().encode() not in found


async def test_what_is_shown_of_a_key_is_too_little_to_guess_the_rest(used: Used) -> None:
    """Six characters of 43: 220 bits are left."""
    for text in used.keys:
        longest = max(
            length for length in range(len(text)) if text[:length].encode() in used.everything()
        )
        random_part = longest - len(text.partition("-")[0]) - 1
        # One more may be equal by chance: a row goes on with a time, whose first byte is an "A".
        assert random_part <= 7
    assert not _KEY.search(used.everything())


async def test_no_hash_of_a_key_can_be_made_without_the_pepper(used: Used) -> None:
    """Random keys cannot be guessed, but a plain hash would let one that leaked be looked up."""
    found = used.everything()
    for text in used.keys:
        raw = text.encode()
        for name in ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"):
            digest = hashlib.new(name, raw)
            assert digest.hexdigest().encode() not in found
            assert digest.digest() not in found
        for key in (b"", b"tutelage", b"virtual keys", b"acme"):
            assert hmac.new(key, raw, "sha256").hexdigest().encode() not in found
    # What is there is the HMAC under a key derived from the pepper.
    digests = [Pepper(Secret(PEPPER)).digest(text) for text in used.keys]
    assert all(digest.encode() in found for digest in digests)


async def test_what_is_in_the_database_opens_nothing(used: Used, database: Path) -> None:
    """Every text in the table of keys is tried as a key, and as what stands after its prefix."""
    connection = sqlite3.connect(database)
    texts: set[str] = set()
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            texts |= {str(value) for value in row if value is not None and len(str(value)) < 200}
    connection.close()
    keyring = used.served.gateway.parts.doorkeeper
    tried = 0
    for text in texts:
        for token in (text, f"tut-{text[:43]}", f"tutadmin-{text[:43]}", f"tut-{text:w<43}"):
            for identify in (keyring.identify, keyring.identify_admin):
                with pytest.raises(Unauthenticated):
                    await identify(token)
                tried += 1
    assert tried > 100


async def test_a_copy_of_the_database_with_another_pepper_opens_nothing(
    used: Used, database: Path
) -> None:
    engine = open_engine(f"sqlite:///{database}")
    async with Keyring(engine, Pepper(Secret("another pepper, just as long"))) as other:
        for text in used.keys:
            with pytest.raises(Unauthenticated):
                await other.identify(text)
    async with Keyring(engine, Pepper(Secret(PEPPER))) as same:
        assert (await same.identify(used.keys[1])).tenant == "acme"
    engine.dispose()


async def test_whoever_can_write_the_database_cannot_make_a_key_without_the_pepper(
    used: Used, database: Path
) -> None:
    """A digest of one's own is of no use: nobody knows which text it would belong to."""
    text = "tut-" + "A" * 43
    connection = sqlite3.connect(database)
    (id,) = connection.execute("SELECT id FROM keys WHERE kind = 'client' LIMIT 1").fetchone()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(key_digests)")]
    (row,) = connection.execute("SELECT * FROM key_digests WHERE key_id = ?", (id,)).fetchmany(1)
    values = dict(zip(columns, row, strict=True))
    for digest in (hashlib.sha256(text.encode()).hexdigest(), text):
        values["digest"] = digest
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO key_digests VALUES ({marks})", tuple(values.values()))
    connection.commit()
    connection.close()
    with pytest.raises(Unauthenticated):
        await used.served.gateway.parts.doorkeeper.identify(text)


async def test_a_changed_audit_log_is_found(used: Used, database: Path) -> None:
    keyring = used.served.gateway.parts.doorkeeper
    assert isinstance(keyring, Keyring)
    assert (await keyring.audit.verify()).problem is None
    connection = sqlite3.connect(database)
    connection.execute("UPDATE audit SET actor = 'somebody else' WHERE number = 2")
    connection.commit()
    connection.close()
    assert (await keyring.audit.verify()).problem is not None
