"""Renders the Helm chart with Go's templates and Sprig, which are what Helm renders with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.deployed import read_yaml

SOURCE = Path(__file__).parent / "chart" / "render.go"
LIBRARIES = Path("/usr/share/gocode")
"""Where Debian puts the sources of Go's libraries."""
NEEDED = ("golang-go", "golang-github-masterminds-sprig-dev", "golang-k8s-sigs-yaml-dev")
"""Debian's packages that the renderer is built of."""


class ChartError(Exception):
    """The chart cannot be rendered with these values."""


@dataclass(frozen=True)
class Renderer:
    """A renderer that is built."""

    program: Path

    def texts(self, chart: Path, values: Mapping[str, Any]) -> dict[str, str]:
        """What every file under ``templates`` says for a release ``demo`` in ``agents``.

        Raises:
            ChartError: The chart refuses the values, or is wrong.
        """
        order = {"values": dict(values), "name": "demo", "namespace": "agents"}
        ran = subprocess.run(
            [self.program, chart],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise ChartError(ran.stderr)
        texts: dict[str, str] = json.loads(ran.stdout)
        return texts

    def objects(self, chart: Path, **values: Any) -> dict[str, Any]:
        """The objects of a release, by kind and name."""
        texts = self.texts(chart, values)
        found = [
            one for name, text in texts.items() if name.endswith(".yaml") for one in read_yaml(text)
        ]
        return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def built(folder: Path) -> Renderer:
    """Builds the renderer in a folder; the test is skipped where Go is not installed."""
    libraries = (LIBRARIES / "src/github.com/Masterminds/sprig", LIBRARIES / "src/sigs.k8s.io/yaml")
    go = shutil.which("go")
    if go is None or not all(library.is_dir() for library in libraries):
        # Not ``absent``: on systems other than Debian these are elsewhere.
        pytest.skip(f"the chart's renderer needs Go: apt-get install {' '.join(NEEDED)}")
    program = folder / "render"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOPATH": str(LIBRARIES),
        "GOCACHE": str(folder / "cache"),
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }
    done = subprocess.run(
        [go, "build", "-o", program, SOURCE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Renderer(program)
