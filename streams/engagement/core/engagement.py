"""What happens to each episode, folded over the events of one source partition.

The state is a function of the partition's log up to the offset ``applied``, however the log is
cut into batches. It holds what may still change or is still looked at: minutes of the last hour,
hours of the last day, the days that are not over, and who heard what. Everything else has been
handed out by `close` and is dropped, so memory is bounded by how many episodes and listeners are
active, not by how many events there were.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.metrics import EVENT_COUNTS
from schemas.units import DAY_MS, MINUTE_MS
from streams.engagement.core.audience import FORGOTTEN_MS, PAIR_COLUMNS, hear
from streams.events.core.event_rows import KINDS, SKIP, EventRows, late
from streams.state.arrays import spread
from streams.state.columnar import ColumnarState
from streams.state.hash_table import ColumnarHashTable
from streams.state.interner import StringInterner

COUNTS = (*EVENT_COUNTS, "streams", "listeners", "new_listeners", "engaged")
"""What is counted per episode and minute, beside the milliseconds heard, in the order in which the
state has it on disk."""

HOUR_MINUTES = 60
DAY_MINUTES = 24 * 60
COVERED_MINUTES = 256
"""Minutes of an episode for which retention is kept."""

_KEPT_MINUTES = HOUR_MINUTES + 1
_KEPT_HOURS = 25
_LOW = 32
_LOW_MASK = (1 << _LOW) - 1
_USER_SHIFT, _EPISODE_SHIFT = 39, 15
_DAY_MASK, _EPISODE_MASK = (1 << _EPISODE_SHIFT) - 1, (1 << 24) - 1
_MOST_NAMES = 1 << 24
"""A key of ``heard`` has 24 bits for the listener, 24 for the episode, 15 for the day, which
last until 2059."""

_NEVER = -(1 << 62)

_COLUMN = {name: number for number, name in enumerate(COUNTS)}
_OF_KIND = np.array([_COLUMN.get(f"{kind}s", -1) for kind in KINDS])
_SUMS = {"counts": ("i4", (len(COUNTS),)), "heard_ms": "i8"}


class Engagement(ColumnarState):
    """The live tables of one source partition.

    ``minutes``, ``hours`` and ``days`` hold counts by episode and minute, hour or day number since
    1970 (see `episode_of`, `time_of`); hours and days get a minute's counts when it is closed.
    ``pairs`` holds listeners by episode, ``heard`` the minutes of the episode that a listener
    heard on a day. ``closed`` is the last minute that is over; ``active`` tells, by number, the
    episodes that something has happened to since `forget_active`. ``restored`` says that the state
    was loaded: what of it had been handed out, nobody knows.
    """

    FIGURES = ("applied", "watermark", "late", "events", "closed")

    def __init__(self, lateness_ms: int):
        self.lateness_ms = lateness_ms
        self.applied = -1
        self.watermark = _NEVER
        self.late = 0
        self.events = 0
        self.closed = _NEVER
        self.episodes = StringInterner()
        self.users = StringInterner()
        self.minutes = ColumnarHashTable({"offset": "i8", **_SUMS})
        self.hours = ColumnarHashTable(_SUMS)
        self.days = ColumnarHashTable({"offset": "i8", **_SUMS})
        self.pairs = ColumnarHashTable(PAIR_COLUMNS)
        self.heard = ColumnarHashTable({"cover": ("u8", (COVERED_MINUTES // 64,))})
        self.active = np.zeros(0, bool)
        self.restored = False

    # -- counting ------------------------------------------------------------------------------

    def apply(self, rows: EventRows) -> np.ndarray:
        """Count rows above ``applied``; gives the mask of those that are too late for it."""
        too_late, self.watermark = late(rows, self.watermark, self.lateness_ms)
        self.applied = int(rows.offsets[-1])
        self.events += len(rows)
        self.late += int(too_late.sum())
        counted = rows.take(~too_late)
        if len(counted):
            episodes = self.episodes.codes(counted.episodes)
            self._note_active(episodes)
            slots = self._count_minutes(counted, episodes)
            if counted.listening.any():
                self._count_listening(counted, episodes, slots)
        return too_late

    def _note_active(self, episodes: np.ndarray) -> None:
        if len(self.active) < len(self.episodes):
            more = max(len(self.episodes), 2 * len(self.active)) - len(self.active)
            self.active = np.concatenate((self.active, np.zeros(more, bool)))
        self.active[episodes] = True

    def forget_active(self) -> None:
        """No episode counts as active until it is heard of again."""
        self.active[:] = False

    def _count_minutes(self, rows: EventRows, episodes: np.ndarray) -> np.ndarray:
        slots = self.minutes.upsert((episodes << _LOW) | (rows.times // MINUTE_MS))
        columns = _OF_KIND[rows.kinds]
        known = columns >= 0
        self._add(slots[known], columns[known])
        np.add.at(self.minutes["heard_ms"], slots, rows.heard_ms)
        # Offsets ascend: of the rows of one slot the last is written last.
        self.minutes["offset"][slots] = rows.offsets
        self.minutes.touch(slots)
        return slots

    def _count_listening(self, rows: EventRows, episodes: np.ndarray, slots: np.ndarray) -> None:
        here = np.flatnonzero(rows.listening)
        episodes, slots = episodes[here], slots[here]
        users = self.users.codes(rows.users.take(here))
        if max(len(self.users), len(self.episodes)) > _MOST_NAMES:
            raise OverflowError(f"more than {_MOST_NAMES} listeners or episodes in a partition")
        times, heard_ms = rows.times[here], rows.heard_ms[here]
        pairs = self.pairs.upsert((users << _LOW) | episodes)
        done = hear(self.pairs, pairs, times, heard_ms, rows.duration_ms[here])
        for name, mask in (
            ("new_listeners", done.new_listener),
            ("listeners", done.listener),
            ("streams", done.stream),
            ("engaged", done.engaged),
        ):
            self._add(slots[mask], np.full(int(mask.sum()), _COLUMN[name]))
        days = times // DAY_MS
        keys = (users << _USER_SHIFT) | (episodes << _EPISODE_SHIFT) | days
        heard = self.heard.upsert(keys)
        self.heard.touch(heard)
        # What was heard before a skip lies before the place that was skipped from, which it does
        # not tell: its position is the one after it.
        told = rows.kinds[here] != SKIP
        self._cover(heard, np.where(told, rows.position_ms[here], 0), heard_ms)

    def _add(self, slots: np.ndarray, columns: np.ndarray) -> None:
        counts = self.minutes["counts"].reshape(-1)
        np.add.at(counts, slots * len(COUNTS) + columns, np.int32(1))

    def _cover(self, slots: np.ndarray, position_ms: np.ndarray, heard_ms: np.ndarray) -> None:
        """Note the minutes of the episode that lie in what was heard before ``position_ms``."""
        start = np.maximum(position_ms - heard_ms, 0) // MINUTE_MS
        end = np.minimum((position_ms - 1) // MINUTE_MS, COVERED_MINUTES - 1)
        length = np.where((heard_ms > 0) & (position_ms > 0), np.maximum(end - start + 1, 0), 0)
        each, following = spread(length)
        minute = start[each] + following
        words = self.heard["cover"].reshape(-1)
        place = slots[each] * (COVERED_MINUTES // 64) + minute // 64
        np.bitwise_or.at(words, place, np.uint64(1) << (minute % 64).astype(np.uint64))

    # -- closing -------------------------------------------------------------------------------

    def close_minutes(self) -> np.ndarray:
        """The slots of minutes that no event can change any more, in ascending order of time.

        They have been added to their hours and days. Call `drop_old` when they have been used.
        """
        over = (self.watermark - self.lateness_ms) // MINUTE_MS - 1
        if over <= self.closed:
            return np.zeros(0, np.int64)
        times = time_of(self.minutes)
        slots = np.flatnonzero((times > self.closed) & (times <= over))
        slots = slots[np.lexsort((self.minutes.keys[slots], times[slots]))]
        for table, length in ((self.hours, HOUR_MINUTES), (self.days, DAY_MINUTES)):
            keys = (episode_of(self.minutes)[slots] << _LOW) | (times[slots] // length)
            sums = table.upsert(keys)
            np.add.at(table["counts"], sums, self.minutes["counts"][slots])
            np.add.at(table["heard_ms"], sums, self.minutes["heard_ms"][slots])
            table.touch(sums)
            if table is self.days:
                np.maximum.at(table["offset"], sums, self.minutes["offset"][slots])
        self.closed = over
        return slots

    def days_over(self) -> np.ndarray:
        """The days (numbers since 1970) that are over and still held, ascending."""
        days = np.unique(time_of(self.days))
        over: np.ndarray = days[self._is_over(days)]
        return over

    def _is_over(self, days: np.ndarray) -> np.ndarray:
        return (days + 1) * DAY_MINUTES <= self.closed + 1

    def drop_old(self) -> None:
        """Drop what has been handed out and is not looked at any more."""
        if self.closed == _NEVER:
            return
        newest = self.watermark // MINUTE_MS
        _drop(self.minutes, time_of(self.minutes) <= min(self.closed, newest - _KEPT_MINUTES))
        _drop(self.hours, time_of(self.hours) <= newest // HOUR_MINUTES - _KEPT_HOURS)
        forgotten = self.watermark - self.lateness_ms - FORGOTTEN_MS
        _drop(self.pairs, self.pairs["last"] < forgotten)

    def drop_days(self) -> None:
        """Drop the days that are over, once their final counts have been handed out."""
        self.days.drop(self._is_over(time_of(self.days)))
        self.heard.drop(self._is_over(self.heard_keys()[1]))

    def heard_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Episode and day of the rows of ``heard``."""
        keys = self.heard.keys
        return (keys >> _EPISODE_SHIFT) & _EPISODE_MASK, keys & _DAY_MASK

    def heard_users(self) -> np.ndarray:
        """The listener, by number, of the rows of ``heard``."""
        return self.heard.keys >> _USER_SHIFT

    def forget(self, user_id: str, nobody: str) -> bool:
        """Give the number of a listener to ``nobody``: what was counted stays, of nobody.

        Whether the listener was known. Of the changes none tells of it: a snapshot does.
        """
        return self.users.rename(user_id, nobody) is not None

    # -- state ---------------------------------------------------------------------------------

    def _tables(self) -> dict[str, ColumnarHashTable]:
        return {
            "minutes": self.minutes,
            "hours": self.hours,
            "days": self.days,
            "pairs": self.pairs,
            "heard": self.heard,
        }

    def _names(self) -> dict[str, StringInterner]:
        return {"episodes": self.episodes, "users": self.users}

    def load_changes(self, value: bytes) -> None:
        """Take over what `changes` gave; the days that it ends are dropped, as when it was
        written."""
        days_closed = (self.closed + 1) // DAY_MINUTES
        super().load_changes(value)
        # Days were handed out before it was written that they are over: with their last minute.
        if (self.closed + 1) // DAY_MINUTES != days_closed:
            self.drop_days()
        self.restored = True
        self.active = np.ones(len(self.episodes), bool)

    def _used(self) -> dict[str, np.ndarray]:
        users, episodes = np.zeros(len(self.users), bool), np.zeros(len(self.episodes), bool)
        users[pair_users(self.pairs)] = users[self.heard_users()] = True
        episodes[pair_episodes(self.pairs)] = episodes[self.heard_keys()[0]] = True
        for table in (self.minutes, self.hours, self.days):
            episodes[episode_of(table)] = True
        return {"users": users, "episodes": episodes}

    def _renumber(self, numbers: Mapping[str, np.ndarray]) -> None:
        users, episodes = numbers["users"], numbers["episodes"]
        self.active = np.ones(len(self.episodes), bool)
        for table in (self.minutes, self.hours, self.days):
            table.rekey((episodes[episode_of(table)] << _LOW) | time_of(table))
        pair_keys = (users[pair_users(self.pairs)] << _LOW) | episodes[pair_episodes(self.pairs)]
        self.pairs.rekey(pair_keys)
        heard_episodes, days = self.heard_keys()
        self.heard.rekey(
            (users[self.heard_users()] << _USER_SHIFT)
            | (episodes[heard_episodes] << _EPISODE_SHIFT)
            | days
        )


def episode_of(table: ColumnarHashTable) -> np.ndarray:
    """The episode, by number, of each row of minutes, hours or days."""
    return table.keys >> _LOW


def time_of(table: ColumnarHashTable) -> np.ndarray:
    """The minute, hour or day since 1970 of each row of minutes, hours or days."""
    return table.keys & _LOW_MASK


def pair_episodes(pairs: ColumnarHashTable) -> np.ndarray:
    """The episode, by number, of each row of ``pairs``."""
    return pairs.keys & _LOW_MASK


def pair_users(pairs: ColumnarHashTable) -> np.ndarray:
    """The listener, by number, of each row of ``pairs``."""
    return pairs.keys >> _LOW


def _drop(table: ColumnarHashTable, old: np.ndarray) -> None:
    # Dropping costs as much as there is in the table: wait until a good part of it is old.
    if 4 * int(old.sum()) > len(table):
        table.drop(old)
