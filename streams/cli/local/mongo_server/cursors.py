"""What is left of answers that did not fit into one message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from streams.cli.local.mongo_server import errors
from streams.cli.local.mongo_server.collection import FETCHED_AT_ONCE
from streams.cli.local.mongo_server.documents import LARGEST
from streams.cli.local.mongo_server.errors import CommandError

FIRST_BATCH = 101
"""Documents of the first answer, as MongoDB's."""

IDLE_S = 600.0
"""After so long without a word of its client a cursor is forgotten."""

Batch = list[Any]


@dataclass(frozen=True)
class Fetched:
    """Documents, how many numbers they are for (some may be gone), and their bytes."""

    documents: Batch
    numbers: int
    size: int


@dataclass
class Cursor:
    """Documents by number. ``fetch`` gives the first ones, at most so many bytes if it can."""

    namespace: str
    numbers: Sequence[int]
    fetch: Callable[[Sequence[int], int], Fetched]
    position: int = 0
    used: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> bool:
        """Whether there are documents to come."""
        return self.position < len(self.numbers)

    def batch(self, count: int) -> Batch:
        """The next documents: at most ``count`` (0: any number), and what fits into an answer."""
        made: Batch = []
        room = LARGEST
        while self.left and room > 0 and not (count and len(made) >= count):
            most = min(FETCHED_AT_ONCE, count - len(made)) if count else FETCHED_AT_ONCE
            fetched = self.fetch(self.numbers[self.position : self.position + most], room)
            made += fetched.documents
            self.position += fetched.numbers
            room -= fetched.size
            if fetched.numbers < most:
                break
        return made


def fitting(sizes: Iterable[int], most_bytes: int) -> int:
    """How many of the first documents have so many bytes together; at least one."""
    return max(1, sum(1 for size in accumulate(sizes) if size <= most_bytes))


class Cursors:
    """The open cursors of all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Cursor] = {}
        self._last = 0

    def keep(self, cursor: Cursor) -> int:
        """Keep a cursor that has documents left; give its id. 0: it has none."""
        if not cursor.left:
            return 0
        now = time.monotonic()
        with self._lock:
            for number in [n for n, one in self._open.items() if now - one.used > IDLE_S]:
                del self._open[number]
            self._last += 1
            self._open[self._last] = cursor
            return self._last

    def more(self, number: int, count: int) -> tuple[Cursor, Batch]:
        """The next documents of a cursor, which is forgotten at its end. Raises CommandError."""
        with self._lock:
            cursor = self._open.get(number)
        if cursor is None:
            raise CommandError(errors.CURSOR_NOT_FOUND, f"cursor id {number} not found")
        cursor.used = time.monotonic()
        batch = cursor.batch(count)
        if not cursor.left:
            self.close([number])
        return cursor, batch

    def close(self, numbers: Sequence[int]) -> list[int]:
        """Forget cursors; give those that there were."""
        with self._lock:
            return [n for n in numbers if self._open.pop(n, None) is not None]
