"""LangChain's own integration tests of chat models, against the gateway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.suites.conftest import MODES

pytestmark = pytest.mark.suites

SUITE = Path(__file__).with_name("langchain_suite.py")


def test_langchains_own_tests_pass_in_every_mode(tmp_path: Path) -> None:
    # A process of its own: the suite leaves sockets open, which would fail later tests here.
    report = tmp_path / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", str(SUITE), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None]
    broken = [case.get("name") for case in cases if case.find("error") is not None]
    passed = [case for case in cases if not len(case)]
    assert (failed, broken) == ([], []), ran.stdout[-3000:]
    for mode in MODES:
        assert sum(f"[{mode}" in str(case.get("name")) for case in passed) >= 50
