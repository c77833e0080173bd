"""What is known of the listeners of one source partition: open sessions and streaks.

A function of the partition's log up to the offset ``applied``, however the log is cut into
batches. It holds the listeners of the last hours and days, not everybody who ever was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas import columnar
from streams.engagement.core.sessions import SUMS, ClosedSessions, Sessions
from streams.engagement.core.streaks import Streaks
from streams.events.core.event_rows import KINDS, EventRows, late
from streams.state.columnar import ColumnarState
from streams.state.hash_table import ColumnarHashTable
from streams.state.interner import StringInterner

PLAY, COMPLETE = KINDS.index("play"), KINDS.index("complete")

_NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class ListeningRows:
    """What events have brought about: rows of `listening_session` and `listening_streak`.

    Sessions are in ascending order of the offset of the event that closed them.
    """

    sessions: pl.DataFrame
    streaks: pl.DataFrame


class Listening(ColumnarState):
    """The state of one source partition."""

    FIGURES = ("applied", "watermark", "late", "events")

    def __init__(self, partition: int, lateness_ms: int):
        self.partition = partition
        self.applied = -1
        self.watermark = _NEVER
        self.late = 0
        self.events = 0
        self.users = StringInterner()
        self.sessions = Sessions(lateness_ms)
        self.streaks = Streaks(lateness_ms)
        self._lateness_ms = lateness_ms
        self._restored = False

    # -- counting ------------------------------------------------------------------------------

    def apply(self, rows: EventRows) -> ListeningRows:
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
        news = ListeningRows(
            self._session_rows(self.sessions.close(self.watermark), rows),
            self._streak_rows(changed),
        )
        self.streaks.drop_old(self.watermark)
        return news

    def forget(self, user_id: str, nobody: str) -> bool:
        """Drop the open session and the streak of a listener, whose number goes to ``nobody``.

        Whether the listener was known. Of the changes none tells of it: a snapshot does.
        """
        if (code := self.users.rename(user_id, nobody)) is None:
            return False
        self.sessions.drop_user(code)
        self.streaks.drop_user(code)
        return True

    def _session_rows(self, closed: ClosedSessions, rows: EventRows) -> pl.DataFrame:
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

    def _tables(self) -> dict[str, ColumnarHashTable]:
        return {"sessions": self.sessions.rows, "streaks": self.streaks.rows}

    def _names(self) -> dict[str, StringInterner]:
        return {"users": self.users}

    def load_changes(self, value: bytes) -> None:
        """Take over what `changes` gave."""
        super().load_changes(value)
        self._restored = True

    def snapshot(self) -> Iterator[bytes]:
        """The whole state in pieces, without the sessions that are gone."""
        self.sessions.drop_gone()
        return super().snapshot()

    def _used(self) -> dict[str, np.ndarray]:
        used = np.zeros(len(self.users), bool)
        used[self.sessions.users()] = used[self.streaks.users()] = True
        return {"users": used}

    def _renumber(self, numbers: Mapping[str, np.ndarray]) -> None:
        self.sessions.renumber(numbers["users"])
        self.streaks.renumber(numbers["users"])


_NO_SESSIONS = pl.DataFrame(schema=columnar.columns("listening_session"))
_NO_STREAKS = pl.DataFrame(schema=columnar.columns("listening_streak"))
