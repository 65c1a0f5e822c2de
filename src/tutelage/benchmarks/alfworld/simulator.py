"""One ALFWorld game on TextWorld's PDDL rules, text grammar and planner.

Import this module inside a function: it needs the ``alfworld`` extra.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alfworld.agents.utils.misc import Demangler
from textworld.envs.pddl.logic import GameLogic, PddlState
from textworld.generator.game import EntityInfo

from tutelage.benchmarks.alfworld.games import REFUSAL
from tutelage.benchmarks.alfworld.planner import Planner, essential_problem

CHANGING = frozenset(
    {"atlocation", "holds", "inreceptacle", "opened", "isclean", "ishot", "iscool", "istoggled"}
    | {"issliced", "ison"}
)
"""Predicates that a command can change, apart from ``checked``, which no goal needs."""


class Fact(NamedTuple):
    """A true predicate with the names of things as the player reads them."""

    name: str
    names: tuple[str, ...]


class Simulator:
    """A game that is ready to be played.

    It produces the text that TextWorld's own environment with ALFWorld's names produces, but
    words each command only once a game: the wording depends on facts that never change.

    Args:
        game_file: A ``game.tw-pddl`` file.
        library: From ``load_library``; the game that it held before can no longer be played.
        planner: Plans for this and other games.
    """

    def __init__(self, game_file: Path, library: ctypes.CDLL, planner: Planner) -> None:
        game = json.loads(game_file.read_text(encoding="utf-8"))
        self.library = library
        self._planner = planner
        self._logic = GameLogic(domain=game["pddl_domain"], grammar=game["grammar"])
        self._state = PddlState(library, game["pddl_problem"], self._logic)
        self._entities = _named_entities(self._state)
        self._wording: dict[tuple[str, ...], str] = {}
        self._actions: dict[str, Any] | None = None
        self._start = tuple(self._state.facts)
        self.intro: str = self._derive("#intro#", {})

    @property
    def won(self) -> bool:
        """Whether the goal holds."""
        return bool(self._state.check_goal())

    @property
    def commands(self) -> Sequence[str]:
        """The commands that are possible now, sorted."""
        return sorted(self._possible())

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What is true now, of the predicates that can change; in no particular order."""
        return tuple(
            Fact(
                fact.name, tuple(self._entities[variable.name].name for variable in fact.arguments)
            )
            for fact in self._state.facts
            if fact.name in CHANGING
        )

    def restart(self) -> None:
        """Goes back to the start of the game, without translating its rules again."""
        self.library.load_sas(self._state.sas.encode())
        for fact in set(self._state.facts) - set(self._start):
            self._state.remove_fact(fact)
        self._state.add_facts(self._start)
        self._actions = None

    def step(self, command: str) -> str:
        """Carries a command out; an impossible one is answered by a refusal and changes nothing."""
        action = self._possible().get(command)
        if action is None:
            return REFUSAL
        self._state.apply(action)
        self._actions = None
        return self._derive(action.feedback_rule, action.mapping)

    def plan(self) -> tuple[str, ...]:
        """Commands that lead from here to the goal, by Fast Downward; empty if there are none."""
        operators = self._planner.plan(self._logic.domain, essential_problem(self._state))
        return tuple(self._state.plan_to_templated_actions(operators, self._entities))

    def _possible(self) -> Mapping[str, Any]:
        if self._actions is None:
            self._actions = {}
            for action in self._state.all_applicable_actions():
                self._actions.setdefault(self._word(action), action)
        return self._actions

    def _word(self, action: Any) -> str:
        # Where the agent stands is no part of "go to desk 1": only what the template names counts.
        used = set(re.findall(r"\w+", action.command_template))
        things = (thing.name for slot, thing in action.mapping.items() if slot.name in used)
        key = (action.name, *things)
        command = self._wording.get(key)
        if command is None:
            action.command_template = self._derive(action.command_template, action.mapping)
            names = {identifier: entity.name for identifier, entity in self._entities.items()}
            command = self._wording[key] = str(action.format_command(names))
        return command

    def _derive(self, symbol: str, mapping: Mapping[Any, Any]) -> str:
        scope = {
            "state": self._state,
            "facts": list(self._state.facts),
            "variables": {
                placeholder.name: self._entities[variable.name]
                for placeholder, variable in mapping.items()
            },
            "mapping": mapping,
            "entity_infos": self._entities,
        }
        return str(self._logic.grammar.derive(symbol, scope))


def _named_entities(state: Any) -> dict[str, Any]:
    entities = {
        variable.name: EntityInfo(variable.name, variable.type)
        for fact in state.facts
        for variable in fact.arguments
    }
    names = Demangler(game_infos=entities)
    for entity in entities.values():
        entity.name = names.demangle_alfred_name(entity.id)
        entity.definite, entity.indefinite = "the", "a"
    return entities
