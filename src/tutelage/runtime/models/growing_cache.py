"""A cache of keys and values that grows in place, where transformers' own copies it every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, in tensors with room for the tokens to come.

    Args:
        keys: (1, heads, tokens, width).
        values: (1, heads, tokens, width).
        rows: Sequences that continue the same tokens.
        room: Tokens that can be added.
    """

    def __init__(self, keys: Any, values: Any, rows: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._length = keys.shape[-2]
        self._all_keys = self._with_room(keys, rows, room)
        self._all_values = self._with_room(values, rows, room)
        self._show()

    def _with_room(self, tensor: Any, rows: int, room: int) -> Any:
        _, heads, length, width = tensor.shape
        roomy = tensor.new_empty((rows, heads, length + room, width))
        roomy[:, :, :length] = tensor
        return roomy

    def _show(self) -> None:
        self.keys = self._all_keys[:, :, : self._length]
        self.values = self._all_values[:, :, : self._length]

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Adds tokens, each of shape (rows, heads, tokens, width), and returns all of them."""
        end = self._length + key_states.shape[-2]
        self._all_keys[:, :, self._length : end] = key_states
        self._all_values[:, :, self._length : end] = value_states
        self._length = end
        self._show()
        return self.keys, self.values


def growing_cache(keys_values: Sequence[tuple[Any, Any]], rows: int, room: int) -> DynamicCache:
    """A cache that starts with one prompt in each of ``rows`` and takes ``room`` more tokens."""
    cache = DynamicCache()
    cache.layers.extend(GrowingLayer(keys, values, rows, room) for keys, values in keys_values)
    return cache
