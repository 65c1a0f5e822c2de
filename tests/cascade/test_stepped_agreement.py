from __future__ import annotations

from typing import Any

from tutelage.cascade.agreement import MOfN, Unanimous
from tutelage.cascade.canonical.text import TextCanonicalizer
from tutelage.cascade.canonical.tool_canonicalizer import ToolCanonicalizer
from tutelage.cascade.stepped_agreement import SteppedAgreement
from tutelage.runtime.types import Choice, Message

PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]


def calling(*arguments: str) -> list[Choice]:
    calls: list[dict[str, Any]] = [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
        for text in arguments
    ]
    return [
        Choice(index=index, message=Message(role="assistant", tool_calls=[call]))
        for index, call in enumerate(calls)
    ]


def test_samples_agree_by_the_schemas_of_their_step() -> None:
    rule = SteppedAgreement(ToolCanonicalizer(), Unanimous)
    samples = calling("{}", '{"n": 3}', '{"n": "3"}')
    assert not rule.measure(samples).agreed
    stepped = rule.for_tools(TOOLS)
    assert stepped.measure(samples).agreed
    assert len({stepped.action(sample) for sample in samples}) == 1
    assert len({rule.action(sample) for sample in samples}) == 3


def test_a_step_without_tools_has_the_rule_as_it_is() -> None:
    rule = SteppedAgreement(TextCanonicalizer(), lambda form: MOfN(form, 2))
    looks = [
        Choice(index=index, message=Message(role="assistant", content=text))
        for index, text in enumerate(["look", "Look.", "inventory"])
    ]
    assert rule.for_tools(TOOLS) is rule.for_tools(())
    assert rule.for_tools(TOOLS).measure(looks) == rule.measure(looks)
    assert rule.measure(looks).agreed
    assert not rule.measure(looks[:1], planned=3).settled
