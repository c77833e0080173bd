"""Keyed tables: bytes by key, each key owned by a partition, in logs like every other state."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import fastavro

from streams.state.log import PIECE_BYTES
from streams.state.store import FencedError, LogStates

_ROWS: Any = fastavro.parse_schema(
    {
        "type": "array",
        "items": {
            "type": "record",
            "name": "row",
            "fields": [
                {"name": "key", "type": "bytes"},
                {"name": "value", "type": ["null", "bytes"], "doc": "null: the key is deleted"},
            ],
        },
    }
)


class KeyedState:
    """The `PartitionState` of one partition of a keyed table: a value for each key, both bytes.

    It changes by timers as well as by messages, so it is no function of a source log:
    ``applied`` counts its own changes, from -1 on.
    """

    def __init__(self) -> None:
        self.applied = -1
        self._rows: dict[bytes, bytes] = {}
        self._changed: dict[bytes, None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if it has none."""
        return self._rows.get(key)

    def items(self) -> list[tuple[bytes, bytes]]:
        """Every key and its value, as they are now."""
        return list(self._rows.items())

    def put(self, key: bytes, value: bytes) -> None:
        """Give a key a value; nothing changes where it has this one."""
        if self._rows.get(key) != value:
            self._rows[key] = value
            self._change(key)

    def delete(self, key: bytes) -> None:
        """Take a key's value away, if it has one."""
        if self._rows.pop(key, None) is not None:
            self._change(key)

    def _change(self, key: bytes) -> None:
        self._changed[key] = None
        self.applied += 1

    def changes(self) -> bytes:
        """The rows changed since the last call, in Avro; null for those deleted."""
        changed, self._changed = self._changed, {}
        return _encode((key, self._rows.get(key)) for key in changed)

    def snapshot(self) -> Iterator[bytes]:
        """All rows, in pieces of `PIECE_BYTES`."""
        self._changed = {}
        piece: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in self._rows.items():
            if piece and size + len(key) + len(value) > PIECE_BYTES:
                yield _encode(piece)
                piece, size = [], 0
            piece.append((key, value))
            size += len(key) + len(value)
        yield _encode(piece)

    def load_changes(self, value: bytes) -> None:
        """Take over rows that `changes` gave."""
        rows: Any = fastavro.schemaless_reader(io.BytesIO(value), _ROWS, None)
        for row in rows:
            if row["value"] is None:
                self._rows.pop(row["key"], None)
            else:
                self._rows[row["key"]] = row["value"]

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Become what `snapshot` gave."""
        for piece in pieces:
            self.load_changes(piece)

    def load_rows(self, rows: Mapping[bytes, bytes]) -> None:
        """Become rows that another form of the table held."""
        self._rows = dict(rows)
        self.applied = len(rows) - 1


def _encode(rows: Iterable[tuple[bytes, bytes | None]]) -> bytes:
    encoded = io.BytesIO()
    records = [{"key": key, "value": value} for key, value in rows]
    fastavro.schemaless_writer(encoded, _ROWS, records)
    return encoded.getvalue()


class StateTable:
    """A stage's hold on a keyed table, of which it sees the partitions that its worker owns.

    What is put and deleted is in the log when `Context.flush` returns. A partition that has left
    has no values, and what is written to it is dropped: its new owner does the work again, as
    after a crash before the write.
    """

    def __init__(self, states: LogStates[KeyedState]):
        self._states = states
        self._changed: set[int] = set()

    def get(self, partition: int, key: bytes = b"") -> bytes | None:
        """The value of a key, None if it has none."""
        state = self._states.held(partition)
        return None if state is None else state.get(key)

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Give a key a value."""
        if (state := self._states.held(partition)) is not None:
            state.put(key, value)
            self._changed.add(partition)

    def delete(self, partition: int, key: bytes) -> None:
        """Take a key's value away, if it has one."""
        if (state := self._states.held(partition)) is not None:
            state.delete(key)
            self._changed.add(partition)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of everything that a partition owns, as it was when this was called."""
        state = self._states.held(partition)
        return iter(() if state is None else state.items())

    def partitions(self) -> set[int]:
        """The partitions that this worker owns now, none while they are being restored."""
        return set(self._states.owned())

    # -- for the runner --------------------------------------------------------------------------

    async def restore(self, partitions: Iterable[int]) -> None:
        """Have these partitions in memory as their logs say, for the handler of their messages."""
        for partition in partitions:
            await self._states.get(partition)

    async def save(self) -> None:
        """Append what has changed.

        While partitions move, what a timer wrote waits: it is appended if the partition stays, and
        dropped with it otherwise.
        """
        for partition in self._changed & self._states.owned().keys():
            await self._states.save(partition)
            self._changed.discard(partition)

    def check_owned(self, partitions: Iterable[int]) -> None:
        """FencedError if `save` would leave out what was written to one of these partitions."""
        if left := set(partitions) - self._states.owned().keys():
            raise FencedError(f"{self._states.name}: {sorted(left)} left while they were worked on")
