"""Rows of listeners who are forgotten: whom they name, and up to where. No I/O, no Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.core.facts import LISTENER, MadeFrom
from streams.kafka.forgetting import forgetting_of
from streams.kafka.message import Message

UpTo = Mapping[tuple[str, int], int]
"""(user_id, partition of `user-events`) -> the last offset of it that is forgotten."""


@dataclass(frozen=True, slots=True)
class Told:
    """A listener is forgotten up to an offset of a partition of `user-events`.

    ``requested_ms`` is the log's time of the request, ``offset`` that of the newest record of
    `forgotten-listeners` that names the listener, in the same partition.
    """

    user_id: str
    partition: int
    up_to: int
    requested_ms: int
    offset: int


class Forgotten:
    """Whom `forgotten-listeners` names, as far as it has been read."""

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        """Partition -> the first offset that has not been read."""
        self._told: dict[tuple[str, int], Told] = {}

    @property
    def up_to(self) -> dict[tuple[str, int], int]:
        """The last offset that is forgotten, as `UpTo`."""
        return {key: told.up_to for key, told in self._told.items()}

    def take(self, partition: int, messages: Iterable[Message], end: int) -> None:
        """Take in what lies in a partition before the offset ``end``, in the order of the log."""
        for message in messages:
            if (forgetting := forgetting_of(message.headers)) is None:
                continue
            key = (forgetting.user_id, partition)
            # A process that had lost the partition may have written last.
            known = self._told.get(key)
            up_to = max(forgetting.up_to, known.up_to if known else -1)
            self._told[key] = Told(*key, up_to, forgetting.requested_ms, message.offset)
        self.ends[partition] = max(end, self.ends.get(partition, 0))

    def since(self, noted: Mapping[int, int]) -> list[Told]:
        """Who is named at or above these offsets of the partitions, in the order of the log.

        Whoever is forgotten before the first event is left out: there is nothing to remove.
        """
        if all(noted.get(partition, 0) >= end for partition, end in self.ends.items()):
            return []
        found = [
            one
            for one in self._told.values()
            if one.up_to >= 0 and one.offset >= noted.get(one.partition, 0)
        ]
        return sorted(found, key=lambda one: (one.partition, one.offset))


class ForgottenRows:
    """Drops rows that a table may not have any more, as they come."""

    def __init__(self, up_to: UpTo):
        self._up_to = up_to
        self._names = pa.array(sorted({user_id for user_id, _ in up_to}), pa.string())

    def without(self, rows: pa.Table, made_from: MadeFrom | None) -> pa.Table:
        """The rows but those of forgotten listeners that are made of nothing later."""
        if made_from is None or not len(self._names) or not len(rows):
            return rows
        named = np.flatnonzero(pc.is_in(rows[LISTENER], value_set=self._names).to_numpy())
        if not named.size:
            return rows
        place = (LISTENER, made_from.partition, made_from.offset)
        cells = zip(named, *(rows[name].take(named).to_pylist() for name in place), strict=True)
        kept = np.ones(len(rows), dtype=bool)
        for row, user_id, partition, offset in cells:
            kept[row] = offset > self._up_to.get((user_id, partition), -1)
        return rows if kept.all() else rows.filter(pa.array(kept))


def rows_of(told: Sequence[Told], made_from: MadeFrom) -> str:
    """The SQL condition, for delta-rs, of the rows that are made of nothing later than these."""
    return " OR ".join(f"({_rows_of(one, made_from)})" for one in told)


def _rows_of(one: Told, made_from: MadeFrom) -> str:
    named = one.user_id.replace("'", "''")
    of_before = f"{made_from.partition} = {one.partition} AND {made_from.offset} <= {one.up_to}"
    if made_from.time is not None:
        at = datetime.fromtimestamp(one.requested_ms / 1000, UTC).isoformat()
        older = f"{made_from.offset} IS NULL AND {made_from.time} <= '{at}'"
        of_before = f"(({of_before}) OR ({older}))"
    return f"{LISTENER} = '{named}' AND {of_before}"
