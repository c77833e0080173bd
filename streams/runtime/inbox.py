"""What has arrived for a handler, taken in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A bounded queue from one task to another that wakes the taker once a batch, not an item.

    It holds one batch of ``limit``, which arrives while another is worked on.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._items: deque[T] = deque()
        self._wanted = 0
        self._enough = asyncio.Event()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """Add an item; wait as long as there is no room."""
        while len(self._items) >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._items.append(item)
        if len(self._items) >= self._wanted:
            self._enough.set()

    async def take(self, linger_s: float = 0.0) -> list[T]:
        """What is there, and what still comes within ``linger_s`` of the first: up to ``limit``."""
        await self._have(1)
        if linger_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._have(self._limit), linger_s)
        taken = [self._items.popleft() for _ in range(min(self._limit, len(self._items)))]
        self._room.set()
        return taken

    async def _have(self, number: int) -> None:
        self._wanted = number
        while len(self._items) < number:
            self._enough.clear()
            await self._enough.wait()
