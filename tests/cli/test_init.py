from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.runtime.config import load_config


def test_init_writes_a_configuration_that_loads(tutelage: Any) -> None:
    ran = tutelage("init")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "wrote tutelage.toml; next: tutelage doctor\n"
    config = load_config(environment={})
    assert config.teacher.api_key_env == "OPENAI_API_KEY"
    assert config.student.priced_as == "gpt-4.1-mini"


def test_the_template_shows_the_defaults(tutelage: Any) -> None:
    tutelage("init")
    written, default = load_config(environment={}), load_config(Path("/dev/null"), {})

    assert written.retrieval == default.retrieval
    assert written.prompt == default.prompt
    assert written.cascade == default.cascade
    assert written.store == default.store


def test_init_never_replaces_a_file_unless_forced(tutelage: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("mine")

    refused = tutelage("init", path)

    assert refused.code == 2
    assert refused.line == (
        f"error: {path} exists already: use --force to replace it, or name another"
    )
    assert path.read_text() == "mine"
    assert tutelage("init", path, "--force").code == 0
    assert path.read_text().startswith("# tutelage")


@pytest.mark.parametrize("place", ["none/tutelage.toml", "file/tutelage.toml", "."])
def test_init_says_where_it_could_write(tutelage: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()

    ran = tutelage("init", tmp_path / place, "--force")

    assert ran.code == 2
    assert "cannot be written" in ran.line
    assert "name a file in a folder that exists" in ran.line
