from __future__ import annotations

from itertools import pairwise

from tests.overhead.drafting_server import Servers

from tutelage.overhead.drafting import document, measure_drafting, rows
from tutelage.overhead.setting import Setting


async def test_every_layout_is_asked_with_and_without_a_drafter(setting: Setting) -> None:
    servers = Servers()
    lines: list[str] = []

    found = await measure_drafting(setting, servers, steps=5, told=lines.append)

    assert [(one.layout, one.drafter.name) for one in found] == [
        (layout, drafter)
        for drafter in ("plain", "n-gram")
        for layout in ("no demonstrations", "per-step", "pinned")
    ]
    assert all(len(one.calls.call_s) == 5 for one in found)
    for one in found:
        assert one.calls.counters.tokens_a_forward == (2.0 if one.drafter.name == "n-gram" else 1.0)
        # Nobody ever only looks in these five steps.
        assert one.right == 0
    plain, guessing = ([body["messages"] for body in one.bodies[1:]] for one in servers.made)
    assert plain == guessing
    assert len(lines) == 4


async def test_layouts_differ_in_what_the_drafter_can_guess_from(setting: Setting) -> None:
    servers = Servers()

    await measure_drafting(setting, servers, steps=3)

    prompts = [body["messages"] for body in servers.made[0].bodies[1:]]
    # Three steps of one episode in each layout.
    bare, per_step, pinned = prompts[:3], prompts[3:6], prompts[6:]
    assert [len(one) for one in bare] == [2, 4, 6]
    assert all(len(one) > len(other) for one, other in zip(per_step, bare, strict=True))
    # A pinned prompt only grows: what was sent before is its prefix.
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(pinned))
    heads = {one[0]["content"] for one in (bare[0], per_step[0], pinned[0])}
    assert len(heads) == 3


async def test_the_table_sets_each_layout_beside_its_plain_self(setting: Setting) -> None:
    found = await measure_drafting(setting, Servers(), steps=2)

    table = rows(found)

    assert [row[:2] for row in table[:2]] == [
        ["no demonstrations", "plain"],
        ["no demonstrations", "n-gram"],
    ]
    assert table[0][-1] == "-"
    assert table[1][3:5] == ["0.50 (8 of 16)", "2.00"]
    assert "x (" in table[1][-1]
    assert document(found)[3]["acceptance"] == 0.5
