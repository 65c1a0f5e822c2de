"""An array that grows at its end without being copied each time."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Element = TypeVar("Element", bound=np.generic)
_SPARE = 1.125


class GrowingRows(Generic[Element]):
    """Rows in memory with room for more; what was read before stays as it was.

    One thread may append while others read what they were given.

    Args:
        empty: Of shape (0, ...): the shape and kind of the rows.
    """

    def __init__(self, empty: NDArray[Element]) -> None:
        self._memory: NDArray[Element] = empty
        self._rows = 0

    def append(self, added: NDArray[Any]) -> NDArray[Element]:
        """All rows, the new ones last; copies old ones only when the room is used up."""
        rows = self._rows + len(added)
        if rows > len(self._memory):
            room = rows if self._rows == 0 else int(rows * _SPARE) + 16
            larger = np.empty((room, *self._memory.shape[1:]), dtype=self._memory.dtype)
            larger[: self._rows] = self._memory[: self._rows]
            self._memory = larger
        self._memory[self._rows : rows] = added
        self._rows = rows
        return self._memory[:rows]
