"""A retry queue: a table of what is tried again, with an in-memory heap ordered by due time."""

from __future__ import annotations

import heapq

from streams.http.retries import NEVER_MS, due_ms
from streams.runtime.context import Context
from streams.runtime.keyed import EntryKey, set_entry
from topology.model import Table


class RetryQueue:
    """A table whose values begin with when they are due (`streams.http.retries.encode_entry`).

    A look at it costs what is due, not what waits. A handler and a timer of one stage may change
    it side by side: what `pop_due` has given stays in the table until it is replaced.
    """

    def __init__(self, context: Context, table: Table) -> None:
        self._table = context.table(table)
        self._heap: list[tuple[int, EntryKey]] = []
        self._due: dict[EntryKey, int] = {}
        """Of each key, the entry of the heap that counts; none of what was given."""
        self._loaded: set[int] = set()
        context.on_rebalance(self._forget)

    def _forget(self) -> None:
        """What is in memory may be another worker's now."""
        self._heap.clear()
        self._due.clear()
        self._loaded.clear()

    def get(self, key: EntryKey) -> bytes | None:
        """The entry of a key, due or not."""
        return self._table.get(*key)

    def owns(self, key: EntryKey) -> bool:
        """Whether the key's partition is this worker's."""
        return key[0] in self._table.partitions()

    def is_current(self, key: EntryKey, waited: bytes | None) -> bool:
        """Whether an entry is ours and as it was: nothing newer came, no other worker has it.

        What has not waited, None, is a handler's, whose partitions stay until it has ended.
        """
        return waited is None or (self.owns(key) and self.get(key) == waited)

    def replace(self, key: EntryKey, value: bytes | None) -> None:
        """Let an entry wait, in the place of any other of its key; with None, nothing waits."""
        set_entry(self._table, key, value)
        self._due.pop(key, None)
        if value is not None and key[0] in self._loaded:
            self._note(key, due_ms(value))

    def pop_due(self, now: float) -> tuple[EntryKey, bytes] | None:
        """The entry that has been due the longest at ``now`` (Unix seconds), if one is.

        It is not given again until it is replaced or requeued.
        """
        owned = self._table.partitions()
        for partition in owned - self._loaded:
            self._loaded.add(partition)
            for key, value in self._table.items(partition):
                self._note((partition, key), due_ms(value))
        while self._heap and self._heap[0][0] <= now * 1000:
            at, entry = heapq.heappop(self._heap)
            if self._due.get(entry) != at:
                continue  # it was replaced
            del self._due[entry]
            value_now = self._table.get(*entry) if entry[0] in owned else None
            if value_now is not None:
                return entry, value_now
        return None

    def requeue(self, key: EntryKey) -> None:
        """Let what `pop_due` has given be due as it was."""
        value = self._table.get(*key)
        if value is not None and key[0] in self._loaded and key not in self._due:
            self._note(key, due_ms(value))

    def _note(self, key: EntryKey, at: int) -> None:
        if at != NEVER_MS:
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))
