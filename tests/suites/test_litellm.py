"""LiteLLM's proxy in front of the gateway, and behind it, with the settings of their pages."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from tests.served_gateway import PATHS, call
from tests.suites.clever_upstream import CleverUpstream, served
from tests.suites.conftest import TEACHER, WIRES
from tests.suites.gateways import RunningGateway, serving, write_config
from tests.suites.litellm_proxy import environment, free_port, proxy
from tests.suites.pages import GATEWAY, page
from tests.suites.tool_loops import ANSWER, LOOPS, QUESTION, Asked, Ended
from tests.upstream_answers import OUTPUT_TOKENS, PROMPT_TOKENS

pytestmark = pytest.mark.suites

BEHIND = """\
  - model_name: claude-via-litellm
    litellm_params: {{model: openai/{model}, api_base: {url}, api_key: unused}}
"""
SERVED = {
    "passthrough": "teacher passthrough",
    "student": "student agreed",
    "refused": "teacher disagreed",
}
SERVED_BEHIND = {
    "behind-passthrough": "teacher passthrough",
    "behind-teacher": "teacher always",
    "behind-refused": "teacher disagreed",
}
"""With LiteLLM's proxy as the teacher."""
SERVED_IN_PROCESS = {
    f"{provider}-{mode}": served
    for provider in ("openai", "anthropic")
    for mode, served in SERVED.items()
    if mode != "student"
}
"""With LiteLLM's library as the teacher, asking an endpoint of either provider."""
BEHIND_MODEL, IN_PROCESS_MODEL = "clever-behind", "clever-in-process"
loops = pytest.mark.parametrize("wire", WIRES)
streamed = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


@dataclass(frozen=True)
class Chain:
    """A proxy with gateways before and behind it."""

    proxy: str
    key: str
    """Of the proxy."""
    gateways: dict[str, RunningGateway]
    upstream: CleverUpstream

    def gateway(self, mode: str) -> RunningGateway:
        return self.gateways["wavers" if mode.endswith("refused") else "agrees"]

    def loop(self, wire: str, url: str, model: str, session: str, *, stream: bool) -> Ended:
        """A loop with a tool, asking the API at ``url``."""
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key=self.key, max_retries=0) as one,
            anthropic.Anthropic(base_url=url, api_key=self.key, max_retries=0) as other,
        ):
            headers = {"x-tutelage-session": session}
            return LOOPS[wire](Asked(one, other, model, stream, headers))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    environment()
    folder, port = tmp_path_factory.mktemp("litellm"), free_port()
    key = f"sk-{secrets.token_hex(32)}"
    with ExitStack() as stack:
        upstream = CleverUpstream()
        url = stack.enter_context(served(upstream))
        started = stack.enter_context(
            serving(
                {
                    name: gateway_config(folder / name, url, port, student)
                    for name, student in {
                        "agrees": "obliging",
                        "wavers": "wavering-obliging",
                    }.items()
                },
                # LiteLLM's library reads where its providers are from the environment.
                variables={
                    "LITELLM_KEY": key,
                    "OPENAI_API_BASE": url,
                    "OPENAI_API_KEY": "unused",
                    "ANTHROPIC_API_BASE": url.removesuffix("/v1"),
                    "ANTHROPIC_API_KEY": "unused",
                },
            )
        )
        made = Chain(f"http://127.0.0.1:{port}", key, started, upstream)
        keys = {"TUTELAGE_KEY": "unused", "LITELLM_MASTER_KEY": key}
        stack.enter_context(proxy(folder, proxy_config(made, url), port, keys))
        yield made


def gateway_config(folder: Path, url: str, port: int, student: str) -> Path:
    """The configuration of the page about LiteLLM behind us, and models of its own."""
    shown = page("litellm-behind").blocks("toml")[0]
    shown = shown.replace("127.0.0.1:4000", f"127.0.0.1:{port}")
    endpoint = {"base_url": url, "attempts": 1, "priced_as": "gpt-4.1"}
    behind = {"upstreams": ("proxy",)}
    in_process = {"priced_as": "gpt-4.1", "model": IN_PROCESS_MODEL, "attempts": 1}
    return write_config(
        folder,
        {
            "teacher": {**endpoint, "model": TEACHER, "wires": WIRES},
            "student": {**endpoint, "model": student},
            "retrieval": {"embedder": "hash"},
            "cascade": {"guards": ()},
            "aliases.passthrough": {"mode": "passthrough"},
            "aliases.student": {},
            "aliases.refused": {},
            "aliases.behind-passthrough": {**behind, "mode": "passthrough"},
            "aliases.behind-teacher": {**behind, "policy": "always-teacher"},
            "aliases.behind-refused": behind,
            "upstreams.as-openai": {**in_process, "provider": "openai"},
            "upstreams.as-anthropic": {**in_process, "provider": "anthropic"},
            "aliases.openai-passthrough": {"mode": "passthrough", "upstreams": ("as-openai",)},
            "aliases.openai-refused": {"upstreams": ("as-openai",)},
            "aliases.anthropic-passthrough": {
                "mode": "passthrough",
                "upstreams": ("as-anthropic",),
            },
            "aliases.anthropic-refused": {"upstreams": ("as-anthropic",)},
        },
        written=shown,
    )


def proxy_config(chain: Chain, url: str) -> str:
    """That of the page about LiteLLM in front of us, its model once for each mode, and a model of
    another provider, which we ask for."""
    (shown,) = page("litellm-in-front").blocks("yaml")
    at, end = shown.index("  - model_name:"), shown.index("litellm_settings:")
    models = [
        shown[at:end].replace("agent", mode).replace(GATEWAY, chain.gateway(mode).url)
        for mode in SERVED
    ]
    models.append(BEHIND.format(model=BEHIND_MODEL, url=url))
    settings = shown[end:].replace("[agent]", f"[{', '.join(SERVED)}]")
    return shown[:at] + "".join(models) + settings


@loops
@streamed
@pytest.mark.parametrize("mode", SERVED)
def test_a_loop_runs_through_the_proxy_in_front_of_us(
    chain: Chain, wire: str, stream: bool, mode: str
) -> None:
    session = f"front-{wire}-{stream}-{mode}"

    ended = chain.loop(wire, chain.proxy, mode, session, stream=stream)

    assert ended.text == ANSWER
    if mode == "passthrough":
        assert ended.tokens == (PROMPT_TOKENS, OUTPUT_TOKENS)
    assert min(ended.tokens) > 0
    assert chain.gateway(mode).steps(session, 2) == [SERVED[mode]] * 2


def test_our_headers_and_facts_come_back_through_the_proxy(chain: Chain) -> None:
    opens = {"authorization": f"Bearer {chain.key}"}
    with httpx.Client(base_url=chain.proxy, headers=opens) as client:
        answer = client.post(PATHS["chat"], json=call("chat", "student", QUESTION))

    assert answer.headers["llm_provider-x-tutelage-served"] == "student@obliging"
    assert answer.json()["tutelage"]["reason"] == "agreed"


@loops
@streamed
@pytest.mark.parametrize("mode", SERVED_BEHIND)
def test_a_loop_runs_through_the_proxy_behind_us(
    chain: Chain, wire: str, stream: bool, mode: str
) -> None:
    session = f"behind-{wire}-{stream}-{mode}"

    ended = chain.loop(wire, chain.gateway(mode).url, mode, session, stream=stream)

    assert ended.text == ANSWER
    assert ended.tokens == (PROMPT_TOKENS, OUTPUT_TOKENS)
    assert chain.gateway(mode).steps(session, 2) == [SERVED_BEHIND[mode]] * 2
    _, asked = chain.upstream.requests[-1]
    assert asked["model"] == BEHIND_MODEL


@loops
@streamed
@pytest.mark.parametrize("mode", SERVED_IN_PROCESS)
def test_a_loop_runs_through_the_library(chain: Chain, wire: str, stream: bool, mode: str) -> None:
    session = f"library-{wire}-{stream}-{mode}"
    ended = chain.loop(wire, chain.gateway(mode).url, mode, session, stream=stream)

    assert ended.text == ANSWER
    assert ended.tokens == (PROMPT_TOKENS, OUTPUT_TOKENS)
    assert chain.gateway(mode).steps(session, 2) == [SERVED_IN_PROCESS[mode]] * 2
    path, asked = chain.upstream.requests[-1]
    assert asked["model"] == IN_PROCESS_MODEL
    assert path == ("/messages" if mode.startswith("anthropic") else "/chat/completions")
