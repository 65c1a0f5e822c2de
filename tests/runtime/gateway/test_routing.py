"""Which path is what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.served_gateway import Served, World

from tutelage.runtime.gateway.routing import match, wire_of_path

PATHS = {
    ("POST", "/v1/chat/completions"): ("chat", None),
    ("POST", "/v1/responses"): ("responses", None),
    ("GET", "/v1/responses/resp_1"): ("stored_response", "resp_1"),
    ("DELETE", "/v1/responses/resp_1"): ("stored_response", "resp_1"),
    ("GET", "/v1/responses/resp_1/input_items"): ("input_items", "resp_1"),
    ("POST", "/v1/responses/input_tokens"): ("count_tokens", None),
    ("POST", "/v1/messages"): ("messages", None),
    ("POST", "/v1/messages/count_tokens"): ("count_tokens", None),
    ("GET", "/v1/models"): ("models", None),
    ("GET", "/v1/models/agent"): ("model", "agent"),
    ("POST", "/v1/embeddings"): ("embeddings", None),
    ("POST", "/v1/completions"): ("completions", None),
    ("POST", "/v1/feedback"): ("feedback", None),
    ("GET", "/v1/decisions/abc"): ("decision", "abc"),
    ("GET", "/healthz"): ("healthz", None),
    ("HEAD", "/readyz"): ("readyz", None),
    ("GET", "/metrics"): ("metrics", None),
}


@pytest.mark.parametrize(("call", "meant"), PATHS.items())
def test_a_path_and_a_method_are_a_route(
    call: tuple[str, str], meant: tuple[str, str | None]
) -> None:
    found = match(*call)

    assert found is not None
    assert found.route is not None
    assert (found.route.name, found.id) == meant


@pytest.mark.parametrize("call", [call for call in PATHS if call[0] != "HEAD"])
def test_another_method_of_a_path_is_not_allowed(call: tuple[str, str]) -> None:
    found = match("PATCH", call[1])

    assert found is not None
    assert found.route is None
    assert call[0] in found.allowed


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/admin/keys",
        "/v1/chat/completions/",
        "/v1/responses/",
        "/v1/responses/a/b",
        "/v1/responses//input_items",
        "/v1/models/",
        "/v1/models/" + "x" * 300,
        "/v1/decisions/a/../../admin",
        "/V1/models",
        "//v1/models",
    ],
)
async def test_an_unknown_path_does_not_exist_and_is_never_relayed(
    path: str, served: Served, world: World
) -> None:
    assert match("GET", path) is None

    got = await served.send("GET", path)

    # The client library resolves dots before it sends.
    assert got.status == 404
    assert world.teacher.calls() == 0


@given(st.text(), st.text())
def test_any_text_is_matched_or_not(method: str, path: str) -> None:
    found = match(method, path)

    assert found is None or found.route is None or found.route.name


def test_only_health_needs_no_key() -> None:
    routes = [match(*call) for call in PATHS]
    is_open = {
        found.route.name for found in routes if found and found.route and found.route.is_open
    }

    assert is_open == {"healthz", "readyz"}


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("/v1/messages/batches", "messages"),
        ("/v1/responses/x/cancel", "responses"),
        ("/v1/files", "chat"),
        ("/favicon.ico", "chat"),
    ],
)
def test_errors_of_unknown_paths_are_told_in_the_words_of_their_api(path: str, wire: str) -> None:
    assert wire_of_path(path) == wire
