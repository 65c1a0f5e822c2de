from __future__ import annotations

from tests.benchmarks.tiny_world import result

from tutelage.benchmarks.report_breakdown import (
    UNSOLVED,
    by_category,
    by_difficulty,
    category_json,
    share_table,
)


def test_kinds_of_tasks_are_counted_by_arm() -> None:
    results = [
        result("a", task=0, category="heat", success=True, steps=4, teacher_steps=1),
        result("a", task=1, category="heat", success=False, steps=4, teacher_steps=3),
        result("a", task=2, category="<cool>", success=True, demonstrations=6),
    ]

    rows = {row.category: row for row in by_category(results)}

    heat, cool = rows["heat"], rows["<cool>"]
    assert (heat.episodes, heat.solved, heat.teacher_share) == (2, 1, 0.5)
    assert heat.success.low < 0.5 < heat.success.high
    assert cool.demonstrations == 6.0
    table = share_table(tuple(rows.values()), {"a": "arm <a>", "b": "none"})
    assert "<th>&lt;cool&gt;</th><th>heat</th>" in table
    assert "solved 1/2 [" in table
    assert "arm &lt;a&gt;" in table
    assert table.endswith("<tr><td>none</td><td>-</td><td>-</td></tr></tbody></table>")
    assert category_json(heat)["teacher_share"] == 0.5


def test_difficulty_is_how_long_the_teacher_needed() -> None:
    lengths = (2, 2, 3, 4, 5, 9, 30)
    results = [
        result(arm, task=task, success=steps < 30, steps=steps + extra, teacher_steps=taken)
        for arm, extra, taken in (("teacher", 0, 2), ("a", 1, 0))
        for task, steps in enumerate(lengths)
    ]
    alone = result("a", task=99, success=True)

    rows = by_difficulty([*results, alone])

    assert [(row.category, row.episodes) for row in rows if row.arm == "a"] == [
        ("2 steps", 2),
        ("3 to 4 steps", 2),
        ("5 to 9 steps", 2),
        (UNSOLVED, 1),
    ]
    assert [row.category for row in rows[-4:]] == [row.category for row in rows[:4]]
    assert rows[0].teacher_share == 0.0


def test_without_the_teacher_nothing_tells_difficulty() -> None:
    assert by_difficulty([result("a", task=0, success=True)]) == ()
    lost = by_difficulty([result("teacher", task=0, success=False)])
    assert [row.category for row in lost] == [UNSOLVED]
