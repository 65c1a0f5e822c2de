"""Who calls: keys looked up once, and remembered for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Engine

from tutelage.runtime.errors import Forbidden, KeysUnavailable, StoreError, Unauthenticated
from tutelage.runtime.gateway.audit import AuditLog
from tutelage.runtime.gateway.caller import Caller
from tutelage.runtime.gateway.key_store import Author, FoundKey, IssuedKey, KeyStore
from tutelage.runtime.gateway.keys import Key, Pepper, is_key_text
from tutelage.runtime.gateway.orders import KeyOrder
from tutelage.runtime.store.transactions import Transactions

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_THREADS = 2
_UNKNOWN_REMEMBERED_S = 10.0
_PAUSE_S = 1.0
"""After a failed look-up the database is left alone so long: each try may block for seconds."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    found: FoundKey | None
    until_s: float


class Keyring:
    """Looks keys up and changes them; database work runs in threads of its own.

    A change made through this object counts at once here, and elsewhere within ``key_cache_s``.

    Args:
        engine: From ``open_engine``; the caller disposes of it.
        pepper: Keys are stored under it.
        key_cache_s: How long a key is remembered, and so may work after it was revoked elsewhere.
        clock: Unix seconds, for expiry.
        ticks: Seconds from any origin that never go back, for what is remembered.
        remembered: Keys remembered at most; as many texts that opened nothing.
    """

    def __init__(
        self,
        engine: Engine,
        pepper: Pepper,
        *,
        key_cache_s: float = 30.0,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        remembered: int = 10_000,
    ) -> None:
        transactions = Transactions(engine)
        self.audit = AuditLog(transactions, pepper, clock=clock)
        self._store = KeyStore(transactions, pepper, self.audit, clock=clock)
        self._pepper = pepper
        self._key_cache_s = key_cache_s
        self._clock = clock
        self._ticks = ticks
        self._most = remembered
        # By the whole digest: keys that begin alike have nothing else in common.
        self._known: OrderedDict[str, _Remembered] = OrderedDict()
        self._unknown: OrderedDict[str, _Remembered] = OrderedDict()
        self._asked: dict[str, asyncio.Task[FoundKey | None]] = {}
        self._generation = 0
        self._retry_at_s = float("-inf")
        self._is_down = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tutelage-keys")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the threads, after what they are doing."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    async def identify(self, token: str | None) -> Caller:
        """Who calls with this text of a key.

        Raises:
            Unauthenticated: There is no text, or it opens nothing (any more).
            Forbidden: It is a key of the administration.
            KeysUnavailable: The database cannot be asked, and the key is not remembered.
        """
        key = await self._identified(token)
        if key.kind != "client":
            raise Forbidden(
                "this key opens the administration, not the models: use one of a client"
            )
        return key.caller()

    async def identify_admin(self, token: str | None) -> Key:
        """The key of the administration with this text.

        Raises:
            Unauthenticated: There is no text, or it opens nothing (any more).
            Forbidden: It is the key of a client.
            KeysUnavailable: The database cannot be asked, and the key is not remembered.
        """
        key = await self._identified(token)
        if key.kind != "admin":
            raise Forbidden("this key opens no administration: use one that begins with tutadmin-")
        return key

    async def create(self, order: KeyOrder, by: Author) -> IssuedKey:
        """Makes a key; its text is shown this once. Errors as in ``KeyStore.create``."""
        return await self._call(lambda: self._store.create(order, by))

    async def keys(self, by: Author, tenant: str | None = None) -> list[Key]:
        """Keys the author may see, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        return await self._call(lambda: self._store.keys(by, tenant))

    async def key(self, id: str, by: Author) -> Key | None:
        """One key, if the author may see it.

        Raises:
            StoreError: The database cannot be read.
        """
        return await self._call(lambda: self._store.key(id, by))

    async def rotate(self, id: str, overlap_s: float, by: Author) -> IssuedKey | None:
        """Gives a key a new text. Errors as in ``KeyStore.rotate``."""
        issued = await self._call(lambda: self._store.rotate(id, overlap_s, by))
        self._forget(id)
        return issued

    async def revoke(self, id: str, by: Author) -> Key | None:
        """Ends a key for good; ``None``: the author has no such key.

        Raises:
            StoreError: The database cannot be written.
        """
        revoked = await self._call(lambda: self._store.revoke(id, by))
        self._forget(id)
        return revoked

    async def _identified(self, token: str | None) -> Key:
        if not token:
            raise Unauthenticated("no key: send one as Authorization: Bearer or x-api-key")
        if not is_key_text(token):
            raise Unauthenticated("this is no key of this gateway: one begins with tut-")
        found = await self._found(self._pepper.digest(token))
        if found is None:
            raise Unauthenticated("this key is unknown here")
        if not found.is_usable(self._clock()):
            raise Unauthenticated("this key is revoked or expired")
        return found.key

    async def _found(self, digest: str) -> FoundKey | None:
        remembered = self._known.get(digest) or self._unknown.get(digest)
        if remembered is not None and self._ticks() < remembered.until_s:
            return remembered.found
        # Requests that come together with one key ask once.
        task = self._asked.get(digest)
        if task is None:
            task = asyncio.create_task(self._look_up(digest))
            self._asked[digest] = task
            task.add_done_callback(lambda done: self._answered(digest, done))
        return await asyncio.shield(task)

    def _answered(self, digest: str, task: asyncio.Task[FoundKey | None]) -> None:
        if self._asked.get(digest) is task:
            del self._asked[digest]
        if not task.cancelled():
            # Those who asked may be gone; nobody else is to be told.
            task.exception()

    async def _look_up(self, digest: str) -> FoundKey | None:
        # What was asked before counts from then on, not from the answer.
        asked_at_s, generation = self._ticks(), self._generation
        if asked_at_s < self._retry_at_s:
            raise KeysUnavailable("keys cannot be looked up now: try again in a moment")
        try:
            found = await self._call(lambda: self._store.find(digest))
        except StoreError as error:
            if not self._is_down:
                logger.error("keys cannot be looked up: %s", error)
            self._is_down = True
            self._retry_at_s = self._ticks() + _PAUSE_S
            raise KeysUnavailable("keys cannot be looked up now: try again in a moment") from error
        self._is_down = False
        if generation == self._generation:
            self._remember(digest, found, asked_at_s)
        return found

    def _remember(self, digest: str, found: FoundKey | None, asked_at_s: float) -> None:
        kept_s = self._key_cache_s
        if found is None:
            kept_s = min(kept_s, _UNKNOWN_REMEMBERED_S)
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        # Apart, so that guesses cannot push out keys.
        place = self._unknown if found is None else self._known
        place[digest] = _Remembered(found, asked_at_s + kept_s)
        if len(place) > self._most:
            place.popitem(last=False)

    def _forget(self, id: str) -> None:
        # A look-up that is under way may have read what was there before.
        self._generation += 1
        self._asked.clear()
        for digest, remembered in list(self._known.items()):
            if remembered.found is not None and remembered.found.key.id == id:
                del self._known[digest]

    async def _call(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)
