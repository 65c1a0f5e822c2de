"""LangChain's own integration tests of chat models, against the gateway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.suites.conftest import MODES

pytestmark = pytest.mark.suites

FOLDER = Path(__file__).parent
SUITES = [
    # Cases that pass in each mode, at least: the two APIs of OpenAI, and Messages.
    pytest.param("langchain_suite.py", 85, id="openai"),
    pytest.param(
        "langchain_anthropic_suite.py",
        40,
        id="anthropic",
    ),
]


@pytest.mark.parametrize(("suite", "least"), SUITES)
def test_langchains_own_tests_pass_in_every_mode(suite: str, least: int, tmp_path: Path) -> None:
    # A process of its own: the suite leaves sockets open, which would fail later tests here.
    report = tmp_path / "report.xml"
    # One event loop: LangChain keeps its connections from test to test.
    loop = ["-o", "asyncio_default_test_loop_scope=session"]
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", *loop, f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", str(FOLDER / suite), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None]
    broken = [case.get("name") for case in cases if case.find("error") is not None]
    passed = [case for case in cases if not len(case)]
    assert (failed, broken) == ([], []), ran.stdout[-3000:]
    for mode in MODES:
        assert sum(f"[{mode}" in str(case.get("name")) for case in passed) >= least
