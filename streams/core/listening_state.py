"""What is known of the listeners of one source partition: open sessions and streaks.

A function of the partition's log up to the offset ``applied``, however the log is cut into
batches. It holds the listeners of the last hours and days, not everybody who ever was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from schemas import columnar
from streams.core.event_rows import KINDS, EventRows, late
from streams.core.keyed import KeyedTable
from streams.core.names import Names
from streams.core.packing import pack, unpack
from streams.core.sessions import SUMS, Closed, Sessions
from streams.core.streaks import Streaks

PLAY, COMPLETE = KINDS.index("play"), KINDS.index("complete")

_NEVER = -(1 << 62)
_META = ("applied", "watermark", "late", "events")
_PIECE_ROWS = 100_000
_FEWEST_PRUNED = 1_000


@dataclass(frozen=True, slots=True)
class News:
    """What events have brought about: rows of `listening_session` and `listening_streak`.

    Sessions are in ascending order of the offset of the event that closed them.
    """

    sessions: pl.DataFrame
    streaks: pl.DataFrame


class Listening:
    """The state of one source partition."""

    def __init__(self, partition: int, lateness_ms: int):
        self.partition = partition
        self.applied = -1
        self.watermark = _NEVER
        self.late = 0
        self.events = 0
        self.users = Names()
        self.sessions = Sessions(lateness_ms)
        self.streaks = Streaks(lateness_ms)
        self._lateness_ms = lateness_ms
        self._restored = False

    # -- counting ------------------------------------------------------------------------------

    def apply(self, rows: EventRows) -> News:
        """Take in rows above ``applied``, at least one."""
        if self._restored:
            self.sessions.settle(self.watermark)
            self._restored = False
        too_late, self.watermark = late(rows, self.watermark, self._lateness_ms)
        self.applied = int(rows.offsets[-1])
        self.events += len(rows)
        self.late += int(too_late.sum())
        taken = rows.take(~too_late)
        changed = np.zeros(0, np.int64)
        if len(taken):
            users = self.users.codes(taken.users)
            self.sessions.add(
                users, taken.times, taken.kinds == PLAY, taken.kinds == COMPLETE, taken.heard_ms
            )
            changed = self.streaks.add(users[taken.listening], taken.times[taken.listening])
        news = News(
            self._session_rows(self.sessions.close(self.watermark), rows),
            self._streak_rows(changed),
        )
        self.streaks.drop_old(self.watermark)
        return news

    def _session_rows(self, closed: Closed, rows: EventRows) -> pl.DataFrame:
        if not len(closed):
            return _NO_SESSIONS
        # The offset is that of the event that closed the session: whoever folds the same log, in
        # whatever batches, says the same of it.
        by = self.sessions.closed_by(closed.ended_at, rows.times)
        order = np.argsort(by, kind="stable")
        columns = {
            "user_id": self.users.of(closed.users[order]),
            "started_at": closed.started_at[order],
            "ended_at": closed.ended_at[order],
            "source_partition": np.full(len(order), self.partition, np.int32),
            "offset": rows.offsets[by[order]],
            **{name: closed.sums[name][order] for name in SUMS},
        }
        return pl.DataFrame(columns).cast(_NO_SESSIONS.schema)

    def _streak_rows(self, slots: np.ndarray) -> pl.DataFrame:
        if not slots.size:
            return _NO_STREAKS
        users, days, length = self.streaks.rows_of(slots)
        columns = {
            "user_id": self.users.of(users),
            "day": days.astype(np.int32),
            "days": length,
            "source_partition": np.full(len(users), self.partition, np.int32),
            "offset": np.full(len(users), self.applied),
        }
        return pl.DataFrame(columns).cast(_NO_STREAKS.schema)

    # -- state ---------------------------------------------------------------------------------

    def _tables(self) -> dict[str, KeyedTable]:
        return {"sessions": self.sessions.rows, "streaks": self.streaks.rows}

    def _meta(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pydict({name: [getattr(self, name)] for name in _META})

    def changes(self) -> bytes:
        parts = {"meta": self._meta()}
        if added := self.users.added():
            parts["users"] = _names_batch(len(self.users) - len(added), added)
        for name, table in self._tables().items():
            if (slots := table.changed()).size:
                parts[name] = table.to_arrow(slots)
        self._forget_changes()
        return pack(parts)

    def _forget_changes(self) -> None:
        for table in self._tables().values():
            table.forget_changes()
        self.users.forget_changes()

    def snapshot(self) -> Iterator[bytes]:
        self.sessions.drop_gone()
        self._prune()
        self._forget_changes()
        yield pack({"meta": self._meta()})
        for first in range(0, len(self.users), _PIECE_ROWS):
            piece = self.users.all()[first : first + _PIECE_ROWS]
            yield pack({"users": _names_batch(first, piece)})
        for name, table in self._tables().items():
            for first in range(0, len(table), _PIECE_ROWS):
                slots = np.arange(first, min(first + _PIECE_ROWS, len(table)))
                yield pack({name: table.to_arrow(slots)})

    def load_changes(self, value: bytes) -> None:
        tables = self._tables()
        for name, rows in unpack(value).items():
            if name in tables:
                tables[name].load(rows)
            elif name == "users":
                first = rows.column("first")[0].as_py()
                self.users.load(first, rows.column("name").to_pylist())
            else:
                for field in _META:
                    setattr(self, field, rows.column(field)[0].as_py())
        self._restored = True

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.load_changes(piece)

    def _prune(self) -> None:
        """Forget listeners that nothing refers to, if they are the most: numbers are given anew."""
        used = np.zeros(len(self.users), bool)
        used[self.sessions.users()] = used[self.streaks.users()] = True
        if 2 * int(used.sum()) + _FEWEST_PRUNED > len(used):
            return
        numbers = self.users.keep(used)
        self.sessions.renumber(numbers)
        self.streaks.renumber(numbers)


_NO_SESSIONS = pl.DataFrame(schema=columnar.columns("listening_session"))
_NO_STREAKS = pl.DataFrame(schema=columnar.columns("listening_streak"))


def _names_batch(first: int, names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"first": pa.array([first] * len(names), pa.int64()), "name": pa.array(names, pa.string())}
    )
