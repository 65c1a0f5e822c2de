"""AppWorld as an environment, through the interface of its package."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.benchmarks.appworld.solution import solution_steps
from tutelage.benchmarks.environment import Opening, OracleAction, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.office.world import code_of
from tutelage.benchmarks.splits import read_split
from tutelage.runtime.errors import BenchmarkError, MissingExtra, WorldMissing

INSTRUCTIONS = """\
You do the tasks of a person in their apps by writing Python. Each turn, reply with one thought \
and one block of code:
```python
print(apis.api_docs.show_app_descriptions())
```
The code is run and you see what it prints. Variables stay. Call an API as \
apis.APP.API(argument=value). Find your way with apis.api_docs.show_app_descriptions(), \
apis.api_docs.show_api_descriptions(app_name=APP) and \
apis.api_docs.show_api_doc(app_name=APP, api_name=API). Accounts and passwords are in \
apis.supervisor. Lists come in pages. Do nothing that the task does not ask for. When you are \
done, call apis.supervisor.complete_task(answer=...), or complete_task() if the task asks for no \
answer."""

SPLITS = ("train", "dev", "test_normal", "test_challenge")
SOLVED = ("train", "dev")
"""Splits whose solutions are published."""
PREFIX = "appworld:"
"""Every task id begins so; exports of training data refuse such tasks."""
INSTALL = "pip install appworld && appworld install && appworld download data"
NOTHING = "Nothing happens"
# Answers of the package where no line of the code was run.
_NOT_RUN = (
    "Execution failed. Traceback:\nSyntax error",
    "No code available to execute.",
)


def appworld_manner() -> Manner:
    """Actions are code of several lines; what shows or searches only reads."""
    return Manner(
        "code",
        max_tokens=400,
        stop=(),
        effects={"apis.*.show_*": "read", "apis.*.search_*": "read"},
    )


def find_root(given: Path | None, environ: Mapping[str, str]) -> Path:
    """The folder above AppWorld's ``data``: the given one, ``APPWORLD_ROOT``, or this one.

    Raises:
        WorldMissing: There are no tasks in it.
    """
    root = (given or Path(environ.get("APPWORLD_ROOT") or Path.cwd())).expanduser().resolve()
    if not (root / "data" / "tasks").is_dir():
        raise WorldMissing(
            f"no AppWorld tasks in {root / 'data' / 'tasks'}: run `{INSTALL}` in the folder that "
            "is to hold them, and name it with --data or APPWORLD_ROOT"
        )
    return root


class AppWorldAdapter:
    """AppWorld (Trivedi et al., ACL 2024), one task at a time.

    Its tasks, apps and documentation, and what is recorded of them, may be passed on in encrypted
    form only; see the package's licence.

    Args:
        root: The folder above ``data``.

    Raises:
        MissingExtra: The package is not installed.
        WorldMissing: ``appworld install`` was not run.
    """

    name: str = "appworld"
    instructions: str = INSTRUCTIONS

    def __init__(self, root: Path) -> None:
        self._root = root
        self._package = _package(root)
        self._world: Any = None
        self._over: Outcome | None = None
        self._steps: Sequence[str] | None = None
        self._next = 0

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of ``train``, ``dev``, ``test_normal`` or ``test_challenge``; ``dev:20`` is 20.

        Raises:
            WorldMissing: There is no such split, or its list was not downloaded.
        """
        wanted = read_split(split, SPLITS, self.name)
        if not (self._root / "data" / "datasets" / f"{wanted.name}.txt").is_file():
            raise WorldMissing(
                f"split {wanted.name!r} of appworld is not in {self._root}: {INSTALL}"
            )
        ids = self._package.load_task_ids(wanted.name)
        return [Task(f"{PREFIX}{id}", wanted.name, "task") for id in ids[: wanted.count]]

    def reset(self, task: Task) -> Opening:
        """Starts a task.

        Raises:
            WorldMissing: The task was not downloaded.
        """
        id = task.id.removeprefix(PREFIX)
        if not id or Path(id).name != id or not (self._root / "data" / "tasks" / id).is_dir():
            raise WorldMissing(f"task {task.id!r} of appworld is not in {self._root}: {INSTALL}")
        self.close()
        self._world = self._package.AppWorld(
            task_id=id,
            # Two processes may play one task at the same time; each keeps files of its own.
            experiment_name=f"tutelage-{os.getpid()}",
            ground_truth_mode="full" if task.split in SOLVED else "minimal",
        )
        person = self._world.task.supervisor
        about = f"You work for {person.first_name} {person.last_name} ({person.email}"
        return Opening(str(self._world.task.instruction), f"{about}, {person.phone_number}).")

    def step(self, action: str) -> Outcome:
        """Runs the code of an answer; code that is no Python changes nothing.

        Raises:
            BenchmarkError: No task was reset.
        """
        world = self._started()
        if self._over is not None:
            return self._over
        code = code_of(action).strip()
        output = str(world.execute(code)).strip()
        if self._steps is not None and self._next < len(self._steps):
            self._next += code == self._steps[self._next]
        if output.startswith(_NOT_RUN):
            return Outcome(f"{NOTHING}: {output}", done=False, success=False)
        if not world.task_completed():
            return Outcome(output, done=False, success=False)
        success = bool(world.evaluate().success)
        self._over = Outcome(f"{NOTHING}: the task is over.", True, success)
        return Outcome(output, done=True, success=success)

    def oracle(self) -> OracleAction:
        """The next step of the published solution.

        Raises:
            BenchmarkError: No task was reset, or AppWorld publishes no solution of it.
        """
        world = self._started()
        if self._steps is None:
            truth = world.task.ground_truth
            code = truth.compiled_solution_code if truth is not None else ""
            if not code:
                raise BenchmarkError(
                    "AppWorld publishes solutions of train and dev only: use --teacher model"
                )
            self._steps = solution_steps(code)
        step = self._steps[min(self._next, len(self._steps) - 1)]
        return OracleAction(f"```python\n{step}\n```", "planner")

    def close(self) -> None:
        """Ends the task and removes what the package wrote about it."""
        if self._world is not None:
            self._world.close()
            shutil.rmtree(self._world.output_directory, ignore_errors=True)
        self._world, self._over, self._steps, self._next = None, None, None, 0

    def _started(self) -> Any:
        if self._world is None:
            raise BenchmarkError("appworld: no task is being played, call reset first")
        return self._world


def _package(root: Path) -> Any:
    if importlib.util.find_spec("appworld") is None:
        raise MissingExtra("appworld", "appworld")
    # The package looks for its data here, also in processes that it starts.
    os.environ["APPWORLD_ROOT"] = str(root)
    package: Any = importlib.import_module("appworld")
    package.update_root(str(root))
    if not any(list(Path(folder, "apps").glob("supervisor*")) for folder in package.__path__):
        raise WorldMissing(f"appworld is installed only in part: {INSTALL}")
    return package
