from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.runtime.errors import MissingExtra
from tutelage.training.recipes.processes import Processes


class FakeAccelerator:
    """The second of two processes; the first has gradients of ones."""

    def __init__(self, cpu: bool) -> None:
        self.process_index, self.num_processes = 1, 2
        self.device = "cpu" if cpu else "cuda:1"
        self.waited = 0

    def reduce(self, value: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        return value + 1

    def wait_for_everyone(self) -> None:
        self.waited += 1


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Processes:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace(Accelerator=FakeAccelerator))
    return Processes("cpu")


def test_alone_everything_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = Processes("cpu")
    parameter = torch.zeros(2, requires_grad=True)
    processes.sum_gradients([parameter])
    processes.wait()
    assert parameter.grad is None
    assert processes.is_first
    assert processes.share([1, 2, 3]) == [1, 2, 3]
    assert processes.sum_number(2.5) == 2.5
    assert not processes.any_says(False)


def test_batches_are_shared_out_and_gradients_summed(second: Processes) -> None:
    assert (second.is_first, second.count, second.device) == (False, 2, "cpu")
    assert second.share([1, 2, 3]) == [2]
    with_batch: Any = torch.zeros(2, requires_grad=True)
    without: Any = torch.zeros(1, 2, requires_grad=True)
    with_batch.grad = torch.tensor([1.0, 2.0])
    second.sum_gradients([with_batch, without])
    assert with_batch.grad.tolist() == [2.0, 3.0]
    assert without.grad.tolist() == [[1.0, 1.0]]
    assert second.sum_number(0.5) == 1.5
    assert second.any_says(False)
    second.wait()


def test_several_processes_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtra, match="train"):
        Processes("cpu")
