"""Whether an answer has the form that its client demands."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.cascade.canonical.strict_json import strict_json
from tutelage.cascade.guards.arguments import ArgumentCheck
from tutelage.runtime.answer_form import CHOICE, FORMAT, PARALLEL, AnswerForm
from tutelage.runtime.types import Message


def broken_demand(
    form: AnswerForm, answer: Message, called: Sequence[str], check: ArgumentCheck
) -> str | None:
    """The parameter whose demand an answer does not meet; ``None``: it meets them all.

    Args:
        form: What is demanded.
        answer: The answer.
        called: The tools that it calls.
        check: Compares JSON with schemas.
    """
    if form.unknown is not None:
        return form.unknown
    is_allowed = form.callable is None or form.callable.issuperset(called)
    if not is_allowed or (form.must_call and not called):
        return CHOICE
    if form.most_calls is not None and len(called) > form.most_calls:
        return PARALLEL
    if form.is_json and not called and not _is_json(answer.text, form.schema, check):
        return FORMAT
    return None


def _is_json(text: str, schema: object, check: ArgumentCheck) -> bool:
    try:
        value = strict_json(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) if schema is None else check.fits(value, schema)
