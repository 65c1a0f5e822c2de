from __future__ import annotations

import sys
from pathlib import Path

from tutelage.runtime.models.diffusion_server import (
    SHAPE_FILE,
    DiffusionStudentServer,
    is_diffusion,
    server_of,
)
from tutelage.runtime.models.vllm import VllmServer


def test_a_diffusion_student_is_known_by_its_shape(tmp_path: Path) -> None:
    assert not is_diffusion(tmp_path)

    (tmp_path / SHAPE_FILE).write_text("{}")

    assert is_diffusion(tmp_path)


def test_each_checkpoint_gets_the_server_that_can_serve_it(tmp_path: Path) -> None:
    causal = server_of(tmp_path, served_name="a@1", max_model_len=512, extra_arguments=("--x",))
    (tmp_path / SHAPE_FILE).write_text("{}")
    diffusion = server_of(tmp_path, served_name="a@2", max_model_len=512, log_path=tmp_path / "l")

    assert type(causal) is VllmServer
    assert causal._arguments("cpu")[-1] == "--x"
    assert isinstance(diffusion, DiffusionStudentServer)
    assert (diffusion.served_name, diffusion.log_path) == ("a@2", tmp_path / "l")


def test_the_command_serves_the_folder_under_its_name(tmp_path: Path) -> None:
    server = DiffusionStudentServer(
        tmp_path, port=81, served_name="s@3", rule="confidence", threshold=0.8, threads=2
    )

    command = [*server._executable("cpu"), *server._arguments("cpu")]

    assert command[:3] == [sys.executable, "-m", "tutelage.cli.main"]
    assert " ".join(command[3:]) == (
        f"student serve --diffusion {tmp_path} --host 127.0.0.1 --port 81 --name s@3 --device cpu "
        "--rule confidence --threshold 0.8 --threads 2"
    )


def test_the_rule_keeps_its_own_threshold_unless_one_is_given(tmp_path: Path) -> None:
    arguments = DiffusionStudentServer(tmp_path)._arguments("cpu")

    assert "--threshold" not in arguments
    assert "--threads" not in arguments
