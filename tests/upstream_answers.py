"""What a scripted upstream says when nothing is wrong, on every wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PROMPT_TOKENS, CACHED_TOKENS, WRITTEN_TOKENS, OUTPUT_TOKENS = 12, 4, 2, 5


HTML = b"<html><body>nginx/1.2 at 10.0.0.7</body></html>"
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True)
class Said:
    """One message of the upstream."""

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    """Id, name and JSON arguments of each tool call."""
    others: tuple[str, ...] = ()
    """Texts of the choices after the first, on the chat wire; the last one goes on."""

    def choice(self, index: int) -> str:
        """The text of one choice."""
        texts = (self.text, *self.others)
        return texts[min(index, len(texts) - 1)]


@dataclass(frozen=True)
class Answer:
    """An answer in one wire, whole and as the events of a stream."""

    body: dict[str, Any]
    events: list[bytes]


def answer_on(path: str, body: Mapping[str, Any], said: Said) -> Answer:
    """The answer of the API at ``path`` (below ``/v1``) to a request."""
    writers = {
        "/chat/completions": _chat,
        "/completions": _completions,
        "/responses": _responses,
        "/messages": _messages,
    }
    return writers[path](body, said)


def sse(data: Mapping[str, Any] | str, name: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def unmetered(answer: Answer) -> Answer:
    """The same answer of an upstream that does not count."""

    def without(event: bytes) -> bytes:
        head, mark, data = event.partition(b"data: ")
        if not data.startswith(b"{"):
            return event
        found = json.loads(data)
        for holder in (found, found.get("message"), found.get("response")):
            if isinstance(holder, dict):
                holder.pop("usage", None)
        is_empty = found.get("choices") == []
        return b"" if is_empty else head + mark + json.dumps(found).encode() + b"\n\n"

    body = {name: value for name, value in answer.body.items() if name != "usage"}
    return Answer(body, [event for event in map(without, answer.events) if event])


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Two numbers for each text: its length and its index."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    rows = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), float(index)]}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": body.get("model"), "data": rows, "usage": usage}


def model_list(names: tuple[str, ...]) -> dict[str, Any]:
    models = [{"id": n, "object": "model", "created": 1, "owned_by": "tests"} for n in names]
    return {"object": "list", "data": models}


def error_event(path: str) -> bytes:
    """How the API at ``path`` says in mid-stream that it failed."""
    if path == "/messages":
        error = {"type": "overloaded_error", "message": "out of memory"}
        return sse({"type": "error", "error": error}, "error")
    if path == "/responses":
        event = {"type": "error", "code": "server_error", "message": "out of memory", "param": None}
        return sse({**event, "sequence_number": 7}, "error")
    return sse({"error": {"message": "out of memory", "type": "server_error", "code": None}})


def first_tool(body: Mapping[str, Any]) -> str:
    """The name of the first tool offered, in the shape of any wire."""
    for tool in body.get("tools") or ():
        return str((tool.get("function") or tool).get("name"))
    return "look"


def last_text(body: Mapping[str, Any]) -> str:
    """The text of the last message, in the shape of any wire."""
    said = body.get("messages") or body.get("input") or body.get("prompt") or ""
    content = said if isinstance(said, str) else said[-1].get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or ())


def _pieces(text: str, size: int = 6) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _openai_usage() -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    }


def _chat(body: Mapping[str, Any], said: Said) -> Answer:
    head = {"id": "chatcmpl-up", "created": 1, "model": body.get("model")}
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in said.calls
    ]
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if calls:
        message["tool_calls"] = calls
    reason = "tool_calls" if calls else "stop"
    indices = range(body.get("n") or 1)
    choices = [
        {
            "index": i,
            "message": {**message, "content": said.choice(i) or None},
            "finish_reason": reason,
        }
        for i in indices
    ]
    whole = {
        **head, "object": "chat.completion", "choices": choices, "usage": _openai_usage(),
    }  # fmt: skip
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(said.text)]
    for index, (id_, name, arguments) in enumerate(said.calls):
        function = {"name": name, "arguments": ""}
        opening = {"index": index, "id": id_, "type": "function", "function": function}
        deltas.append({"tool_calls": [opening]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(arguments)
        ]
    chunk = {**head, "object": "chat.completion.chunk"}
    events = [
        sse({**chunk, "choices": [{"index": i, "delta": delta, "finish_reason": None}]})
        for delta in deltas
        for i in indices
    ]
    events += [
        sse({**chunk, "choices": [{"index": i, "delta": {}, "finish_reason": reason}]})
        for i in indices
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(sse({**chunk, "choices": [], "usage": _openai_usage()}))
    return Answer(whole, [*events, sse("[DONE]")])


def _completions(body: Mapping[str, Any], said: Said) -> Answer:
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": body.get("model")}

    def choice(text: str, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    whole = {**head, "choices": [choice(said.text, "stop")], "usage": _openai_usage()}
    events = [sse({**head, "choices": [choice(piece, None)]}) for piece in _pieces(said.text)]
    return Answer(whole, [*events, sse({**head, "choices": [choice("", "stop")]}), sse("[DONE]")])


def _responses(body: Mapping[str, Any], said: Said) -> Answer:
    items: list[dict[str, Any]] = []
    if said.text:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        items.append(
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
             "content": [part]}
        )  # fmt: skip
    items += [
        {"id": f"fc_{id_}", "type": "function_call", "status": "completed", "call_id": id_,
         "name": name, "arguments": arguments}
        for id_, name, arguments in said.calls
    ]  # fmt: skip
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
    }
    head = {"id": "resp_up", "object": "response", "created_at": 1, "model": body.get("model"),
            "error": None, "incomplete_details": None, "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": body.get("tools") or [],
            "text": body.get("text") or {"format": {"type": "text"}}}  # fmt: skip
    whole = {**head, "status": "completed", "output": items, "usage": usage}
    begun = {**head, "status": "in_progress", "output": [], "usage": None}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    for index, item in enumerate(items):
        events += _item_events(index, item)
    events.append(("response.completed", {"response": whole}))
    return Answer(
        whole,
        [
            sse({"type": name, "sequence_number": number, **fields}, name)
            for number, (name, fields) in enumerate(events)
        ],
    )


def _item_events(index: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    place = {"output_index": index, "item_id": item["id"]}
    if item["type"] == "function_call":
        opened = {**item, "status": "in_progress", "arguments": ""}
        name, whole = "response.function_call_arguments", item["arguments"]
        inner = [(f"{name}.delta", {**place, "delta": piece}) for piece in _pieces(whole)]
        inner.append((f"{name}.done", {**place, "arguments": whole}))
    else:
        opened = {**item, "status": "in_progress", "content": []}
        part = item["content"][0]
        place = {**place, "content_index": 0}
        empty = {**part, "text": ""}
        inner = [("response.content_part.added", {**place, "part": empty})]
        inner += [
            ("response.output_text.delta", {**place, "delta": piece, "logprobs": []})
            for piece in _pieces(part["text"])
        ]
        inner.append(("response.output_text.done", {**place, "text": part["text"], "logprobs": []}))
        inner.append(("response.content_part.done", {**place, "part": part}))
    added = ("response.output_item.added", {"output_index": index, "item": opened})
    return [added, *inner, ("response.output_item.done", {"output_index": index, "item": item})]


def _messages(body: Mapping[str, Any], said: Said) -> Answer:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
    blocks += [
        {"type": "tool_use", "id": id_, "name": name, "input": json.loads(arguments)}
        for id_, name, arguments in said.calls
    ]
    usage = {
        "input_tokens": PROMPT_TOKENS - CACHED_TOKENS - WRITTEN_TOKENS,
        "cache_read_input_tokens": CACHED_TOKENS,
        "cache_creation_input_tokens": WRITTEN_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
    }
    reason = "tool_use" if said.calls else "end_turn"
    whole = {"id": "msg_up", "type": "message", "role": "assistant", "model": body.get("model"),
             "content": blocks, "stop_reason": reason, "stop_sequence": None,
             "usage": usage}  # fmt: skip
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            opened: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
        else:
            opened = {**block, "input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in _pieces(json.dumps(block["input"]))
            ]
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": reason, "stop_sequence": None}
    counted = {"output_tokens": OUTPUT_TOKENS}
    events.append({"type": "message_delta", "delta": ended, "usage": counted})
    events.append({"type": "message_stop"})
    return Answer(whole, [sse(event, event["type"]) for event in events])
