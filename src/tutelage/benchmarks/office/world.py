"""The office as a world for agents that write code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tutelage.benchmarks.environment import Opening, Outcome, Task
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.office.catalogue import office_apis
from tutelage.benchmarks.office.oracle import Wording
from tutelage.benchmarks.office.plan import PlannedCall, PlannedStep
from tutelage.benchmarks.office.play import NOTHING
from tutelage.benchmarks.office.seat import Seat
from tutelage.benchmarks.office.shell.shell import Shell

INSTRUCTIONS = """\
You do the tasks of a person in their apps by writing Python. Each turn, reply with one thought \
and one block of code:
```python
print(apis.api_docs.show_app_descriptions())
```
The code is run and you see what it prints. Variables stay. Call an API as \
apis.APP.API(argument=value). Start with apis.api_docs.show_app_descriptions(), \
apis.api_docs.show_api_descriptions(app_name=APP) and \
apis.api_docs.show_api_doc(app_name=APP, api_name=API). Most apps want access_token as their first \
argument: take username and password from apis.supervisor.show_account_passwords() and get it from \
apis.APP.login(username=..., password=...). Lists come in pages of 10: page=0, page=1, and so on. \
Change nothing that the task does not ask for. When you are done, call \
apis.supervisor.complete_task(answer=...), or complete_task() if the task asks for no answer."""

_FENCE = re.compile(
    r"^[ \t]{0,3}```[ \t]*(\w*)[ \t]*\n(.*?)(?:^[ \t]{0,3}```[ \t]*$|\Z)", re.M | re.S
)
QUIET = "Done. Nothing was printed."


def code_of(answer: str) -> str:
    """The Python of an answer: of its fences, or all of it where there is none."""
    found = [match[2] for match in _FENCE.finditer(answer)]
    return "\n".join(found) if found else answer


def _call_text(call: PlannedCall) -> str:
    arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    return f"What is missing is this.\n```python\napis.{call.app}.{call.api}({arguments})\n```"


def _step_text(step: PlannedStep) -> str:
    return step.block.text


def office_manner() -> Manner:
    """Actions are code of several lines."""
    return Manner("code", max_tokens=400, stop=(), effects=office_apis().effects())


class OfficeWorld(Seat):
    """Apps over SQLite that are worked by code; see `tutelage.benchmarks.environment.Environment`.

    Args:
        shell: Where the code runs; by default a confined process of its own.
    """

    name: str = "office"
    instructions: str = INSTRUCTIONS

    def __init__(self, shell: Shell | None = None) -> None:
        apis: Mapping[str, Sequence[str]] = {a: list(x) for a, x in office_apis().apis.items()}
        super().__init__(Wording(_step_text, _call_text), by_call=False)
        self._shell = shell or Shell(apis)

    def reset(self, task: Task) -> Opening:
        """Starts a task with a fresh office and no variables.

        Raises:
            WorldMissing: The task is not one of this world's.
        """
        opening = super().reset(task)
        self._shell.reset()
        return opening

    def step(self, action: str) -> Outcome:
        """Runs the code of an answer.

        Raises:
            BenchmarkError: No task was reset.
            WorkerDied: The shell does not start.
        """
        play = self.playing()
        if play.verdict is not None:
            return play.ended()
        code = code_of(action)
        play.caller.begin()
        before = play.writes()
        ran = self._shell.run(code, play.caller.call)
        output = ran.output.strip() or QUIET
        if ran.failure == "lost":
            play.oracle().forget()
        if ran.failure == "not run":
            output = f"{NOTHING}: {output}"
        return play.stepped(output, code=code, failed=ran.failure is not None, writes_before=before)

    def close(self) -> None:
        """Ends the shell and frees the databases."""
        self._shell.close()
        super().close()
