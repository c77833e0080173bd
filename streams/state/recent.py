"""A mapping that remembers only its newest members."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentValues(Generic[K, V]):
    """The values of the last ``capacity`` keys that were put."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of a key, None if it was never kept or has made room."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value; the one that was put longest ago makes room."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget a key."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget all keys."""
        self._values.clear()
