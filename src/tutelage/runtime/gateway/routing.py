"""Which path is what; paths that are not here do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tutelage.runtime.wires.protocol import WireName

RouteName = Literal[
    "chat",
    "responses",
    "messages",
    "count_tokens",
    "stored_response",
    "input_items",
    "models",
    "model",
    "embeddings",
    "completions",
    "feedback",
    "decision",
    "healthz",
    "readyz",
    "metrics",
    "openapi",
]


@dataclass(frozen=True, slots=True)
class Route:
    """What a method of a path does."""

    name: RouteName
    wire: WireName = "chat"
    """In whose words errors are told."""
    is_open: bool = False
    """Whether it needs no key."""


_FIXED: Final[Mapping[str, Mapping[str, Route]]] = {
    "/v1/chat/completions": {"POST": Route("chat")},
    "/v1/responses": {"POST": Route("responses", "responses")},
    "/v1/responses/input_tokens": {"POST": Route("count_tokens", "responses")},
    "/v1/messages": {"POST": Route("messages", "messages")},
    "/v1/messages/count_tokens": {"POST": Route("count_tokens", "messages")},
    "/v1/models": {"GET": Route("models")},
    "/v1/embeddings": {"POST": Route("embeddings")},
    "/v1/completions": {"POST": Route("completions")},
    "/v1/feedback": {"POST": Route("feedback")},
    "/healthz": {"GET": Route("healthz", is_open=True), "HEAD": Route("healthz", is_open=True)},
    "/readyz": {"GET": Route("readyz", is_open=True), "HEAD": Route("readyz", is_open=True)},
    "/metrics": {"GET": Route("metrics")},
    "/openapi.json": {"GET": Route("openapi", is_open=True)},
}
_WITH_ID: Final[tuple[tuple[str, str, Mapping[str, Route]], ...]] = (
    ("/v1/responses/", "/input_items", {"GET": Route("input_items", "responses")}),
    (
        "/v1/responses/",
        "",
        {
            "GET": Route("stored_response", "responses"),
            "DELETE": Route("stored_response", "responses"),
        },
    ),
    ("/v1/models/", "", {"GET": Route("model")}),
    ("/v1/decisions/", "", {"GET": Route("decision")}),
)
_LONGEST_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Match:
    """The route of a path, and the id in it."""

    route: Route | None
    """``None``: the path has no such method."""
    id: str | None = None
    allowed: tuple[str, ...] = ()
    """Methods of the path."""


def match(method: str, path: str) -> Match | None:
    """The route of a call; ``None``: the path does not exist."""
    methods = _FIXED.get(path)
    if methods is not None:
        return Match(methods.get(method), None, tuple(methods))
    for before, after, methods in _WITH_ID:
        id = path.removeprefix(before).removesuffix(after)
        if path == f"{before}{id}{after}" and 0 < len(id) <= _LONGEST_ID and "/" not in id:
            return Match(methods.get(method), id, tuple(methods))
    return None


def wire_of_path(path: str) -> WireName:
    """In whose words an error is told on a path that may not exist."""
    if path.startswith("/v1/messages"):
        return "messages"
    return "responses" if path.startswith("/v1/responses") else "chat"
