"""What the messages of `engagement-windows` say beside their rows, and what follows from it.

Their headers say of source partitions which minute was the last that is over, by which time of the
log, and up to which time of the log nothing more has come. Here it is asked whether that is true of
the log of events; and, message by message, which anomalies are then to be told.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.oracle import tables
from tests.oracle.anomalies import BIN, DAY, EPOCH, MINUTE, Found, Watcher
from tests.oracle.tables import Verdict


@dataclass(frozen=True)
class Told:
    """A message: its rows, and by source partition the last minute since 1970 that is over, and
    times of the log in milliseconds."""

    rows: Sequence[Mapping[str, Any]]
    closed: Mapping[int, int]
    logged: Mapping[int, int]
    quiet: Mapping[int, int]


class Follower:
    """Reads the messages of a partition one after the other, and finds anomalies."""

    def __init__(self, partitions: int) -> None:
        self.waited_for_all = True
        """Whether no source partition has been left out for being idle."""
        self._partitions = range(partitions)
        self._rows: dict[tuple[int, str, int], tuple[int, int]] = {}
        """Source partition, episode and bin's minute -> offset and plays of the newest row."""
        self._over: dict[int, int] = defaultdict(int)
        self._reached: list[tuple[int, int, int]] = []
        """Source partition, time of the log, and the first bin that was not over then."""
        self._quiet: dict[int, int] = {}
        self._watcher = Watcher()

    def follow(self, messages: Iterable[Told]) -> Found:
        """Take in the next messages; everything that was found so far."""
        for message in messages:
            self._take(message)
        return dict(self._watcher.found)

    def _take(self, message: Told) -> None:
        for row in message.rows:
            minute = (row["bucket"] - EPOCH) // MINUTE
            place = (row["source_partition"], row["episode_id"], minute)
            if row["offset"] >= self._rows.get(place, (-1, 0))[0]:
                self._rows[place] = (row["offset"], row["plays"])
        for source, minute in message.closed.items():
            self._over[source] = max(self._over[source], (minute + 1) // BIN)
            if source in message.logged:
                self._reached.append((source, message.logged[source], (minute + 1) // BIN))
        for source, time in message.quiet.items():
            self._quiet[source] = max(self._quiet.get(source, 0), time)
        self._judge(min(self._waited_to(source) for source in self._partitions))

    def _waited_to(self, source: int) -> int:
        """The first bin for which a source partition is waited for."""
        quiet_to = self._quiet.get(source, -1)
        others = [end for who, time, end in self._reached if who != source and time <= quiet_to]
        idle = max(others, default=0) - DAY
        self.waited_for_all &= idle <= self._over[source]
        return max(self._over[source], idle)

    def _judge(self, end: int) -> None:
        bins: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for (_, episode, minute), (_, plays) in self._rows.items():
            bins[minute // BIN][episode] += plays
        self._watcher.plays = dict(bins)
        self._watcher.judge(end)


def check_headers(
    verdicts: Mapping[int, Sequence[Verdict]],
    messages: Iterable[tuple[int, Told]],
    lateness: timedelta,
    partitions: int,
) -> None:
    """AssertionError if a header says what the log of events does not bear out.

    ``verdicts``: by source partition; ``messages``: with their partitions, in the order of these.
    """
    on_time = {source: tables.on_time(some) for source, some in verdicts.items()}
    told: dict[tuple[int, int, str, datetime], int] = {}
    for target, message in messages:
        for row in message.rows:
            place = (target, row["source_partition"], row["episode_id"], row["bucket"])
            told[place] = max(told.get(place, -1), row["offset"])

        def untold(source: int, of: Sequence[Verdict], target: int = target) -> list[Verdict]:
            """Events of a source partition of which nothing here has told."""
            return [
                one
                for one in of
                if zlib.crc32(one.row.episode.encode()) % partitions == target
                and told.get((target, source, one.row.episode, one.minute), -1) < one.row.offset
            ]

        for source, minute in message.closed.items():
            end = EPOCH + (minute + 1) * MINUTE
            left = untold(source, [one for one in on_time.get(source, ()) if one.at < end])
            assert not left, f"{source} is said to be over up to {end}, without {left}"
            if source in message.logged:
                then = _logged_to(verdicts[source], message.logged[source])
                reached = tables.watermark_of(then) - lateness if then else EPOCH
                said = f"to have been at {end} at {message.logged[source]} ms of the log"
                assert reached >= end, f"{source} is said {said}, but was at {reached}"
        for source, time in message.quiet.items():
            left = untold(source, _logged_to(on_time.get(source, ()), time))
            assert not left, f"{source} is said to be quiet up to {time}, without {left}"


def _logged_to(verdicts: Sequence[Verdict], time_ms: int) -> list[Verdict]:
    time = datetime.fromtimestamp(time_ms / 1000, UTC)
    return [one for one in verdicts if one.row.logged_at <= time]
