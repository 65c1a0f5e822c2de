from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tutelage.cli.main import app


def test_layouts_are_compared_without_a_server(tmp_path: Path) -> None:
    arguments = ["bench", "layouts", "--hash-embedder", "--demonstrations", "40", "--steps", "4"]
    picked = ["--layout", "per-step", "--layout", "budget of 99 tokens", "--budget", "99"]
    ran = CliRunner().invoke(app, [*arguments, *picked, "--out", str(tmp_path), "--json"])

    assert ran.exit_code == 0, ran.output
    document = json.loads((tmp_path / "layouts.json").read_text())
    assert [one["layout"] for one in document["greedy"]] == ["per-step", "budget of 99 tokens"]
    assert len(document["cascades"]) == 2
    assert "| budget of 99 tokens |" in (tmp_path / "layouts.md").read_text()


def test_the_tables_are_for_people_unless_json_is_asked_for(tmp_path: Path) -> None:
    arguments = ["bench", "layouts", "--hash-embedder", "--demonstrations", "40", "--steps", "2"]
    ran = CliRunner().invoke(
        app, [*arguments, "--layout", "pinned", "--no-cascade", "--out", str(tmp_path)]
    )

    assert ran.exit_code == 0, ran.output
    assert "Layouts of the prompt" in ran.output
    assert "Cascade of three" not in ran.output
    assert str(tmp_path / "layouts.md").split("/")[-1] in ran.output
