"""Archives of games that can be listed but not played."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path


def game_text(solvable: bool = True) -> str:
    """A game file that can be listed but not played."""
    return json.dumps({"pddl_problem": "", "solvable": solvable, "walkthrough": ["look"]})


def write_archive(file: Path, members: Mapping[str, str]) -> Path:
    """A ``tar.xz`` archive of text files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:xz") as tar:
        for name, text in members.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def trial_files(trial: str, **changes: bool) -> dict[str, str]:
    """The two files of a game; ``trial`` is ``<split>/<task>/<trial>``."""
    folder = f"json_2.1.1/{trial}"
    return {f"{folder}/game.tw-pddl": game_text(**changes), f"{folder}/traj_data.json": "{}"}
