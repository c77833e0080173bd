"""Tables of what waits for another try: changed by a handler and by a timer, side by side."""

from __future__ import annotations

import heapq

from streams.http.newest import EntryKey
from streams.http.retries import NEVER_MS, due_ms
from streams.runtime.context import Context
from streams.state.protocols import StateTable


def keep(table: StateTable, place: EntryKey, value: bytes | None) -> None:
    """Make a table hold a value, or none, and write only where it does not."""
    before = table.get(*place)
    if value is None and before is not None:
        table.delete(*place)
    elif value is not None and value != before:
        table.put(*place, value)


class RetryQueue:
    """A table whose values begin with when they are due, and in memory the order of those times:
    a look costs what is due, not what waits."""

    def __init__(self, context: Context, name: str) -> None:
        self._table = context.table(name)
        self._heap: list[tuple[int, EntryKey]] = []
        self._due: dict[EntryKey, int] = {}
        """Of each place, the entry of the heap that counts; none of what was taken."""
        self._loaded: set[int] = set()
        context.on_rebalance(self._forget)

    def _forget(self) -> None:
        """What is in memory may be another worker's now."""
        self._heap.clear()
        self._due.clear()
        self._loaded.clear()

    def get(self, place: EntryKey) -> bytes | None:
        return self._table.get(*place)

    def still(self, place: EntryKey, value: bytes) -> bool:
        """Whether a place is ours and as it was: nothing newer came, and no other worker has it."""
        return self.owns(place) and self.get(place) == value

    def owns(self, place: EntryKey) -> bool:
        return place[0] in self._table.partitions()

    def keep(self, place: EntryKey, value: bytes | None) -> None:
        """Make a place hold a value, or none."""
        keep(self._table, place, value)
        self._due.pop(place, None)
        if value is not None and place[0] in self._loaded:
            self._note(place, due_ms(value))

    def take(self, now: float) -> tuple[EntryKey, bytes] | None:
        """What is due and has waited longest; it is not given again until it is kept anew or
        given back."""
        owned = self._table.partitions()
        for partition in owned - self._loaded:
            self._loaded.add(partition)
            for key, value in self._table.items(partition):
                self._note((partition, key), due_ms(value))
        while self._heap and self._heap[0][0] <= now * 1000:
            at, place = heapq.heappop(self._heap)
            if self._due.get(place) != at:
                continue  # it was kept anew
            del self._due[place]
            value_now = self._table.get(*place) if place[0] in owned else None
            if value_now is not None:
                return place, value_now
        return None

    def give_back(self, place: EntryKey) -> None:
        """Let what was taken be due as it was."""
        value = self._table.get(*place)
        if value is not None and place[0] in self._loaded and place not in self._due:
            self._note(place, due_ms(value))

    def _note(self, place: EntryKey, at: int) -> None:
        if at != NEVER_MS:
            self._due[place] = at
            heapq.heappush(self._heap, (at, place))
