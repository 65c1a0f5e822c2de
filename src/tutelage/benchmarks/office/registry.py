"""The APIs of all apps: their documentation, their tool schemas, and how they are called."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tutelage.benchmarks.office.app import EFFECT, ApiRefused, App
from tutelage.benchmarks.office.desk import Desk, Row

SEPARATOR = "__"
"""Between app and API in the name of a tool: names of tools hold no dot."""

_TOKEN_TEXT = "What login of this app gave."
_ARGUMENT = re.compile(r"    (\w+): (.*)")
_TYPES: Mapping[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list[str]: "array",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an API."""

    name: str
    type: str
    """As in JSON schema; ``any`` for anything."""
    nullable: bool
    required: bool
    default: object
    description: str

    def schema(self) -> Row:
        """Its JSON schema."""
        found: Row = {"description": self.description}
        if self.type != "any":
            found["type"] = [self.type, "null"] if self.nullable else self.type
        if self.type == "array":
            found["items"] = {"type": "string"}
        if not self.required:
            found["default"] = self.default
        return found

    def accepted(self, value: object) -> object:
        """The value as the API gets it.

        Raises:
            ApiRefused: It has another type.
        """
        if self.type == "any" or (value is None and self.nullable):
            return value
        if self.type == "number" and type(value) in (int, float):
            return float(value)  # type: ignore[arg-type]
        if self.type == "array" and isinstance(value, Sequence) and not isinstance(value, str):
            if all(isinstance(part, str) and _storable(part) for part in value):
                return list(value)
        elif type(value) in _TYPES and _TYPES[type(value)] == self.type and _storable(value):
            return value
        wanted = "list of strings" if self.type == "array" else self.type
        raise ApiRefused(422, f"{self.name} must be a {wanted}")


@dataclass(frozen=True, slots=True)
class Api:
    """One documented call."""

    app: str
    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    """In their order; the access token, where one is needed, comes first."""
    returns: str
    effect: Literal["read", "write"]
    needs_token: bool

    @property
    def tool_name(self) -> str:
        """Its name as a tool."""
        return f"{self.app}{SEPARATOR}{self.name}"

    def doc(self) -> Row:
        """What ``api_docs.show_api_doc`` shows."""
        return {
            "app_name": self.app,
            "api_name": self.name,
            "description": self.summary,
            "parameters": [_shown(parameter) for parameter in self.parameters],
            "returns": self.returns,
        }

    def tool(self) -> Row:
        """Its OpenAI tool."""
        return {
            "type": "function",
            "function": {
                "name": self.tool_name,
                "description": f"{self.summary} Returns: {self.returns}",
                "parameters": {
                    "type": "object",
                    "properties": {one.name: one.schema() for one in self.parameters},
                    "required": [one.name for one in self.parameters if one.required],
                    "additionalProperties": False,
                },
            },
        }

    def bound(self, positional: Sequence[object], named: Mapping[str, object]) -> dict[str, object]:
        """Arguments by name, checked.

        Raises:
            ApiRefused: One is missing, unknown, given twice or of another type.
        """
        names = [parameter.name for parameter in self.parameters]
        if len(positional) > len(names):
            raise ApiRefused(422, f"takes at most {len(names)} arguments")
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names:
                raise ApiRefused(422, f"has no argument {name!r}: it takes {', '.join(names)}")
            if name in given:
                raise ApiRefused(422, f"{name} is given twice")
            given[name] = value
        missing = [one.name for one in self.parameters if one.required and one.name not in given]
        if missing:
            raise ApiRefused(422, f"{', '.join(missing)} is missing")
        return {
            one.name: one.accepted(given[one.name]) for one in self.parameters if one.name in given
        }


class Registry:
    """All APIs of some apps.

    Args:
        apps: Their classes, in the order in which they are listed.
    """

    def __init__(self, apps: Sequence[type[App]]) -> None:
        self.apps: Mapping[str, type[App]] = {app.name: app for app in apps}
        self.apis: Mapping[str, Mapping[str, Api]] = {
            app.name: {api.name: api for api in _apis(app)} for app in apps
        }

    def __len__(self) -> int:
        return sum(len(apis) for apis in self.apis.values())

    def find(self, app: str, name: str) -> Api:
        """An API.

        Raises:
            ApiRefused: There is none of this name.
        """
        if app not in self.apis:
            raise ApiRefused(404, f"there is no app {app!r}: use one of {', '.join(self.apis)}")
        found = self.apis[app].get(name)
        if found is None:
            raise ApiRefused(404, f"app {app} has no API {name!r}: see show_api_descriptions")
        return found

    def named(self, tool: str) -> Api:
        """The API that a tool is.

        Raises:
            ApiRefused: There is none of this name.
        """
        app, _, name = tool.partition(SEPARATOR)
        return self.find(app, name)

    def tools(self, apps: Sequence[str] = ()) -> list[Row]:
        """The OpenAI tools of some apps, or of all."""
        return [api.tool() for app in apps or self.apis for api in self.apis[app].values()]

    def effects(self) -> dict[str, Literal["read", "write"]]:
        """Which calls only read, by the dotted name in code and by the name as a tool."""
        apis = [api for found in self.apis.values() for api in found.values()]
        in_code = {f"apis.{api.app}.{api.name}": api.effect for api in apis}
        return {**in_code, **{api.tool_name: api.effect for api in apis}}


class Caller:
    """Calls APIs at one desk and remembers the calls.

    Args:
        registry: What can be called.
        desk: Where.
        limit: So many calls may be made between two ``begin``.
    """

    def __init__(self, registry: Registry, desk: Desk, limit: int = 500) -> None:
        self.registry = registry
        self.desk = desk
        self._limit = limit
        self._apps: dict[str, App] = {}
        self.calls: list[tuple[str, str, dict[str, object]]] = []
        """Calls that were answered since ``begin``: app, API, arguments."""
        self._tried = 0

    def begin(self) -> None:
        """Forgets the calls until now."""
        self.calls = []
        self._tried = 0

    def call(
        self, app: str, name: str, positional: Sequence[object], named: Mapping[str, object]
    ) -> object:
        """What an API answers.

        Raises:
            ApiRefused: It did nothing.
        """
        self._tried += 1
        if self._tried > self._limit:
            raise ApiRefused(429, f"more than {self._limit} calls in one step")
        api = self.registry.find(app, name)
        if self.desk.completed:
            raise ApiRefused(409, "the task is completed, nothing can be done any more")
        given = api.bound(positional, named)
        values = dict(given)
        if api.needs_token:
            token = values.pop("access_token")
            if app not in self.desk.logged_in or token != self.desk.token(app):
                raise ApiRefused(401, f"access_token is not valid: use {app}.login")
        if app not in self._apps:
            self._apps[app] = self.registry.apps[app](self.desk)
        answer: object = getattr(self._apps[app], name)(**values)
        self.calls.append((app, name, given))
        return answer


def _storable(value: object) -> bool:
    """Whether the database can hold it: no half surrogate pairs, no number above 64 bits."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
    return not isinstance(value, int) or abs(value) < 2**63


def _apis(app: type[App]) -> list[Api]:
    methods: dict[str, Any] = {}
    for parent in reversed(app.__mro__):
        methods |= {n: f for n, f in vars(parent).items() if hasattr(f, EFFECT)}
    return [_api(app, name, method) for name, method in methods.items()]


def _api(app: type[App], name: str, method: Any) -> Api:
    summary, described, returns = _docstring(method)
    needs_token = app.needs_login and name != "login"
    parameters = [Parameter("access_token", "string", False, True, None, _TOKEN_TEXT)] * needs_token
    hints = typing.get_type_hints(method)
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        kind, nullable = _type(hints[parameter.name])
        required = parameter.default is inspect.Parameter.empty
        parameters.append(
            Parameter(
                parameter.name,
                kind,
                nullable,
                required,
                None if required else parameter.default,
                described.get(parameter.name, ""),
            )
        )
    effect = getattr(method, EFFECT)
    return Api(app.name, name, summary, tuple(parameters), returns, effect, needs_token)


def _type(hint: object) -> tuple[str, bool]:
    nullable = False
    if isinstance(hint, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        hint, nullable = inner[0], True
    return _TYPES.get(hint, "any"), nullable


def _docstring(method: Any) -> tuple[str, dict[str, str], str]:
    text = inspect.getdoc(method) or ""
    summary, _, rest = text.partition("\n\n")
    described: dict[str, str] = {}
    returns: list[str] = []
    section, name = "", ""
    for line in rest.splitlines():
        if not line.strip():
            continue
        if line in ("Args:", "Returns:"):
            section = line
        elif section == "Returns:":
            returns.append(line.strip())
        elif found := _ARGUMENT.fullmatch(line):
            name = found[1]
            described[name] = found[2]
        elif name:
            described[name] += f" {line.strip()}"
    return " ".join(summary.split()), described, " ".join(returns)


def _shown(parameter: Parameter) -> Row:
    shown: Row = {"name": parameter.name, "type": parameter.type}
    if parameter.required:
        shown["required"] = True
    else:
        shown["default"] = parameter.default
    return {**shown, "description": parameter.description}
