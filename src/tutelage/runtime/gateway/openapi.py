"""What the gateway serves, as an OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tutelage.runtime.gateway.feedback import Feedback
from tutelage.version import __version__

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NAME: Final[Schema] = {"type": "string", "minLength": 1}
_REFUSALS: Final[Mapping[str, str]] = {
    "400": "The call is wrong; `param` names the field.",
    "401": "No key, or none of this gateway.",
    "403": "The key does not open this, or none is asked for and a web page is behind the call.",
    "404": "What is asked for does not exist.",
    "408": "The client took too long to send its request.",
    "413": "The body is larger than the gateway reads.",
    "429": "A rate limit or a budget is reached; `Retry-After` says when to come back.",
    "431": "The headers are larger than the gateway reads.",
    "500": "The gateway failed.",
    "502": "The upstream failed.",
    "503": "The upstream or the store of keys is not there, or too many connections are open.",
    "504": "The upstream took too long.",
}


def openapi() -> Schema:
    """The description of every route of the data port, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tutelage gateway",
            "version": __version__,
            "description": "The OpenAI and Anthropic APIs before one runtime.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(),
        },
    }


def _paths() -> Schema:
    call = _operation
    id_path = [{"name": "id", "in": "path", "required": True, "schema": _NAME}]
    page = [
        {"name": "after", "in": "query", "schema": _NAME},
        {"name": "limit", "in": "query", "schema": _whole(1, 100)},
        {"name": "order", "in": "query", "schema": {"enum": ["asc", "desc"]}},
    ]
    include = [{"name": "include", "in": "query", "schema": {"enum": ["prompt"]}}]
    return {
        "/v1/chat/completions": {"post": call("A chat completion.", "ChatCall", streams=True)},
        "/v1/responses": {"post": call("A response.", "ResponseCall", streams=True)},
        "/v1/responses/input_tokens": {"post": call("Tokens of a call.", "ResponseCall")},
        "/v1/responses/{id}": {
            "parameters": id_path,
            "get": call("A stored response."),
            "delete": call("Forgets a stored response."),
        },
        "/v1/responses/{id}/input_items": {
            "parameters": id_path,
            "get": call("The input of a stored response.", parameters=page),
        },
        "/v1/messages": {
            "post": call("A message.", "MessageCall", error="AnthropicError", streams=True)
        },
        "/v1/messages/count_tokens": {
            "post": call("Tokens of a call.", "CountCall", error="AnthropicError")
        },
        "/v1/models": {"get": call("Models that the key opens.")},
        "/v1/models/{id}": {"parameters": id_path, "get": call("One model.")},
        "/v1/embeddings": {"post": call("Passed through.", "EmbeddingCall")},
        "/v1/completions": {"post": call("Passed through.", "CompletionCall", streams=True)},
        "/v1/feedback": {"post": call("How an episode ended.", "Feedback")},
        "/v1/decisions/{id}": {
            "parameters": id_path,
            "get": call("Who served a step, why, and what it cost.", parameters=include),
        },
        "/healthz": {"get": _probe("Whether the process lives.", ())},
        "/readyz": {"get": _probe("Whether it can answer.", ("503",))},
        "/metrics": {
            "get": {
                "summary": "Prometheus metrics; needs an admin key.",
                "responses": {
                    "200": {"description": "Metrics.", "content": {"text/plain": {}}},
                    **_failures("Error"),
                },
            }
        },
        "/openapi.json": {"get": _probe("This description.", ())},
    }


def _operation(
    summary: str,
    body: str | None = None,
    *,
    error: str = "Error",
    streams: bool = False,
    parameters: list[Schema] | None = None,
) -> Schema:
    content: Schema = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {}
    operation: Schema = {
        "summary": summary,
        "responses": {"200": {"description": "Done.", "content": content}, **_failures(error)},
    }
    if body is not None:
        reference = {"$ref": f"#/components/schemas/{body}"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    if parameters:
        operation["parameters"] = parameters
    return operation


def _failures(error: str) -> Schema:
    schema = {"$ref": f"#/components/schemas/{error}"}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": text, "content": content} for status, text in _REFUSALS.items()}


def _probe(summary: str, more: tuple[str, ...]) -> Schema:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "summary": summary,
        "security": [],
        "responses": {
            status: {"description": summary, "content": content} for status in ("200", *more)
        },
    }


def _whole(least: int, most: int | None = None) -> Schema:
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return {"type": "integer", **bounds}


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _schemas() -> Schema:
    parts = {"type": "array", "items": _object({"type": _NAME}, "type")}
    roles = ["system", "developer", "user", "assistant", "tool"]
    message = _object(
        {"role": {"enum": roles}, "content": {"anyOf": [_TEXT, parts]}}, "role", "content"
    )
    turn = _object(
        {"role": {"enum": ["user", "assistant"]}, "content": {"anyOf": [_TEXT, parts]}},
        "role",
        "content",
    )
    sampling: Schema = {
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "stream": {"type": "boolean"},
    }
    several = {"type": "array", "items": message, "minItems": 1}
    turns = {"type": "array", "items": turn, "minItems": 1}
    chat = {"model": _NAME, "messages": several, "max_tokens": _whole(1), "n": _whole(1, 128)}
    asked = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]}
    told = _object({"message": _TEXT, "type": _TEXT}, "message", "type")
    return {
        "Error": _object({"error": told}, "error"),
        "AnthropicError": _object({"type": {"const": "error"}, "error": told}, "type", "error"),
        "ChatCall": _object({**chat, **sampling}, "model", "messages"),
        "ResponseCall": _object(
            {"model": _NAME, "input": asked, "instructions": _TEXT, **sampling}, "model", "input"
        ),
        "MessageCall": _object(
            {"model": _NAME, "messages": turns, "max_tokens": _whole(1), **sampling},
            "model",
            "messages",
            "max_tokens",
        ),
        "CountCall": _object({"model": _NAME, "messages": turns}, "model", "messages"),
        "EmbeddingCall": _object({"model": _NAME, "input": asked}, "model", "input"),
        "CompletionCall": _object({"model": _NAME, "prompt": _TEXT, **sampling}, "model", "prompt"),
        "Feedback": Feedback.model_json_schema(),
    }
