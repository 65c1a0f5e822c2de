from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tutelage.training.data.reject import RejectReason

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "training-data.md"


def test_the_code_of_the_page_runs_and_says_that_there_is_nothing_yet(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TUTELAGE_")}
    settings = {
        "TUTELAGE_CACHE": str(tmp_path / "cache"),
        "TUTELAGE_RETRIEVAL__EMBEDDER": "hash",
        "TUTELAGE_TEACHER__MODEL": "gpt-4.1",
        "TUTELAGE_STUDENT__MODEL": "small",
        "TUTELAGE_STUDENT__PRICED_AS": "gpt-4.1-mini",
    }

    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    last = ran.stderr.strip().splitlines()[-1]
    assert "NoExamples: there are no traces" in last


def test_the_page_names_every_reason() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.read_text("utf-8")))
    assert {reason.value for reason in RejectReason} <= named
