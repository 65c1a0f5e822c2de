from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.recipes import toys

from tutelage.runtime.errors import MissingExtra, NoExamples, TrainingError
from tutelage.training.objectives.supervised import cross_entropy
from tutelage.training.recipes.adapters import Lora
from tutelage.training.recipes.checkpoints import verify_folder
from tutelage.training.recipes.packing import collate
from tutelage.training.recipes.recipe import TrainedStudent, TrainingProgress, Watch
from tutelage.training.recipes.supervised import Supervised, weighted_cross_entropy
from tutelage.training.recipes.tokenized import load_tokenizer
from tutelage.training.recipes.weights import load_weights, logits_at

RECIPES = ("supervised", "progressive", "preference")


def train(
    name: str, checkpoint: Path, out: Path, watch: Watch | None = None, **changed: object
) -> TrainedStudent:
    return toys.recipe(name, **changed).train(toys.examples(name), checkpoint, out, watch)


def weights(folder: Path) -> bytes:
    return (folder / "student" / "model.safetensors").read_bytes()


def killed(name: str, checkpoint: Path, out: Path, step: int) -> int:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, toys.__file__, name, str(checkpoint), str(out), str(step)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_leaves_behind(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[TrainingProgress] = []
    before = torch.get_rng_state()
    student = train(name, tiny_llama, tmp_path, seen.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert [progress.step for progress in seen] == [*range(1, seen[-1].steps + 1)]
    assert student.losses == tuple(progress.loss for progress in seen)
    assert student.tokens == seen[-1].tokens
    assert 0 < student.supervised_tokens < student.tokens
    assert student.wall_s > 0
    assert student.peak_memory_bytes > 0
    assert student.settings["learning_rate"] == 0.01
    verify_folder(student.checkpoint)
    load_tokenizer(student.checkpoint)
    load_weights(student.checkpoint, dtype="float32", device="cpu")
    assert student.adapter is not None
    assert (student.adapter / "adapter_model.safetensors").exists()
    lines = (tmp_path / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == list(student.losses)
    assert not (tmp_path / "checkpoints").exists()
    pickles = [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    assert pickles == []


@pytest.mark.parametrize("changed", [{}, {"lora": None}, {"batching": "packed"}])
def test_the_student_learns_its_examples(
    changed: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    student = train("supervised", tiny_llama, tmp_path, epochs=12, **changed)
    assert sum(student.losses[-3:]) < 0.5 * sum(student.losses[:3])
    assert (student.adapter is None) == ("lora" in changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_ends_byte_for_byte_like_an_undisturbed_one(
    name: str, tiny_llama: Path, tmp_path: Path
) -> None:
    whole = train(name, tiny_llama, tmp_path / "whole")
    assert len(whole.losses) > 5
    assert killed(name, tiny_llama, tmp_path / "killed", 5) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == [
        "step-0000003"
    ]
    seen: list[TrainingProgress] = []
    resumed = train(name, tiny_llama, tmp_path / "killed", seen.append)
    assert seen[0].step == 4
    assert resumed.losses == whole.losses
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert len((tmp_path / "killed" / "losses.jsonl").read_text().splitlines()) == len(whole.losses)


@pytest.mark.parametrize("name", RECIPES)
def test_ctrl_c_leaves_a_state_to_go_on_from(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    train(name, tiny_llama, tmp_path / "whole")

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(name, tiny_llama, tmp_path / "paused", interrupt)
    seen: list[TrainingProgress] = []
    train(name, tiny_llama, tmp_path / "paused", seen.append)
    assert seen[0].step == 5
    assert weights(tmp_path / "paused") == weights(tmp_path / "whole")


def test_a_watch_that_gives_up_leaves_its_step(tiny_llama: Path, tmp_path: Path) -> None:
    def give_up(progress: TrainingProgress) -> None:
        if progress.step == 2:
            raise TrainingError("given up")

    with pytest.raises(TrainingError, match="given up"):
        train("supervised", tiny_llama, tmp_path, give_up)
    seen: list[TrainingProgress] = []
    train("supervised", tiny_llama, tmp_path, seen.append)
    assert seen[0].step == 3


def test_a_run_that_ended_is_not_run_again(tiny_llama: Path, tmp_path: Path) -> None:
    first = train("supervised", tiny_llama, tmp_path)
    seen: list[TrainingProgress] = []
    again = train("supervised", tiny_llama, tmp_path, seen.append, checkpoint_every=7)
    assert seen == []
    assert again == first


def test_a_damaged_result_is_made_again(tiny_llama: Path, tmp_path: Path) -> None:
    train("supervised", tiny_llama, tmp_path)
    expected = weights(tmp_path)
    (tmp_path / "student" / "model.safetensors").write_bytes(b"x")
    train("supervised", tiny_llama, tmp_path)
    assert weights(tmp_path) == expected


def test_a_folder_of_another_run_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    def stop(progress: TrainingProgress) -> None:
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("supervised", tiny_llama, tmp_path, stop)
    with pytest.raises(TrainingError, match="holds a run with other examples, settings"):
        train("supervised", tiny_llama, tmp_path, learning_rate=0.5)
    train("supervised", tiny_llama, tmp_path)
    with pytest.raises(TrainingError, match="holds a run with other examples, settings"):
        train("supervised", tiny_llama, tmp_path, seed=9)


def test_two_runs_in_one_folder_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    errors = []

    def another(progress: TrainingProgress) -> None:
        if progress.step == 1:
            with pytest.raises(TrainingError, match="another process trains in") as raised:
                train("supervised", tiny_llama, tmp_path)
            errors.append(raised.value)

    train("supervised", tiny_llama, tmp_path, another)
    assert len(errors) == 1


def test_the_loss_is_that_of_the_plain_objective_where_weights_are_equal(
    tiny_llama: Path,
) -> None:
    chats = load_tokenizer(tiny_llama).encode_all([toys.example(n) for n in range(3)], 120)
    batch = collate(((0,), (1,), (2,)), chats)
    model = load_weights(tiny_llama, dtype="float32", device="cpu").eval()
    logits = logits_at(model, batch)
    ours = weighted_cross_entropy(logits, batch) / batch.weights.sum()
    plain = cross_entropy(logits[None], batch.targets[None], batch.targets[None] >= 0)
    torch.testing.assert_close(ours, plain)


def test_a_heavier_example_counts_as_its_copies_would(tiny_llama: Path, tmp_path: Path) -> None:
    one, two = toys.example(0), toys.example(1)
    chosen = toys.settings(
        lora=Lora(rank=4), epochs=1, tokens_per_batch=400, batches_per_step=9, order="given"
    )
    heavy = Supervised(chosen).train(
        [one.model_copy(update={"weight": 3.0}), two], tiny_llama, tmp_path / "heavy"
    )
    copied = Supervised(chosen).train([one, one, one, two], tiny_llama, tmp_path / "copied")
    assert heavy.losses == pytest.approx(copied.losses, rel=1e-5)


def test_gradient_accumulation_equals_one_large_batch(tiny_llama: Path, tmp_path: Path) -> None:
    def run(name: str, tokens: int, batches: int) -> TrainedStudent:
        chosen = toys.settings(
            lora=Lora(rank=4),
            order="given",
            tokens_per_batch=tokens,
            batches_per_step=batches,
            gradient_checkpointing=name == "small",
        )
        examples = [toys.example(n, turns=1) for n in (0, 8, 16, 24)]
        return Supervised(chosen).train(examples, tiny_llama, tmp_path / name)

    assert run("small", 60, 4).losses == pytest.approx(run("large", 240, 1).losses, rel=1e-4)


def test_settings_out_of_range_are_named() -> None:
    for changed, words in (
        ({"epochs": 0}, "epochs is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"warm_up": 2.0}, "warm_up is 2.0"),
    ):
        with pytest.raises(TrainingError, match=words):
            toys.settings(**changed)


def test_all_weights_learn_more_slowly_by_default() -> None:
    assert toys.settings(learning_rate=None).peak_rate == 1e-3
    assert toys.settings(learning_rate=None, lora=None).peak_rate == 2e-5


def test_no_examples_no_weights_and_no_layers_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(NoExamples, match="no example has a supervised turn"):
        Supervised(toys.settings()).train([], tiny_llama, tmp_path / "a")
    with pytest.raises(TrainingError, match="no weights in safetensors"):
        train("supervised", tmp_path, tmp_path / "b")
    with pytest.raises(TrainingError, match=r"lora.layers names no layer .* wqkv"):
        train("supervised", tiny_llama, tmp_path / "c", lora=Lora(layers=("wqkv",)))


def test_a_broken_checkpoint_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    for path in tiny_llama.iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="is no usable checkpoint"):
        train("supervised", tmp_path, tmp_path / "out")


def test_a_missing_package_names_the_extra(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"train"):
        train("supervised", tiny_llama, tmp_path)


def test_memory_that_runs_out_leaves_the_last_checkpoint(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.training.recipes import supervised

    train("supervised", tiny_llama, tmp_path / "whole")
    calls = []

    def full(*given: object) -> torch.Tensor:
        calls.append(given)
        if len(calls) > 8:
            raise torch.OutOfMemoryError("out of memory")
        return weighted_cross_entropy(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(supervised, "weighted_cross_entropy", full)
    with pytest.raises(TrainingError, match="out of memory at step 5"):
        train("supervised", tiny_llama, tmp_path / "full")
    monkeypatch.undo()
    train("supervised", tiny_llama, tmp_path / "full")
    assert weights(tmp_path / "full") == weights(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tiny_llama: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
            *("--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"),
            *(toys.__file__, "supervised", str(tiny_llama), str(tmp_path / "two")),
        ],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr[-2000:]
    one = train("supervised", tiny_llama, tmp_path / "one", lora=Lora(rank=4, alpha=8))
    assert sorted(path.name for path in (tmp_path / "two").glob("rank-*")) == ["rank-0", "rank-1"]
    lines = (tmp_path / "two" / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == pytest.approx(one.losses, rel=1e-4)
    verify_folder(tmp_path / "two" / "student")
