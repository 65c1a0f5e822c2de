"""Writes docs/reference from the code, so that it cannot say anything else."""

from __future__ import annotations

import ast
import inspect
import sys
import tomllib
import types
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tutelage.cli.main import EXIT_CODES, app
from tutelage.runtime import config, errors

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py (`make docs`); edit the code instead. -->\n"
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "≤"}


def pages() -> dict[str, str]:
    """The text of every page by its file name."""
    return {
        "cli.md": NOTE + "\n".join(_cli()),
        "config.md": NOTE + "\n".join(_config()),
        "errors.md": NOTE + "\n".join(_errors()),
        "prices.md": NOTE + "\n".join(_prices()),
    }


def main() -> None:
    """Writes the pages; with ``--check`` says which are out of date and ends with 1."""
    stale = [name for name, text in pages().items() if _stored(name) != text]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date: {', '.join(stale)}; run `make docs`" if stale else 0)
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(pages()[name], encoding="utf-8")
        print(f"wrote {REFERENCE / name}")


def _stored(name: str) -> str | None:
    file = REFERENCE / name
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _cli() -> Iterator[str]:
    root = typer.main.get_command(app)
    yield "# Command line\n"
    yield " ".join(EXIT_CODES.split()) + "\n"
    yield "`--help` after any command prints its options. `--json` prints for machines.\n"
    yield from _command(root, "tutelage")


def _command(command: Any, name: str) -> Iterator[str]:
    """A command and all that stand below it; typer gives its parameters no public type."""
    children = getattr(command, "commands", {})
    context = typer.Context(command, info_name=name)
    if not children:
        places = [
            one.name.upper() if one.required else f"[{one.name.upper()}]"
            for one in command.params
            if one.param_type_name == "argument"
        ]
        yield f"## {name}\n\n{_line(command.help)}\n"
        yield f"`{' '.join([name, *places, '[OPTIONS]'])}`\n"
    elif command.help and name != "tutelage":
        yield f"## {name}\n\n{_line(command.help)}\n"
    rows = [_parameter(one, context) for one in command.params if not one.hidden]
    if rows:
        yield from _table(("parameter", "meaning"), rows)
    for child, below in children.items():
        yield from _command(below, f"{name} {child}")


def _parameter(parameter: Any, context: typer.Context) -> tuple[str, str]:
    _, text = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`", _line(text)
    return ", ".join(f"`{name}`" for name in sorted(parameter.opts, key=len)), _line(text)


def _config() -> Iterator[str]:
    yield "# Configuration\n"
    yield (
        f"Read from `{config.DEFAULT_FILE}` in the working folder or the file given by\n"
        "`--config`, then from the environment, then from `--set key=value`; the later wins.\n"
        "An unknown key is an error. `tutelage init` writes a file with comments.\n"
    )
    yield (
        f"`{config.ENVIRONMENT_PREFIX}CASCADE__SAMPLES=5` sets `cascade.samples`: the prefix, and\n"
        "two underscores for each dot. Only keys within a table can be set so.\n"
    )
    yield from _section(config.Config, "")


def _section(model: type[BaseModel], prefix: str) -> Iterator[str]:
    told = _field_docstrings(model)
    rows = []
    below: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        if nested is not None:
            several = get_origin(field.annotation) is dict
            below.append((f"{prefix}{name}{'.<name>' if several else ''}", nested))
        if nested is None or type(None) in get_args(field.annotation):
            kind = f"table, see `{prefix}{name}` below" if nested else _kind(field)
            row = (f"`{prefix}{name}`", kind, _default(field), told.get(name, ""))
            rows.append(row)
    title = f"[{prefix.rstrip('.')}]" if prefix else "Top level"
    yield f"## {title}\n"
    if prefix:
        yield _line(inspect.getdoc(model)) + "\n"
    yield from _table(("key", "type", "default", "meaning"), rows)
    for key, nested in below:
        yield from _section(nested, f"{key}.")


def _field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string under each field, those of parent classes included."""
    told: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner is BaseModel:
            continue
        (node,) = ast.parse(inspect.getsource(owner)).body
        assert isinstance(node, ast.ClassDef)
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                told[field.target.id] = _line(str(text.value.value)).replace("``", "`")
    return told


def _nested(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _kind(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:g}"
        for name, sign in LIMITS.items()
        for rule in field.metadata
        if (value := getattr(rule, name, None)) is not None
    ]
    return ", ".join([_annotation(field.annotation), *limits])


def _annotation(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{part}"`' for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_annotation(part) for part in parts if part is not type(None))
    if origin is tuple:
        return f"list of {_annotation(parts[0])}"
    if origin is dict:
        return f"table of {_annotation(parts[1])}"
    # A text with a pattern is a text.
    annotation = parts[0] if origin is Annotated else annotation
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{one}"' for one in value) + "]`"
    if value == {}:
        return "empty"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _errors() -> Iterator[str]:
    tree = inspect.getdoc(errors) or ""
    opening, _, drawn = tree.partition("\n\n")
    yield "# Errors\n"
    yield _line(opening) + " All are in `tutelage.runtime.errors`.\n"
    yield f"```text\n{drawn.replace('``', '')}\n```\n"
    yield (
        "The text of an error is one line that says what to do. On the command line it goes to\n"
        "standard error, without a traceback. A wrapped `openai` client raises the exceptions of\n"
        "`openai` where its own endpoint failed.\n"
    )
    yield "## Exit codes\n"
    yield _line(EXIT_CODES).removeprefix("Exit codes: ").capitalize() + "\n"
    yield "`ConfigError` ends a command with 2, every other error of the tree with 1.\n"
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    own = [one for one in found if issubclass(one, errors.TutelageError)]
    rows = [(f"`{one.__name__}`", ", ".join(_attributes(one))) for one in own if _attributes(one)]
    yield "## Attributes\n"
    yield from _table(("error", "attributes"), rows)


def _prices() -> Iterator[str]:
    text = files("tutelage.runtime").joinpath("prices.toml").read_text(encoding="utf-8")
    yield "# Price table\n"
    yield "USD per million tokens. A cache price that is not there is the input price.\n"
    columns = ("input", "cache_read", "cache_write", "output", "as_of", "source")
    rows = []
    for model, row in tomllib.loads(text).items():
        names = ", ".join(f"`{name}`" for name in [model, *row.get("aliases", ())])
        cells = (row.get(column, "") for column in columns)
        rows.append((names, *(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells)))
    heads = ("model", "input", "cached read", "cache write", "output", "as of", "source")
    yield from _table(heads, rows)


def _attributes(error: type[Exception]) -> list[str]:
    """The attributes that the constructor of a class or its parents sets."""
    names: list[str] = []
    for owner in error.__mro__:
        own = vars(owner).get("__init__")
        if not isinstance(own, types.FunctionType) or not owner.__module__.startswith("tutelage."):
            continue
        given = inspect.signature(own).parameters
        names += [f"`{name}`" for name in given if name not in ("self", "message")]
    return list(dict.fromkeys(names))


def _table(columns: tuple[str, ...], rows: list[Any]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    main()
