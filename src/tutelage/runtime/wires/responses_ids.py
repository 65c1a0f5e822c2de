"""Ids of the Responses API that we give out, and the key of what only that API understands."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

PREFIX = "resp_tut"
"""How the id of every response of ours begins."""
KEPT = "responses"
"""The key of a chat message, tool or tool call that holds what no other wire has a word for."""

_FOREIGN_PREFIX = re.compile(r"^(chatcmpl|resp|msg|gen|cmpl)[-_]")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_OUR_ITEM = re.compile(r"(msg|fc|ctc|rs)_tut_")
_LISTED = re.compile(r"[a-z]+_in_tut_")
# Item ids of 64 characters are the longest that the API takes back.
_LONGEST_REST = 40


def kept_in(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is kept for this API only; clients of any wire may have sent something else there."""
    found = item.get(KEPT)
    return found if isinstance(found, Mapping) else {}


def is_ours(id: str) -> bool:
    """Whether a response with this id can be one of ours."""
    return id.startswith(PREFIX)


def response_id(answer_id: str) -> str:
    """The id under which a client sees an answer; ids of ours stay as they are."""
    if is_ours(answer_id):
        return answer_id
    rest = _UNSAFE.sub("", _FOREIGN_PREFIX.sub("", answer_id))
    if not rest or len(rest) > _LONGEST_REST:
        rest = hashlib.sha256(answer_id.encode()).hexdigest()[:32]
    return f"{PREFIX}_{rest}"


def item_id(kind: str, response_id: str, position: int) -> str:
    """The id of an item of a response of ours; ``kind`` is ``msg``, ``fc``, ``ctc`` or ``rs``."""
    return f"{kind}{response_id.removeprefix('resp')}_{position}"


def is_our_item(id: object) -> bool:
    """Whether an item was made here, so that no upstream knows it."""
    return isinstance(id, str) and bool(_OUR_ITEM.match(id))


def listed_id(kind: str, response_id: str, position: int) -> str:
    """The id under which an input item is listed that came without one."""
    return item_id(f"{kind}_in", response_id, position)


def is_listed_id(id: object) -> bool:
    """Whether an input item came without an id."""
    return isinstance(id, str) and bool(_LISTED.match(id))
