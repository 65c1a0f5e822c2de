"""What a client demands of the form of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.runtime.types import ChatRequest

CHOICE = "tool_choice"
FORMAT = "response_format"
PARALLEL = "parallel_tool_calls"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The demands of one request, in the words of the chat API."""

    must_call: bool = False
    """Whether a text alone is no answer."""
    callable: frozenset[str] | None = None
    """Names of the tools that may be called; ``None``: all that are offered."""
    most_calls: int | None = None
    is_json: bool = False
    """Whether a text has to be a JSON object, or to fit ``schema``."""
    schema: Any = None
    """JSON schema of the text; ``None``: any object will do."""
    unknown: str | None = None
    """The parameter that demands what is not known here, so that no answer can be judged."""


def read_form(request: ChatRequest) -> AnswerForm | None:
    """What a request demands; ``None``: nothing, as most do.

    Args:
        request: The request; ``tool_choice``, ``parallel_tool_calls`` and ``response_format`` are
            read as the chat completions API defines them.
    """
    more = request.model_extra or {}
    choice, form = more.get(CHOICE), more.get(FORMAT)
    single = more.get(PARALLEL) is False
    if choice in (None, "auto") and form is None and not single:
        return None
    must_call, callable, known_choice = _calls(choice)
    is_json, schema, known_format = _text(form)
    found = AnswerForm(
        must_call=must_call,
        callable=callable,
        most_calls=1 if single else None,
        is_json=is_json,
        schema=schema,
        unknown=None if known_choice and known_format else FORMAT if known_choice else CHOICE,
    )
    return None if found == AnswerForm() else found


def _calls(choice: object) -> tuple[bool, frozenset[str] | None, bool]:
    """Whether a call is due, which tools it may name, and whether the choice is understood."""
    if choice in (None, "auto"):
        return False, None, True
    if choice == "none":
        return False, frozenset(), True
    if choice == "required":
        return True, None, True
    if not isinstance(choice, Mapping):
        return False, None, False
    if choice.get("type") == "function":
        name = _name(choice)
        return True, frozenset({name or ""}), name is not None
    allowed = choice.get("allowed_tools")
    if choice.get("type") != "allowed_tools" or not isinstance(allowed, Mapping):
        return False, None, False
    listed = allowed.get("tools")
    names = [_name(tool) for tool in listed] if isinstance(listed, list) else [None]
    mode = allowed.get("mode", "auto")
    is_known = None not in names and mode in ("auto", "required")
    return mode == "required", frozenset(name or "" for name in names), is_known


def _name(tool: object) -> str | None:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def _text(form: object) -> tuple[bool, Any, bool]:
    """Whether a text has to be JSON, the schema it has to fit, and whether that is understood."""
    kind = form.get("type") if isinstance(form, Mapping) else None
    if form is None or kind == "text":
        return False, None, True
    if kind == "json_object":
        return True, None, True
    described = form.get("json_schema") if isinstance(form, Mapping) else None
    if kind != "json_schema" or not isinstance(described, Mapping):
        return False, None, False
    # Without a schema this format demands JSON, of whatever kind.
    schema = described.get("schema")
    return True, {} if schema is None else schema, True
