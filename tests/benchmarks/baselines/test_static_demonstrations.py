from __future__ import annotations

from dataclasses import replace

from tests.cascade.decided_steps import step_after

from tutelage.benchmarks.baselines.static_demonstrations import StaticRetriever
from tutelage.runtime.types import Demonstration, Retrieved, Turn


def shown(name: str, task_id: str | None) -> Retrieved:
    made = Demonstration(
        id=f"{name}:0",
        tenant="default",
        trajectory_id=name,
        step_index=0,
        goal="tidy.",
        task_id=task_id,
        window=(Turn("A hall.", "sweep"),),
        source="oracle:test",
    )
    return Retrieved(made, 0.0)


async def test_every_step_sees_the_same_but_never_its_own_task() -> None:
    kept, own, anonymous = shown("a", "t1"), shown("b", "t2"), shown("c", None)
    retriever = StaticRetriever([kept, own, anonymous])

    for now in ("A desk.", "A lamp."):
        unnamed = step_after(now=now)
        assert list(await retriever.search(unnamed)) == [kept, own, anonymous]
        assert list(await retriever.search(replace(unnamed, task_id="t2"))) == [kept, anonymous]
