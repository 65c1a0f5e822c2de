"""A stand-in for the package ``appworld``: its interface, with a task and an app of our own."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SOLUTION = '''
from math import floor


def solution(apis, requester) -> None:
    """Rings the bell."""
    count = floor(2.5)
    token = apis.bell.login()
    for _ in range(count):
        apis.bell.ring(token)
    apis.supervisor.complete_task()
'''

_root = "."


def update_root(root: str) -> str:
    global _root
    _root = root
    return root


def load_task_ids(dataset_name: str = "train") -> list[str]:
    return Path(_root, "data", "datasets", f"{dataset_name}.txt").read_text().split()


class AppWorld:
    def __init__(self, task_id: str, experiment_name: str, ground_truth_mode: str) -> None:
        solution = SOLUTION if ground_truth_mode == "full" else ""
        self.task = SimpleNamespace(
            instruction="Ring the bell twice.",
            supervisor=SimpleNamespace(
                first_name="Ada", last_name="Moor", email="ada@moor.example", phone_number="555"
            ),
            ground_truth=SimpleNamespace(compiled_solution_code=solution),
        )
        if task_id == "bare_1":
            self.task.ground_truth = None
        self.output_directory = str(Path(_root, "experiments", experiment_name, task_id))
        os.makedirs(self.output_directory)
        self.rings = 0
        self.completed = False
        self._names: dict[str, Any] = {"apis": self._apis(), "requester": None}

    def _apis(self) -> Any:
        def ring(token: str) -> None:
            if token != "open":
                raise PermissionError("no token")
            self.rings += 1

        def complete_task(answer: object = None) -> None:
            self.completed = True

        return SimpleNamespace(
            bell=SimpleNamespace(login=lambda: "open", ring=ring),
            supervisor=SimpleNamespace(complete_task=complete_task),
        )

    def execute(self, code: str) -> str:
        if not code:
            return "No code available to execute."
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                exec(compile(code, "<agent>", "exec"), self._names)
        except SyntaxError as error:
            return f"Execution failed. Traceback:\nSyntax error in line:\n{error.text}"
        except (PermissionError, NameError) as error:
            return f"Execution failed. Traceback:\n{error}"
        return shown.getvalue() or "Execution successful."

    def task_completed(self) -> bool:
        return self.completed

    def evaluate(self) -> Any:
        return SimpleNamespace(success=self.rings == 2)

    def close(self) -> None:
        self._names.clear()
