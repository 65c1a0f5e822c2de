"""The example that brings in a world from someone else's package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.benchmarks.worker import WorldProcess

EXAMPLE = Path(__file__).parents[3] / "examples" / "third_party_world.py"


def test_the_example_has_at_most_sixty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


@pytest.mark.slow
async def test_the_example_is_played_by_its_name(
    games_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    process = WorldProcess("third_party_world:Hunt", data=games_folder.parent / "hunt")
    try:
        tasks = await process.tasks("test:2")
        for task in tasks:
            await process.reset(task)
            for _ in range(20):
                outcome = await process.step((await process.oracle()).text)
                if outcome.done:
                    break
            assert outcome.success, task.id
    finally:
        await process.aclose()
