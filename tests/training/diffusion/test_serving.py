from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.diffusion.toys import toy_student

from tutelage.runtime.errors import ConfigError
from tutelage.training.diffusion.serving import cache_for, serve_folder
from tutelage.training.diffusion.student import load_diffusion_student

OPTIONS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "name": "student",
    "rule": "entropy",
    "threshold": None,
    "cache": "auto",
    "rows": 4,
    "threads": 1,
    "device": "cpu",
    "ready": print,
}


def test_the_cache_is_chosen_by_the_attention() -> None:
    assert cache_for("auto", "block-causal") == "exact"
    assert cache_for("auto", "full") == "none"
    assert cache_for("approximate", "full") == "approximate"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cache": "exact"}, "needs a block-causal student"),
        ({"cache": "best"}, "use auto, none, exact or approximate"),
        ({"rule": "best"}, "commit rule 'best' is unknown"),
        ({"device": "abacus"}, "device = 'abacus' cannot be used"),
        ({"host": "192.0.2.1"}, "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder = toy_student().save(tmp_path)
    with pytest.raises(ConfigError, match=words):
        serve_folder(folder, **{**OPTIONS, **change})


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    folder = toy_student().save(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve_folder(folder, **{**OPTIONS, "port": port})


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    folder = toy_student(attention="block-causal").save(tmp_path)
    told: list[str] = []

    def ready(base_url: str) -> None:
        told.append(base_url)
        # As Ctrl-C does; the server finishes and gives the signal back.
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        serve_folder(folder, **{**OPTIONS, "ready": ready})
    assert told[0].startswith("http://127.0.0.1:")
    assert told[0].endswith("/v1")
    assert load_diffusion_student(folder, dtype=torch.float16).model.norm.weight.dtype == (
        torch.float16
    )


@pytest.mark.slow
def test_the_command_serves_a_folder(tmp_path: Path) -> None:
    folder = toy_student().save(tmp_path / "student")
    command = [sys.executable, "-m", "tutelage.cli.main", "student", "serve"]
    options = ["--diffusion", str(folder), "--name", "mine", "--threads", "1", "--json"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("}"):
                    break
            told = json.loads("".join(lines))
            body = {"model": "mine", "messages": [{"role": "user", "content": "go to desk 1"}]}
            asked = urllib.request.Request(
                f"{told['base_url']}/chat/completions", json.dumps(body).encode()
            )
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(asked, timeout=60) as answer:
                usage = json.loads(answer.read())["usage"]
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
    assert told["model"] == "mine"
    assert usage["forwards"] >= 1
    assert code == 130


@pytest.mark.slow
def test_a_folder_that_is_no_student_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tutelage.cli.main", "student", "serve"]
    ran = subprocess.run(
        [*command, "--diffusion", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "is no diffusion student" in ran.stderr
