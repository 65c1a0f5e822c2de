"""The processes that train together: one, or several that accelerate launched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tutelage.runtime.errors import MissingExtra

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")


class Processes:
    """This process alone, or its place among those that ``accelerate launch`` started.

    The batches of a step are shared out, and gradients are summed once a step; so a step is the
    same for any number of processes.

    Args:
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingExtra: There are several and accelerate is not installed.
    """

    def __init__(self, device: str) -> None:
        self._accelerator: Any = None
        self.rank, self.count = 0, 1
        self.device = device
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import Accelerator
            except ImportError as error:
                raise MissingExtra("accelerate", "train") from error
            self._accelerator = Accelerator(cpu=device == "cpu")
            self.rank = self._accelerator.process_index
            self.count = self._accelerator.num_processes
            self.device = str(self._accelerator.device)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, batches: Sequence[Item]) -> Sequence[Item]:
        """The batches of a step that are this process's."""
        return batches[self.rank :: self.count]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Leaves in every process the sum of all gradients; one that had no batch counts as 0."""
        if self._accelerator is None:
            return
        import torch

        parameters = list(parameters)
        missing = [p for p in parameters if p.grad is None]
        for parameter in missing:
            parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
        total = self._accelerator.reduce(flat, reduction="sum")
        start = 0
        for parameter in parameters:
            size = parameter.numel()
            parameter.grad = total[start : start + size].view_as(parameter)
            start += size

    def sum_number(self, number: float) -> float:
        """The sum of a number over all processes."""
        if self._accelerator is None:
            return number
        import torch

        mine = torch.tensor(number, dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(mine, reduction="sum"))

    def any_says(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all act alike."""
        return self.sum_number(float(flag)) > 0

    def wait(self) -> None:
        """Returns once every process is here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
