"""Content blocks of the Messages API as parts of a chat message, and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.types import Message
from tutelage.runtime.wires.native import NATIVE, native_of

Block = dict[str, Any]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*;base64,(.*)", re.DOTALL)
_UNTITLED = "document.pdf"
_ID_LIMIT = 64
_NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")
RAW_ARGUMENTS = "_raw_arguments"
"""Key of a tool's input that holds arguments which are no JSON object."""


def part_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """A text, image or document block as a chat content part.

    What chat has no word for stands under ``NATIVE``: fields to add in ``rest``, or the whole block
    in ``original``.
    """
    kind, source = block.get("type"), block.get("source") or {}
    if kind == "text":
        return _with_rest({"type": "text", "text": block["text"]}, block, ("type", "text"))
    url = _url(source) if kind in ("image", "document") else None
    if kind == "image" and url is not None:
        image = {"type": "image_url", "image_url": {"url": url}}
        return _with_rest(image, block, ("type", "source"))
    if kind == "document" and url is not None and source["type"] == "base64":
        name = block.get("title") or _UNTITLED
        file = {"type": "file", "file": {"filename": name, "file_data": url}}
        return _with_rest(file, block, ("type", "source"))
    return {"type": "text", "text": readable(block), NATIVE: {"original": dict(block)}}


def content_of(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Parts as the content of a chat message: a plain text as a string."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def block_of(part: Mapping[str, Any]) -> Block:
    """A chat content part as a block.

    Raises:
        BadRequest: The Messages API has no such block.
    """
    kind, native = part.get("type"), native_of(part)
    if isinstance(native.get("original"), dict):
        return dict(native["original"])
    rest = rest_of(part)
    if isinstance(part.get("cache_control"), Mapping):
        rest["cache_control"] = part["cache_control"]
    inner = part.get(kind) if kind in ("image_url", "file") else None
    if kind in ("text", "refusal"):
        return {"type": "text", "text": str(part.get(kind) or ""), **rest}
    if kind == "image_url" and isinstance(inner, Mapping):
        return {"type": "image", "source": _source(str(inner.get("url") or "")), **rest}
    if kind == "file" and isinstance(inner, Mapping) and isinstance(inner.get("file_data"), str):
        name = inner.get("filename")
        title = {"title": name} if name and name != _UNTITLED else {}
        return {"type": "document", "source": _source(inner["file_data"]), **title, **rest}
    raise BadRequest(
        f"a content part of type {kind!r} cannot be sent to this model: leave it out",
        param="messages",
        code="unsupported_content",
    )


def rest_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a block, tool result or tool that its chat form has no place for."""
    rest = native_of(item).get("rest")
    return dict(rest) if isinstance(rest, Mapping) else {}


def blocks_of(content: str | Sequence[Mapping[str, Any]] | None) -> list[Block]:
    """The content of a chat message as blocks; blank texts, which the API refuses, are left out.

    Raises:
        BadRequest: The Messages API has no such block.
    """
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content}] if content and content.strip() else []
    blocks = [block_of(part) for part in content]
    return [block for block in blocks if block.get("type") != "text" or _has_text(block)]


def assistant_message(content: Iterable[Block]) -> dict[str, Any]:
    """An assistant's blocks as a chat message; the blocks too, where they say more than it can."""
    blocks = list(content)
    texts = [str(block["text"]) for block in blocks if block["type"] == "text"]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    thoughts = [str(b.get("thinking") or "") for b in blocks if b["type"] == "thinking"]
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    calls = [call_of(block) for block in blocks if block["type"] == "tool_use"]
    if calls:
        message["tool_calls"] = calls
    if not _is_plain(blocks):
        message[NATIVE] = {"content": blocks}
    return message


def assistant_blocks(message: Message) -> list[Block]:
    """An assistant's chat message as blocks."""
    more = message.model_extra or {}
    kept = native_of(more).get("content")
    if isinstance(kept, list) and all(isinstance(b, dict) and b.get("type") for b in kept):
        return [dict(block) for block in kept]
    content = message.content
    if isinstance(content, list):
        # Some endpoints answer with parts of their own, for which no other API has a word.
        content = [part for part in content if part.get("type") in ("text", "refusal")]
    blocks = blocks_of(content)
    if isinstance(more.get("refusal"), str) and more["refusal"].strip():
        blocks.append({"type": "text", "text": more["refusal"]})
    return blocks + [tool_use(call) for call in message.tool_calls or ()]


def call_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """A ``tool_use`` block as a chat tool call."""
    given = block.get("input")
    raw = given.get(RAW_ARGUMENTS) if isinstance(given, Mapping) and len(given) == 1 else None
    arguments = raw if isinstance(raw, str) else orjson.dumps(given or {}).decode()
    function = {"name": str(block.get("name") or ""), "arguments": arguments}
    return {"id": str(block.get("id") or ""), "type": "function", "function": function}


def tool_use(call: Mapping[str, Any]) -> Block:
    """A chat tool call as a ``tool_use`` block."""
    function = call.get("function") or {}
    name = str(function.get("name") or "")
    return {
        "type": "tool_use",
        "id": valid_id(str(call.get("id") or name)),
        "name": name,
        "input": tool_input(str(function.get("arguments") or "")),
    }


def tool_input(arguments: str) -> dict[str, Any]:
    """The arguments of a call; those that are no JSON object stand under ``RAW_ARGUMENTS``."""
    if not arguments.strip():
        return {}
    try:
        given = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        given = None
    return given if isinstance(given, dict) else {RAW_ARGUMENTS: arguments}


def valid_id(id: str) -> str:
    """A tool call's id in the characters that the Messages API takes; equal ids stay equal."""
    if id and len(id) <= _ID_LIMIT and not _NOT_IN_AN_ID.search(id):
        return id
    digest = hashlib.sha256(id.encode(errors="replace")).hexdigest()[:16]
    return f"{_NOT_IN_AN_ID.sub('_', id)[: _ID_LIMIT - 17]}_{digest}"


def readable(block: Mapping[str, Any]) -> str:
    """What a block says, for a model that knows only text."""
    source = block.get("source")
    inner = source if isinstance(source, Mapping) else block
    found = inner.get("content") if inner.get("content") is not None else inner.get("data")
    if inner is source and inner.get("type") not in ("text", "content"):
        found = None
    if isinstance(found, list):
        texts = [part.get("text") for part in found if isinstance(part, Mapping)]
        found = "\n".join(text for text in texts if isinstance(text, str))
    title = block.get("title")
    lines = [line for line in (title, found) if isinstance(line, str) and line]
    return "\n".join(lines) or f"[{block.get('type')}]"


def _with_rest(
    part: dict[str, Any], block: Mapping[str, Any], known: tuple[str, ...]
) -> dict[str, Any]:
    rest = {name: value for name, value in block.items() if name not in known and value is not None}
    return {**part, NATIVE: {"rest": rest}} if rest else part


def _url(source: Mapping[str, Any]) -> str | None:
    """The address of a source; ``None`` if it has none from which the source can be read again."""
    if source.get("type") == "url":
        url = str(source["url"])
    elif source.get("type") == "base64":
        url = f"data:{source['media_type']};base64,{source['data']}"
    else:
        return None
    return url if _source(url) == source else None


def _source(url: str) -> dict[str, Any]:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": found.group(1), "data": found.group(2)}


def _has_text(block: Mapping[str, Any]) -> bool:
    return bool(str(block.get("text") or "").strip())


def _is_plain(blocks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether blocks are what a chat message can say: one text at most, then tool calls."""
    for position, block in enumerate(blocks):
        extras = {name for name, value in block.items() if value is not None and name != "type"}
        if block["type"] == "text":
            if position or extras != {"text"} or not block["text"]:
                return False
        elif block["type"] == "tool_use":
            if block.get("caller") == {"type": "direct"}:
                extras.discard("caller")
            if extras != {"id", "name", "input"}:
                return False
        else:
            return False
    return True
