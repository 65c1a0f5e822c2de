from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tutelage.assembly import open_assembly
from tutelage.overhead.recorded_steps import recorded_steps, student_servers
from tutelage.runtime.config import Config
from tutelage.runtime.errors import BenchmarkError, ConfigError
from tutelage.runtime.models.speculation import NgramSpeculation
from tutelage.runtime.types import Decision, Reason, Sample, Trace, Usage


def config(folder: Path, **student: Any) -> Config:
    return Config.model_validate(
        {
            "student": {"price": {"input": 0, "output": 0}, **student},
            "teacher": {"price": {"input": 0, "output": 0}},
            "store": {"url": f"sqlite:///{folder / 's.sqlite'}", "spool": str(folder / "spool")},
        }
    )


def trace(number: int, *, samples: int = 2, tokens: int = 9) -> Trace:
    prompt = {"role": "user", "content": f"step {number}"}
    return Trace(
        id=f"t{number}",
        tenant="default",
        episode_id="e",
        step_index=number,
        created_at_s=float(number),
        model="m",
        goal="g",
        observation="o",
        answer="look",
        decision=Decision(served="student", reason=Reason.AGREED),
        samples=(Sample(text="look", action="look"),) * samples,
        prompt=(prompt,),
        usage={"student": Usage(output_tokens=tokens)} if tokens else {},
    )


async def test_the_newest_prompts_of_the_student_are_asked_again_in_their_order(
    tmp_path: Path,
) -> None:
    async with open_assembly(config(tmp_path), open_bank=False) as assembly:
        for one in (trace(0), trace(1), trace(2, samples=0), trace(3, tokens=0), trace(4)):
            await assembly.traces.append(one)

        found = await recorded_steps(assembly, "default", 3)

    assert [one.messages[0].text for one in found] == ["step 1", "step 3", "step 4"]
    assert [one.max_tokens for one in found] == [5, 64, 5]


async def test_a_store_without_steps_of_the_student_says_what_to_do(tmp_path: Path) -> None:
    async with open_assembly(config(tmp_path), open_bank=False) as assembly:
        await assembly.traces.append(trace(0, samples=0))

        with pytest.raises(BenchmarkError, match=r"no step of tenant 'default'.*tutelage replay"):
            await recorded_steps(assembly, "default", 3)


def test_servers_are_of_the_configured_weights(tmp_path: Path) -> None:
    made = student_servers(config(tmp_path, checkpoint=str(tmp_path)))

    server = made(NgramSpeculation())

    assert server.checkpoint == tmp_path
    assert "--speculative-config" in server._arguments("cpu")
    assert "--speculative-config" not in made(None)._arguments("cpu")


def test_weights_that_are_not_known_here_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set student\.checkpoint to their folder"):
        student_servers(config(tmp_path, base_url="http://10.0.0.1/v1", model="m"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        student_servers(config(tmp_path, checkpoint=str(tmp_path / "gone")))


def test_the_default_student_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.runtime.models import checkpoint

    monkeypatch.setattr(checkpoint, "student_checkpoint", lambda cache: tmp_path)

    assert student_servers(config(tmp_path))(None).checkpoint == tmp_path
