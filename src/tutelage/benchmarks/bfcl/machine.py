"""The package's simulated systems, and its checker."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.benchmarks.bfcl.calls import Call
from tutelage.runtime.errors import MissingExtra

_PACKAGE = "bfcl_eval.eval_checker.multi_turn_eval"


class Machine:
    """The systems of one item in one run.

    The package keeps them in globals under the name of a model, and evaluates calls as Python: use
    a name once, and a process of its own.

    Args:
        name: New for every run.
        entry: The package's entry of the item.

    Raises:
        MissingExtra: The package is not installed.
    """

    def __init__(self, name: str, entry: Mapping[str, Any]) -> None:
        self._name = name
        self._entry = dict(entry)
        self._category = str(entry["id"]).rpartition("_")[0]
        self._utils = _module("multi_turn_utils")

    def run(self, calls: Sequence[Call]) -> list[str]:
        """What calls give back; a call that fails gives its error.

        Raises:
            NotCalls: A name is no Python name.
        """
        results, _ = self._utils.execute_multi_turn_func_call(
            func_call_list=[call.python for call in calls],
            initial_config=self._entry["initial_config"],
            involved_classes=self._entry["involved_classes"],
            model_name=self._name,
            test_entry_id=self._entry["id"],
            long_context="long_context" in self._category,
        )
        return [str(result) for result in results]

    def check(
        self, turns: Sequence[Sequence[Sequence[Call]]], truth: Sequence[Sequence[str]]
    ) -> bool:
        """Whether the package's checker accepts a conversation.

        Args:
            turns: Calls by turn and step.
            truth: The gold calls by turn.
        """
        verdict: Mapping[str, Any] = _module("multi_turn_checker").multi_turn_checker(
            [[[call.python for call in step] for step in turn] for turn in turns],
            [list(turn) for turn in truth],
            self._entry,
            self._category,
            self._name,
        )
        return bool(verdict["valid"])

    def close(self) -> None:
        """Frees what the package keeps of this run."""
        kept = vars(self._utils)
        prefix = re.sub(r"[-./:]", "_", self._name)
        for name in [name for name in kept if name.startswith(f"{prefix}_")]:
            del kept[name]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "bfcl_eval", "bfcl") from error
