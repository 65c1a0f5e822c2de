"""The guide's code runs, and its table names every gate."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tutelage.training.gates.defaults import default_gates
from tutelage.training.gates.evaluation import Evaluation

GUIDE = (Path(__file__).parents[3] / "docs" / "how-to" / "gates.md").read_text(encoding="utf-8")


def test_the_code_of_the_guide_runs() -> None:
    code = re.search(r"^```py\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert code is not None
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code[1]], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("True success +1.000 on 40 tasks")


def test_the_guide_names_every_default_gate_in_its_order() -> None:
    named = [gate.check(Evaluation(())).gate for gate in default_gates()]
    rows = [line.split("|")[1].strip() for line in GUIDE.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in named] == named
