"""Parts of messages, between the Responses API and chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest
from tutelage.runtime.wires.fields import check_list, check_object, check_text, wrong

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
# Carried along unchanged, as both APIs have it.
_CACHE_BREAKPOINT = "prompt_cache_breakpoint"


def chat_content(content: object, path: str) -> str | list[dict[str, Any]]:
    """The content of a user's, instructing or tool's message, in chat shapes.

    Raises:
        BadRequest: A part is malformed, or of an unknown type.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong(path, content, "a string or a list of parts")
    return [_chat_part(part, f"{path}.{index}") for index, part in enumerate(content)]


def said(content: object, path: str) -> tuple[str, str | None]:
    """What an assistant's message says: its text, and its refusal if there is one.

    Raises:
        BadRequest: A part is malformed, or neither text nor refusal.
    """
    if isinstance(content, str):
        return content, None
    if content is None:
        return "", None
    text = ""
    refusal: str | None = None
    for index, part in enumerate(check_list(content, path)):
        at = f"{path}.{index}"
        kind = check_text(check_object(part, at).get("type"), f"{at}.type")
        if kind in _TEXTS:
            text += check_text(part.get("text"), f"{at}.text")
        elif kind == "refusal":
            refusal = (refusal or "") + check_text(part.get("refusal"), f"{at}.refusal")
        else:
            raise _unknown(at, kind, "output_text or refusal")
    return text, refusal


def beyond_chat(content: object) -> Iterator[str]:
    """Parts that live at the endpoint that the client thinks it speaks to."""
    for part in content if isinstance(content, list) else ():
        kind = part.get("type")
        if kind in ("input_image", "input_file") and part.get("file_id"):
            yield f"{kind}.file_id"
        if kind == "input_file" and part.get("file_url"):
            yield "input_file.file_url"


def beyond_text(content: object) -> Iterator[str]:
    """The types of the parts that are not text."""
    for part in content if isinstance(content, list) else ():
        if part.get("type") not in _TEXTS and part.get("type") != "refusal":
            yield str(part["type"])


def input_content(content: object, path: str) -> str | list[dict[str, Any]]:
    """Chat content as the content of an input item.

    Raises:
        BadRequest: A part has no counterpart.
    """
    if isinstance(content, list):
        return [_input_part(part, f"{path}.{index}") for index, part in enumerate(content)]
    return str(content or "")


def output_parts(content: object, refusal: object, path: str) -> list[dict[str, Any]]:
    """Chat content of an assistant as parts of an output message.

    Raises:
        BadRequest: A part has no counterpart.
    """
    refusals = [refusal] if isinstance(refusal, str) and refusal else []
    texts: list[str] = []
    if isinstance(content, str) and content:
        texts.append(content)
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if part.get("type") == "text":
            texts.append(str(part.get("text") or ""))
        elif part.get("type") == "refusal":
            refusals.append(str(part.get("refusal") or ""))
        else:
            raise _unknown(f"{path}.{index}", part.get("type"), "text or refusal")
    return [
        *({"type": "output_text", "text": text, "annotations": []} for text in texts),
        *({"type": "refusal", "refusal": text} for text in refusals),
    ]


def _chat_part(part: object, path: str) -> dict[str, Any]:
    fields = check_object(part, path)
    kind = check_text(fields.get("type"), f"{path}.type")
    if kind in _TEXTS:
        made: dict[str, Any] = {
            "type": "text",
            "text": check_text(fields.get("text"), f"{path}.text"),
        }
    elif kind == "input_image":
        made = {"type": "image_url", "image_url": _image(fields, path)}
    elif kind == "input_file":
        names = ("file_data", "file_id", "filename", "file_url")
        file = {
            name: check_text(fields[name], f"{path}.{name}") for name in names if fields.get(name)
        }
        if not file.keys() & {"file_data", "file_id", "file_url"}:
            raise BadRequest(f"{path}: give file_data, file_id or file_url", param=path)
        made = {"type": "file", "file": file}
    elif kind == "input_audio":
        made = {
            "type": "input_audio",
            "input_audio": dict(check_object(fields.get("input_audio"), f"{path}.input_audio")),
        }
    elif kind == "refusal":
        made = {"type": "text", "text": check_text(fields.get("refusal"), f"{path}.refusal")}
    else:
        raise _unknown(path, kind, "input_text, input_image or input_file")
    if fields.get(_CACHE_BREAKPOINT) is not None:
        made[_CACHE_BREAKPOINT] = fields[_CACHE_BREAKPOINT]
    return made


def _image(part: Mapping[str, Any], path: str) -> dict[str, Any]:
    if part.get("file_id") and not part.get("image_url"):
        # Never sent on: only an upstream of this wire may take such a part.
        return {"url": check_text(part["file_id"], f"{path}.file_id")}
    image: dict[str, Any] = {
        "url": check_text(part.get("image_url"), f"{path}.image_url", empty=False)
    }
    if part.get("detail") not in (None, "auto"):
        image["detail"] = check_text(part["detail"], f"{path}.detail")
    return image


def _input_part(part: Mapping[str, Any], path: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        made: dict[str, Any] = {"type": "input_text", "text": str(part.get(kind) or "")}
    elif kind == "image_url":
        image = part.get("image_url") or {}
        made = {
            "type": "input_image",
            "image_url": str(image.get("url") or ""),
            "detail": image.get("detail") or "auto",
        }
    elif kind == "file":
        made = {"type": "input_file", **(part.get("file") or {})}
    elif kind == "input_audio":
        made = {"type": "input_audio", "input_audio": part.get("input_audio")}
    else:
        raise _unknown(path, kind, "text, image_url or file")
    if part.get(_CACHE_BREAKPOINT) is not None:
        made[_CACHE_BREAKPOINT] = part[_CACHE_BREAKPOINT]
    return made


def _unknown(path: str, kind: object, wanted: str) -> BadRequest:
    return BadRequest(
        f"{path}.type = {str(kind)[:40]!r}: give {wanted}",
        param=f"{path}.type",
        code="invalid_value",
    )
