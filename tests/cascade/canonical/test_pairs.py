"""The labelled pairs: what is the same action, and what must never be taken for it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tutelage.cascade.canonical.effects import Effects
from tutelage.cascade.canonical.protocol import Canonicalizer
from tutelage.cascade.canonical.registry import CanonicalOptions, canonicalizer_named
from tutelage.cascade.canonical.tool_canonicalizer import canonicalizer_for
from tutelage.runtime.types import Message

FOLDER = Path(__file__).parent / "pairs"
DECLARED = json.loads((FOLDER / "declared.json").read_text(encoding="utf-8"))
SCHEMA = {"properties": {"ids": {"type": "array", "uniqueItems": True}}}
TOOL_NAMES = ("Search", "Lookup", "Transfer", "Refund", "write_file", "delete", "undelete")
FALSE_DIFFERENT = {
    "code": 0.0,
    "code-fingerprint": 0.0,
    "code-stateless": 0.0,
    "household": 0.0,
    "json": 0.0,
    "react": 0.05,
    "text": 0.0,
    "tools": 0.05,
}
"""Share of equal pairs that a form may tell apart. Known to be told apart: two spellings of one
instant, the layout of a formula in text."""


def effects(kind: str) -> Effects:
    return Effects(DECLARED["effects"][kind.partition("-")[0]])


def form(kind: str) -> Canonicalizer:
    name = "code" if kind == "code-stateless" else kind
    order_free = {"": ("tags",)} if kind == "json" else DECLARED["order_free"]
    options = CanonicalOptions(
        order_free=order_free,
        ordered=DECLARED["ordered"],
        effects=effects(kind),
        stateful=kind != "code-stateless",
        tools=TOOL_NAMES,
        schema=SCHEMA,
    )
    return canonicalizer_for(canonicalizer_named(name, options), DECLARED["tools"])


def answer(side: Any) -> Message:
    if isinstance(side, str):
        return Message(role="assistant", content=side)
    calls = [{"id": f"c{n}", "type": "function", "function": call} for n, call in enumerate(side)]
    return Message(role="assistant", tool_calls=calls)


def pairs(kind: str) -> list[dict[str, Any]]:
    lines = (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


KINDS = sorted(FALSE_DIFFERENT)


def test_there_are_enough_pairs_of_every_kind() -> None:
    counts = {kind: len(pairs(kind)) for kind in KINDS}
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(KINDS)
    assert sum(counts.values()) >= 300
    for kind in KINDS:
        rows = pairs(kind)
        assert {row["kind"] for row in rows} == {kind}
        assert {row["equal"] for row in rows} == {True, False}
        seen = {json.dumps([row["left"], row["right"]]) for row in rows}
        assert len(seen) == len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_different_actions_are_taken_for_one(kind: str) -> None:
    compared = form(kind)
    confused = []
    for row in pairs(kind):
        left = compared.action(answer(row["left"]))
        if not row["equal"] and left is not None and left == compared.action(answer(row["right"])):
            confused.append((row["mutating"], row["why"]))
    assert confused == []


@pytest.mark.parametrize("kind", KINDS)
def test_most_equal_actions_are_seen_to_be_equal(kind: str) -> None:
    compared = form(kind)
    apart = []
    rows = [row for row in pairs(kind) if row["equal"]]
    for row in rows:
        left = compared.action(answer(row["left"]))
        if left is None or left != compared.action(answer(row["right"])):
            apart.append(row["why"])
    assert len(apart) / len(rows) <= FALSE_DIFFERENT[kind], apart


@pytest.mark.parametrize("kind", KINDS)
def test_no_action_that_changes_the_world_passes_for_a_read(kind: str) -> None:
    compared, told = form(kind), effects(kind)
    missed: list[str] = []
    cautious: dict[bool, int] = defaultdict(int)
    for row in pairs(kind):
        actions = [compared.action(answer(side)) for side in (row["left"], row["right"])]
        writes = any(told.is_mutating(action) for action in actions if action is not None)
        if row["mutating"] and not writes:
            missed.append(row["why"])
        if not row["mutating"]:
            cautious[writes] += 1
    assert missed == []
    assert cautious[True] == 0, "a read was taken for a write"


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_every_action_names_that_action(kind: str) -> None:
    compared = form(kind)
    for row in pairs(kind):
        for side in (row["left"], row["right"]):
            action = compared.action(answer(side))
            if action is not None:
                assert compared.past(action.key) == action
                assert compared.action(answer(action.key)) == action or action.kind == "tool"
