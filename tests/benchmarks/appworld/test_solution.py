from __future__ import annotations

import pytest

from tutelage.benchmarks.appworld.solution import solution_steps


def test_a_solution_is_cut_after_each_statement_that_calls_an_api() -> None:
    code = '''
import re

def tidy(text):
    return text.strip()

def solution(apis, requester) -> None:
    """Says hello."""
    name = "ada"
    page = apis.mail.show(name)
    if page:
        for mail in page:
            apis.mail.read(mail)
    text = tidy("done")
    apis.supervisor.complete_task(answer=text)
    name = None
'''
    steps = solution_steps(code)
    assert [step.splitlines()[-1].strip() for step in steps] == [
        "page = apis.mail.show(name)",
        "apis.mail.read(mail)",
        "apis.supervisor.complete_task(answer=text)",
        "name = None",
    ]
    assert steps[0].startswith("import re\ndef tidy(text):")
    assert steps[2].startswith("text = tidy('done')")


def test_a_solution_that_returns_early_stays_whole() -> None:
    code = (
        "def solution(apis, requester) -> None:\n    if apis.a.b():\n        return\n    apis.c.d()"
    )
    assert solution_steps(code) == [f"{code}\nsolution(apis, requester)"]


def test_returns_of_inner_functions_do_not_count() -> None:
    code = "def solution(apis, requester):\n    def f():\n        return 1\n    apis.c.d(f())"
    assert solution_steps(code) == ["def f():\n    return 1\napis.c.d(f())"]


@pytest.mark.parametrize("code", ["x = 1", "def other(): pass"])
def test_a_module_without_a_solution_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="no function named solution"):
        solution_steps(code)
