"""Recognises a conversation by what was said in it, for clients that name no session."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from tutelage.runtime.errors import StoreError
from tutelage.runtime.steps import INSTRUCTION_ROLES
from tutelage.runtime.types import ChatRequest, Message

logger = logging.getLogger(__name__)

_START: Final = hashlib.sha256(b"tutelage conversation 1").digest()
_WAITING_EPISODES: Final = 16
# Parts that are hashed as text, or that clients need not send back.
_NOT_SAID: Final = frozenset({"text", "thinking", "redacted_thinking", "reasoning"})


class ConversationStore(Protocol):
    """Where several workers share what they remember."""

    async def load(self, tenant: str, digest: str) -> str | None:
        """The episode that was saved last under a digest of 64 hexadecimal digits.

        Raises:
            StoreError: It cannot be read.
        """
        ...

    async def save(self, tenant: str, digest: str, episode_id: str) -> None:
        """Keeps the episode of a digest.

        Raises:
            StoreError: It cannot be written.
        """
        ...


@dataclass(frozen=True, slots=True)
class Prefix:
    """The hashes of one request's transcript, read once."""

    answered: bytes | None
    """Of all up to and including the last assistant message; ``None``: there is none."""
    asked: bytes
    """Of the whole transcript."""


@dataclass(slots=True)
class _Answered:
    """The episodes in which one transcript was answered."""

    waiting: deque[str] = field(default_factory=lambda: deque(maxlen=_WAITING_EPISODES))
    """Those that nobody has gone on with."""
    taken: tuple[str, bytes] | None = None
    """The one gone on with last, and the transcript that did so."""

    def take(self, asked: bytes) -> str | None:
        if self.waiting:
            # The newest: older ones are more likely to have been given up.
            self.taken = (self.waiting.pop(), asked)
        elif self.taken is None or self.taken[1] != asked:
            return None
        return self.taken[0]

    def add(self, episode_id: str) -> None:
        # The same answer to a repeated request is no second episode.
        is_known = self.taken is not None and self.taken[0] == episode_id
        if not is_known and episode_id not in self.waiting:
            self.waiting.append(episode_id)


class Conversations:
    """The episodes of transcripts that were answered lately.

    A transcript is known by a chain of hashes over its messages: each hash covers the one before
    it and one message, so a request is read once, whatever the number of its prefixes. What was
    remembered is given out once: of conversations that were alike so far, each goes on in an
    episode of its own. A repeated request stays in the one it had, as long as nobody else could go
    on from there; a transcript that branches off from one that went on is a new conversation.

    With a store, workers find each other's conversations; of alike ones that went on in different
    workers they may take the same episode. A store that fails is as good as none.

    Args:
        capacity: Transcripts remembered in this process, the least recent forgotten first.
        store: Shared with other workers.
    """

    def __init__(self, capacity: int = 50_000, store: ConversationStore | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"capacity = {capacity}: give 1 or more")
        self._capacity = capacity
        self._store = store
        self._known: OrderedDict[tuple[str, bytes], _Answered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_shared(self) -> bool:
        """Whether other workers find what is remembered here."""
        return self._store is not None

    async def find(self, tenant: str, request: ChatRequest | Prefix) -> str | None:
        """The episode that a request goes on with; ``None``: it begins one.

        Args:
            tenant: Whose request it is; tenants never find each other's episodes.
            request: The request, or its prefix where that is known already.
        """
        prefix = request if isinstance(request, Prefix) else read_prefix(request.messages)
        if prefix.answered is None:
            return None
        known = self._known.get((tenant, prefix.answered))
        if known is None and self._store is not None:
            try:
                loaded = await self._store.load(tenant, prefix.answered.hex())
            except StoreError as error:
                logger.warning("a conversation is not looked up: %s", error)
                loaded = None
            if loaded is not None:
                known = self._entry(tenant, prefix.answered)
                known.add(loaded)
        if known is None:
            return None
        self._known.move_to_end((tenant, prefix.answered))
        return known.take(prefix.asked)

    async def remember(
        self, tenant: str, request: ChatRequest | Prefix, answer: Message, episode_id: str
    ) -> None:
        """Keeps in which episode a request was answered, for the request that will follow it."""
        prefix = request if isinstance(request, Prefix) else read_prefix(request.messages)
        digest = _link(prefix.asked, answer)
        self._entry(tenant, digest).add(episode_id)
        if self._store is not None:
            try:
                await self._store.save(tenant, digest.hex(), episode_id)
            except StoreError as error:
                logger.warning("a conversation is remembered in this process only: %s", error)

    def _entry(self, tenant: str, digest: bytes) -> _Answered:
        entry = self._known.setdefault((tenant, digest), _Answered())
        self._known.move_to_end((tenant, digest))
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return entry


def read_prefix(messages: Iterable[Message]) -> Prefix:
    """The hashes of a transcript.

    Instructions (system and developer messages) are left out: clients write the time and the like
    into them. So is all that clients add or change in passing: absent or ``null`` contents, one
    text or a list of text parts, cache marks, the order and spacing of tool arguments, blanks at
    the ends of an answer.
    """
    asked, answered = _START, None
    for message in messages:
        if message.role in INSTRUCTION_ROLES:
            continue
        asked = _link(asked, message)
        if message.role == "assistant":
            answered = asked
    return Prefix(answered, asked)


def _link(before: bytes, message: Message) -> bytes:
    """The next hash of the chain; lengths keep two messages from having the same bytes."""
    digest = hashlib.sha256(before)
    for part in _parts(message):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _parts(message: Message) -> Iterator[bytes]:
    """What a message says, as tagged byte strings."""
    yield _bytes(message.role)
    text = message.text
    if message.role == "assistant":
        text = text.strip()
    if text:
        yield b"text"
        yield _bytes(text)
    if not isinstance(message.content, str):
        for part in message.content or ():
            if part.get("type") not in _NOT_SAID:
                yield b"part"
                yield _json({name: part[name] for name in part if name != "cache_control"})
    extra = message.model_extra or {}
    for name in ("tool_call_id", "name"):
        value = extra.get(name)
        if isinstance(value, str) and value and message.role != "assistant":
            yield _bytes(name)
            yield _bytes(value)
    for call in message.tool_calls or ():
        yield from _call(call)
    called = extra.get("function_call")
    if isinstance(called, Mapping):
        yield from _call({"function": called})


def _call(call: Mapping[str, Any]) -> Iterator[bytes]:
    yield b"call"
    yield _bytes(str(call.get("id") or ""))
    said = call.get("function") or call.get("custom")
    said = said if isinstance(said, Mapping) else {}
    yield _bytes(str(said.get("name") or ""))
    yield _arguments(said.get("arguments", said.get("input")))


def _arguments(arguments: object) -> bytes:
    if not isinstance(arguments, str):
        return _json({} if arguments is None else arguments)
    try:
        return _json(orjson.loads(arguments or "{}"))
    except orjson.JSONDecodeError:
        return _bytes(arguments)


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass
    try:
        # Integers above 64 bits, and nesting that orjson reads but does not write.
        return json.dumps(value, sort_keys=True, default=repr).encode()
    except RecursionError:
        return b"deep"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
