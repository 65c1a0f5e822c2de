"""A headless Chromium that is driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
from tests.absence import absent

if TYPE_CHECKING:
    from PIL.Image import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ENDPOINT = "DevTools listening on "
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Region:
    """Part of a page, in CSS pixels from its top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass
class Page:
    """A page that was loaded, and what happened meanwhile."""

    socket: aiohttp.ClientWebSocketResponse
    session: str
    messages: list[str] = field(default_factory=list)
    """Console messages, log entries and exceptions."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for."""
    loaded: bool = False
    sent: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol to the page; its result."""
        return await self._answer(await self._send(method, parameters, self.session))

    async def open(self, address: str, *, width: int, height: int) -> None:
        """Loads a page in a window of this size and waits until it is there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        mobile = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        await self.call("Page.navigate", url=address)
        async with asyncio.timeout(PATIENCE_S):
            while not self.loaded:
                self._note(await self.socket.receive_json())

    async def colours(self, scheme: Literal["light", "dark"]) -> None:
        """What the system of the reader prefers."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        told = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def region(self, selector: str) -> Region:
        """Where the first element of a selector is."""
        told = await self.evaluate(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
        )
        return Region(*told)

    async def screenshot(self, region: Region | None = None) -> Image:
        """A picture of a part of the page, or of all of it."""
        from PIL import Image

        options: dict[str, Any] = {"captureBeyondViewport": True}
        if region is not None:
            options["clip"] = {**vars(region), "scale": 1}
        told = await self.call("Page.captureScreenshot", format="png", **options)
        return Image.open(io.BytesIO(base64.b64decode(told["data"]))).convert("RGB")

    async def _send(self, method: str, parameters: Mapping[str, Any], session: str) -> int:
        self.sent += 1
        command = {"id": self.sent, "method": method, "params": parameters}
        await self.socket.send_json({**command, "sessionId": session} if session else command)
        return self.sent

    async def _answer(self, number: int) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = await self.socket.receive_json()
                if told.get("id") == number:
                    assert "error" not in told, told
                    return dict(told["result"])
                self._note(told)

    def _note(self, event: Mapping[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self.loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Log.entryAdded":
                self.messages.append(told["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.messages.append(str(told["args"]))
            case "Runtime.exceptionThrown":
                self.messages.append(told["exceptionDetails"]["text"])


class Chromium:
    """A browser that runs; made by ``open_chromium``."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: str) -> None:
        self._http = http
        self._endpoint = endpoint

    @asynccontextmanager
    async def page(self, path: Path, *, width: int, height: int = 900) -> AsyncIterator[Page]:
        """A file as a page of its own, in a window of this size."""
        async with self._http.ws_connect(self._endpoint, max_msg_size=0) as socket:
            made = Page(socket, "")
            target = await made.call("Target.createTarget", url="about:blank")
            attached = await made.call(
                "Target.attachToTarget", targetId=target["targetId"], flatten=True
            )
            made.session = attached["sessionId"]
            await made.open(path.as_uri(), width=width, height=height)
            yield made
            made.session = ""
            await made.call("Target.closeTarget", targetId=target["targetId"])


@asynccontextmanager
async def open_chromium(folder: Path) -> AsyncIterator[Chromium]:
    """Starts a browser whose profile is in ``folder``, and ends it; skips where there is none."""
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        absent(f"no browser: install one of {', '.join(_NAMES)}")
    process = await asyncio.create_subprocess_exec(
        binary,
        *_FLAGS,
        f"--user-data-dir={folder}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = ""
            while not line.startswith(_ENDPOINT):
                read = await process.stderr.readline()
                assert read, f"{binary} ended before it listened"
                line = read.decode(errors="replace").strip()
        # What it goes on to write would fill the pipe.
        drain = asyncio.create_task(process.stderr.read())
        async with aiohttp.ClientSession() as http:
            yield Chromium(http, line.removeprefix(_ENDPOINT))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if drain is not None:
            await drain
