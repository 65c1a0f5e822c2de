"""A vLLM server of the student, scripted: adapters, log-probabilities, sleep."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer


class FakeReplica:
    """Serves on a free port while its context is open.

    Args:
        logprobs: Log-probability of each token, by the name that is asked; others: -5.
        loads: Whether it loads adapters.
        sleeps: Whether it can sleep.
    """

    def __init__(
        self, logprobs: dict[str, float] | None = None, *, loads: bool = True, sleeps: bool = False
    ) -> None:
        self.logprobs = logprobs or {}
        self.names = ["student"]
        self.calls: list[tuple[str, Any]] = []
        self.told: Any = None
        """What a completion says in place of log-probabilities."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completion)
        if loads:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        if sleeps:
            app.router.add_post("/sleep", self._note)
            app.router.add_post("/wake_up", self._note)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/v1"

    @property
    def loaded(self) -> list[str]:
        return [
            body["lora_name"] for path, body in self.calls if path.endswith("/load_lora_adapter")
        ]

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.names]})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append((request.path, body))
        if body["lora_path"].endswith("/damaged"):
            return web.json_response({"message": "no adapter there"}, status=400)
        self.names.append(body["lora_name"])
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append((request.path, body))
        self.names.remove(body["lora_name"])
        return web.Response(text="Success")

    async def _completion(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.calls.append((request.path, body))
        if body["model"] not in self.names:
            return web.json_response({"message": "no such model"}, status=404)
        each = self.logprobs.get(body["model"], -5.0)
        told = self.told or [None] + [
            {str(token): {"logprob": each}, "7": {"logprob": -0.1}} for token in body["prompt"][1:]
        ]
        return web.json_response({"choices": [{"index": 0, "prompt_logprobs": told}]})

    async def _note(self, request: web.Request) -> web.Response:
        self.calls.append((request.path_qs, None))
        return web.Response()
