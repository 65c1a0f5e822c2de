from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tutelage.overhead.gateway.contenders import Missing
from tutelage.overhead.gateway.installed import (
    litellm_environment,
    litellm_version,
    portkey_environment,
    portkey_version,
)

PACKAGE = "portkey/node_modules/@portkey-ai/gateway/package.json"


def write(path: Path, text: str = "", *, runs: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if runs:
        path.chmod(0o755)


def test_an_environment_that_is_there_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "litellm-proxy"
    write(folder / "bin/litellm")
    write(folder / "lib/python3.11/site-packages/litellm-1.2.3.dist-info/METADATA")
    write(folder / "lib/python3.11/site-packages/litellm_proxy_extras-9.dist-info/METADATA")
    write(tmp_path / PACKAGE, '{"version": "4.5.6"}')

    assert litellm_environment(tmp_path) == folder
    assert litellm_version(folder) == "1.2.3"
    assert portkey_version(tmp_path / "portkey") == "4.5.6"


def test_nothing_is_installed_unless_it_may_be(tmp_path: Path) -> None:
    found = litellm_environment(tmp_path, install=False)

    assert isinstance(found, Missing)
    assert found.reason == f"skipped: not installed in {tmp_path / 'litellm-proxy'}"
    assert not (tmp_path / "litellm-proxy").exists()


def test_an_installation_that_fails_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "python", "#!/bin/sh\necho no room >&2\nexit 7\n", runs=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    found = litellm_environment(tmp_path)

    assert isinstance(found, Missing)
    assert found.reason.startswith("skipped: `")
    assert found.reason.endswith("ended with 7: no room")


def test_an_interpreter_that_is_not_there_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    found = litellm_environment(tmp_path)

    assert isinstance(found, Missing)
    assert "/nowhere/python" in found.reason


def test_without_node_there_is_no_portkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert portkey_environment(tmp_path) == Missing(
        "portkey", "skipped: node and npm are not installed"
    )


def test_portkey_is_installed_with_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bin/node", "#!/bin/sh\n", runs=True)
    npm = f"#!/bin/sh\nmkdir -p $(dirname {tmp_path / PACKAGE})\n"
    npm += (
        f'echo \'{{"version": "4.5.6"}}\' > {tmp_path / PACKAGE}\necho "$@" > {tmp_path / "said"}\n'
    )
    write(tmp_path / "bin/npm", npm, runs=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert portkey_environment(tmp_path) == tmp_path / "portkey"
    assert portkey_environment(tmp_path) == tmp_path / "portkey"
    assert "--ignore-scripts" in (tmp_path / "said").read_text()
