"""The office as a world for agents that call tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tutelage.benchmarks.environment import Outcome
from tutelage.benchmarks.manner import Manner
from tutelage.benchmarks.office.app import ApiRefused
from tutelage.benchmarks.office.catalogue import office_apis
from tutelage.benchmarks.office.oracle import Wording
from tutelage.benchmarks.office.plan import PlannedCall, PlannedStep
from tutelage.benchmarks.office.play import NOTHING
from tutelage.benchmarks.office.registry import SEPARATOR
from tutelage.benchmarks.office.seat import Seat

OUTPUT_LIMIT = 4_000
"""Characters that are shown of what one step gave back."""

INSTRUCTIONS = """\
You do the tasks of a person in their apps by calling tools. Each turn, call one tool; where you \
cannot, reply with the call as JSON and nothing else: \
{"tool_calls":[{"name":"mail__search_mail","arguments":"{\\"folder\\": \\"inbox\\"}"}]}. Most apps \
want access_token: take username and password from supervisor__show_account_passwords and get it \
from APP__login. Documentation is in api_docs__show_app_descriptions, \
api_docs__show_api_descriptions and api_docs__show_api_doc. Lists come in pages of 10: page 0, \
page 1, and so on. Change nothing that the task does not ask for. When you are done, call \
supervisor__complete_task, with answer if the task asks for one."""


class NoCalls(Exception):
    """An action names no tool calls."""


def calls_of(action: str) -> list[tuple[str, dict[str, Any]]]:
    """The tool calls of an action: names and arguments.

    Args:
        action: ``{"tool_calls": [{"name", "arguments"}]}``; arguments are an object or its JSON,
            and may stand in ``function`` as on the wire.

    Raises:
        NoCalls: It is something else.
    """
    try:
        calls = json.loads(action)["tool_calls"]
        found = []
        for call in calls:
            function = call.get("function", call)
            arguments = function.get("arguments") or {}
            if isinstance(arguments, str):
                arguments = json.loads(arguments)
            if not isinstance(function["name"], str) or not isinstance(arguments, Mapping):
                raise NoCalls("a tool call has a name and an object of arguments")
            found.append((function["name"], dict(arguments)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NoCalls("reply with a tool call") from error
    if not found:
        raise NoCalls("reply with a tool call")
    return found


def call_text(call: PlannedCall) -> str:
    """A call as the text of an action."""
    # Arguments are text inside the text, as on the wire and in histories.
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    name = f"{call.app}{SEPARATOR}{call.api}"
    calls = [{"name": name, "arguments": arguments}]
    return json.dumps({"tool_calls": calls}, separators=(",", ":"), ensure_ascii=False)


def _step_text(step: PlannedStep) -> str:
    return call_text(step.calls[0])


def office_tools_manner() -> Manner:
    """Actions are tool calls."""
    registry = office_apis()
    return Manner(
        "tools",
        max_tokens=200,
        stop=(),
        effects=registry.effects(),
        tools=tuple(registry.tools()),
    )


class OfficeToolsWorld(Seat):
    """The same apps and tasks, worked by OpenAI tool calls."""

    name: str = "office-tools"
    instructions: str = INSTRUCTIONS

    def __init__(self) -> None:
        super().__init__(Wording(_step_text, call_text), by_call=True)

    def step(self, action: str) -> Outcome:
        """Makes the calls of an action in their order, up to the first that is refused.

        Raises:
            BenchmarkError: No task was reset.
        """
        play = self.playing()
        if play.verdict is not None:
            return play.ended()
        play.caller.begin()
        before = play.writes()
        shown: list[str] = []
        failed = False
        try:
            for tool, arguments in calls_of(action):
                api = office_apis().named(tool)
                answer = play.caller.call(api.app, api.name, (), arguments)
                shown.append(_cut(json.dumps(answer, ensure_ascii=False)))
        except NoCalls as problem:
            failed, shown = True, [f"{NOTHING}: {problem}"]
        except ApiRefused as refusal:
            failed = True
            shown.append(str(refusal) if shown else f"{NOTHING}: {refusal}")
        return play.stepped("\n".join(shown), code="", failed=failed, writes_before=before)


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_LIMIT:
        return text
    return f"{text[:OUTPUT_LIMIT]} ... (output is cut at {OUTPUT_LIMIT} characters)"
