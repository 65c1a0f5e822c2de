"""At most how many tokens a request has, whatever tokenizer its endpoint counts with."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Any

TOKENS_PER_IMAGE = 5_000
"""More than the largest picture costs at OpenAI, Anthropic and Google (gpt-4o-mini aside, which
bills up to 48,000 at a price that makes up for it)."""
TOKENS_PER_REFERENCE = 50_000
"""For a document that is named by an address or an id: nothing is known of its length."""
TOKENS_FOR_TOOLS = 600
"""Of the instructions that an endpoint adds where tools are offered (Anthropic's price list: up to
530)."""

_PAGE_TOKENS, _PAGE_BYTES = 3_000, 20_000
_BYTES_PER_AUDIO_TOKEN = 50
_CONVERSATION = ("messages", "input", "system", "instructions")
_IMAGES = ("image_url", "input_image", "image", "computer_screenshot")
_DOCUMENTS = ("file", "input_file", "document", "container_upload")
_MEDIA = (*_IMAGES, *_DOCUMENTS, "input_audio")
_HOLDERS = ("image_url", "source", "file", "input_audio")
_CONTENTS = ("data", "url", "file_data", "image_url")
_PDF = ("data:application/pdf", "JVBER")

# Letters of which two in a row are seldom one token.
_RARE = b"jkqvwxz"
_COMMON = bytes(set(string.ascii_lowercase.encode()) - set(_RARE))
_CLASSES = bytes.maketrans(
    bytes(range(256)),
    bytes(
        ord("a") if byte in _COMMON
        else ord(" ") if byte in b" \t\r\n"
        else ord("0") if byte in b"0123456789"
        else ord("A") if byte in string.ascii_uppercase.encode()
        else ord(".")
        for byte in range(256)
    ),
)  # fmt: skip


def text_tokens(text: bytes) -> int:
    """An upper estimate of the tokens of a text.

    A byte is one token, so that digits, punctuation and all that is not ASCII are never
    underestimated by a tokenizer that falls back on bytes, as those of all large models do. Only
    common lower-case letters and white space are half a token, and a whole one where they begin a
    word. So no text has more than twice the estimate; letters drawn at random have about as much,
    ordinary English half of it.

    Args:
        text: UTF-8, or JSON with it inside.
    """
    classes = text.translate(_CLASSES)
    halves = classes.count(b"a") + classes.count(b" ")
    # A letter after something that is no word, and a digit after a space, are tokens of their own.
    whole = classes.count(b".a") + classes.count(b"0a") + classes.count(b" 0")
    return len(text) - (halves - min(whole, halves)) // 2


def prompt_tokens(raw: bytes, body: Mapping[str, Any]) -> int:
    """An upper estimate of the prompt tokens of a call of any wire.

    Pictures and documents in the body count by what they are and not by their bytes. What the body
    only names (a stored response, a prompt template, what a hosted tool finds) is not in it; a PDF
    of dense text alone may have more than is counted for its size.

    Args:
        raw: The body.
        body: The same, decoded.
    """
    counted = TOKENS_FOR_TOOLS if body.get("tools") else 0
    text = raw
    for part in _media(body):
        tokens, content = _media_tokens(part)
        counted += tokens
        if content:
            # Some writers of JSON escape the slashes of base64.
            written = content.encode(errors="surrogatepass")
            for form in (written, written.replace(b"/", b"\\/")):
                text = text.replace(form, b"", 1) if form in text else text
    return counted + text_tokens(text)


def _media(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every picture, document and recording of the conversation."""
    waiting = [body.get(name) for name in _CONVERSATION]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, Mapping):
            if found.get("type") in _MEDIA:
                yield found
                source = found.get("source")
                waiting.append(source.get("content") if isinstance(source, Mapping) else None)
            else:
                waiting.extend(value for value in found.values() if isinstance(value, list | dict))


def _media_tokens(part: Mapping[str, Any]) -> tuple[int, str | None]:
    """Tokens of a picture, document or recording, and what of the body they stand for."""
    kind = part["type"]
    content, medium = _content(part)
    if kind in _IMAGES:
        is_here = medium.startswith("image/") or (content or "").startswith("data:image/")
        return TOKENS_PER_IMAGE, content if is_here else None
    if kind == "input_audio":
        return len(content or "") // _BYTES_PER_AUDIO_TOKEN, content
    if content is None or content.startswith(("http:", "https:")):
        source = part.get("source")
        inside = isinstance(source, Mapping) and source.get("type") in ("text", "content")
        return (0 if inside else TOKENS_PER_REFERENCE), None
    if medium == "application/pdf" or content.startswith(_PDF):
        return _PAGE_TOKENS * (1 + len(content) * 3 // 4 // _PAGE_BYTES), content
    return 0, None


def _content(part: Mapping[str, Any]) -> tuple[str | None, str]:
    """What stands in the body for a part, and its media type where that is told."""
    inner = [part, *(part[name] for name in _HOLDERS if isinstance(part.get(name), Mapping))]
    medium = next((one["media_type"] for one in inner if "media_type" in one), "")
    is_text = any(one.get("type") == "text" for one in inner)
    found = [one[name] for one in inner for name in _CONTENTS if isinstance(one.get(name), str)]
    content = found[0] if found and not is_text else None
    return content, medium if isinstance(medium, str) else ""
