"""What the search for anomalies remembers of one partition of `engagement-windows`.

How far each source partition is, the plays of the bins that are not over, and the history of every
episode heard within a day. Which bins are over when is told in `streams.engagement.core.anomalies`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import ClassVar

import numpy as np
import pyarrow as pa

from streams.engagement.core.anomalies import (
    BIN_MINUTES,
    DAY_BINS,
    IDLE_BINS,
    LONGEST_GAP_BINS,
    History,
    Surprise,
)
from streams.engagement.core.window_rows import (
    MINUTE_BITS,
    SOURCE_BITS,
    SOURCES,
    SourceCounts,
    WindowMessage,
    minute_of,
    source_of,
    window_rows,
)
from streams.engagement.core.window_state import WindowState, by_source
from streams.state.hash_table import ColumnarHashTable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = ("plays",)
_FIGURES = {"bins": np.int32, "last_heard": np.int32, "level": np.float64, "error": np.float64}
_SOURCES, _LOGGED, _FURTHEST = "sources", "logged", "furthest"
_FURTHEST_KEPT = 64
"""Hours of event time, where it goes with the clock: who is quiet says so every hour."""

_BIN_MASK = (1 << MINUTE_BITS) - 1


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A bin of an episode that is far from what its history makes one expect."""

    episode_id: str
    bin_number: int
    plays: int
    surprise: Surprise

    @property
    def at(self) -> datetime:
        """When the bin begins, UTC."""
        return _EPOCH + timedelta(minutes=self.bin_number * BIN_MINUTES)


class AnomalyState(WindowState):
    """The search for anomalies in one partition; ``partitions``: how many source ones there are.

    ``closed``: every bin before this one has been judged, or left out.
    """

    FIGURES = ("applied", "closed")
    SHIFTS: ClassVar = {"parts": MINUTE_BITS + SOURCE_BITS, "sums": MINUTE_BITS, "histories": 0}

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._partitions = partitions
        self.closed = 0
        self._done = np.zeros(SOURCES, np.int64)  # the first bin that may change, by source
        self._furthest: list[tuple[int, int]] = []
        """When, by the log's time, which bin was the first that might change in the source
        partition that was furthest; both ascend."""
        self._quiet_ms = np.zeros(SOURCES, np.int64)  # up to when there is nothing more, by source
        self._idle = np.zeros(SOURCES, np.int64)  # the first bin that is waited for, by source
        self._settled = self._done  # the first bin whose parts have not been added up, by source
        self._logged = np.zeros(0, np.int64)  # the open bins with any event, ascending
        self._parts = SourceCounts(_COUNTS)
        self._sums = ColumnarHashTable({"plays": np.int64})
        self._learned = ColumnarHashTable(_FIGURES)
        self._histories: dict[int, History] | None = {}

    def __len__(self) -> int:
        """How many episodes have a history."""
        return len(self._learned)

    # -- folding -------------------------------------------------------------------------------

    def fold(self, messages: Iterable[WindowMessage]) -> list[Anomaly]:
        """Take in messages in the order of their offsets; what is found in the bins they end."""
        found: list[Anomaly] = []
        waiting: list[WindowMessage] = []
        for message in [message for message in messages if message.offset > self.applied]:
            self.applied = message.offset
            # Where nothing is ever told to be over, as by an earlier release, nothing is kept.
            if message.watermarks or self._done.any():
                waiting.append(message)
            told = _first_open(message)
            moved = {source: n for source, n in told.items() if n > self._done[source]}
            if not self._note_log_times(message, told) and not moved:
                continue
            further = max(moved.values(), default=0) > self._done.max()
            self._done = self._done.copy()
            self._done[list(moved)] = list(moved.values())
            if further or self._end() > self.closed:
                self._add(waiting)
                waiting = []
                self._settle(self._end())
                found += self._close(self._end())
        self._add(waiting)
        return found

    def _note_log_times(self, message: WindowMessage, told: Mapping[int, int]) -> bool:
        """Note the log's times of a message, and where its source partitions were by them; whether
        anybody may be idle now who was not."""
        news = False
        for source, at_ms in message.logged_ms.items():
            news |= self._note_furthest(at_ms, told.get(source, 0))
        for source, at_ms in message.quiet_ms.items():
            if 0 <= source < SOURCES and at_ms > self._quiet_ms[source]:
                self._quiet_ms[source], news = at_ms, True
        if news:
            self._excuse()
        return news

    def _note_furthest(self, at_ms: int, number: int) -> bool:
        """Note that at some time this bin was the first that might change in a source partition;
        whether none was known to be as far by then. What is told late, of a time before, counts
        as well."""
        place = bisect_right(self._furthest, at_ms, key=itemgetter(0))
        if number <= (self._furthest[place - 1][1] if place else 0):
            return False
        later = [told for told in self._furthest[place:] if told[1] > number]
        self._furthest[place:] = [(at_ms, number), *later]
        del self._furthest[:-_FURTHEST_KEPT]
        return True

    def _excuse(self) -> None:
        """See who is idle: quiet, by the log's time, when another was a day of event time ahead."""
        by_time = np.array(self._furthest, np.int64).reshape(-1, 2)
        furthest = np.append(0, by_time[:, 1])
        before = np.searchsorted(by_time[:, 0], self._quiet_ms, "right")
        np.maximum(self._idle, furthest[before] - IDLE_BINS, out=self._idle)

    def _end(self) -> int:
        """The first bin that a source partition that is waited for may still change."""
        own = slice(self._partitions)
        return int(np.maximum(self._done[own], self._idle[own]).min())

    def _add(self, messages: Sequence[WindowMessage]) -> None:
        if not messages:
            return
        rows = window_rows(messages, _COUNTS)
        bins = rows.minutes // BIN_MINUTES
        fresh = (bins >= self.closed) & (bins >= self._settled[rows.sources])
        self._logged = np.union1d(self._logged, bins[fresh])
        rows = rows.take(fresh & (rows.counts["plays"] > 0))
        self._parts.replace(rows.keys(self.names), rows)

    def _settle(self, end: int) -> None:
        """Add up what cannot change any more, so that waiting for others costs little; and of the
        bins before ``end``, which are judged now, also what those have said who are idle."""
        sources, bins = source_of(self._parts.keys), minute_of(self._parts.keys) // BIN_MINUTES
        gone = (bins < self._settled[sources]) | (bins < self.closed)
        over = (bins < np.maximum(self._done[sources], end)) & ~gone
        self._settled = self._done
        codes = self._parts.keys[over] >> self.SHIFTS["parts"]
        slots = self._sums.upsert(codes << MINUTE_BITS | bins[over])
        np.add.at(self._sums["plays"], slots, self._parts["plays"][over])
        self._sums.touch(slots)
        gone |= over
        # Dropping costs as much as all parts: a little at a time is not worth it.
        if 4 * gone.sum() > len(gone):
            self._parts.drop(gone)

    def _drop_settled(self) -> None:
        """Drop the parts that have been added up, and those of bins judged without them."""
        sources, bins = source_of(self._parts.keys), minute_of(self._parts.keys) // BIN_MINUTES
        self._parts.drop((bins < self._settled[sources]) | (bins < self.closed))

    def _close(self, end: int) -> list[Anomaly]:
        """Judge the bins before ``end``, as far as there are any events."""
        over = self._logged[self._logged < end]
        if not over.size:
            return []
        found: list[Anomaly] = []
        following = self.closed
        for logged in over.tolist():
            if logged - following <= LONGEST_GAP_BINS:
                for silent in range(following, logged):
                    found += self._learn(silent, {})
            found += self._learn(logged, self._plays(logged))
            following = logged + 1
        self.closed = following
        self._note()
        self._drop_old()
        return found

    def _plays(self, number: int) -> dict[int, int]:
        """Plays by episode in a bin, source partitions added up."""
        chosen = self._sums.keys & _BIN_MASK == number
        codes = self._sums.keys[chosen] >> MINUTE_BITS
        return dict(zip(codes.tolist(), self._sums["plays"][chosen].tolist(), strict=True))

    def _learn(self, number: int, plays: Mapping[int, int]) -> list[Anomaly]:
        histories, found = self._episode_histories(), []
        for code in [c for c, h in histories.items() if h.last_heard < number - DAY_BINS]:
            del histories[code]
        for code, history in histories.items():
            count = plays.get(code, 0)
            if (surprise := history.score_one(count)) is not None:
                found.append(Anomaly(self.names[code], number, count, surprise))
            history.learn_one(number, count)
        for code in plays.keys() - histories.keys():
            histories[code] = History()
            histories[code].learn_one(number, plays[code])
        return sorted(found, key=lambda anomaly: anomaly.episode_id)

    def _episode_histories(self) -> dict[int, History]:
        """The histories by episode, made of their figures after a restore."""
        if self._histories is None:
            columns = (self._learned[name].tolist() for name in _FIGURES)
            restored = map(History.restored, *columns)
            self._histories = dict(zip(self._learned.keys.tolist(), restored, strict=True))
        return self._histories

    def _note(self) -> None:
        """Write down the figures of all histories."""
        histories = self._episode_histories()
        slots = self._learned.upsert(np.fromiter(histories, np.int64, len(histories)))
        for name in _FIGURES:
            self._learned[name][slots] = [getattr(each, name) for each in histories.values()]
        self._learned.touch(slots)

    def _drop_old(self) -> None:
        """Drop what the clocks say is over."""
        self._logged = self._logged[self._logged >= self.closed]
        self._sums.drop(self._sums.keys & _BIN_MASK < self.closed)
        # As they were forgotten when the last bin was judged.
        self._learned.drop(self._learned["last_heard"] < self.closed - 1 - DAY_BINS)

    # -- in and out ----------------------------------------------------------------------------

    def _tables(self) -> dict[str, ColumnarHashTable]:
        return {"parts": self._parts, "sums": self._sums, "histories": self._learned}

    def _whole(self, changes_only: bool) -> dict[str, pa.RecordBatch]:
        columns = self._by_source()
        known = np.flatnonzero(np.any(list(columns.values()), axis=0))
        at_ms, bins = np.array(self._furthest, np.int64).reshape(-1, 2).T
        return {
            _SOURCES: by_source(columns, known),
            _LOGGED: pa.RecordBatch.from_pydict({_LOGGED: self._logged}),
            _FURTHEST: pa.RecordBatch.from_pydict({"at_ms": at_ms, "bin": bins}),
        }

    def _by_source(self) -> dict[str, np.ndarray]:
        return {
            "done": self._done,
            "settled": self._settled,
            "quiet_ms": self._quiet_ms,
            "idle": self._idle,
        }

    def _load_whole(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        told = batches[_SOURCES]
        known = told.column("source").to_numpy()
        self._settled = np.zeros(SOURCES, np.int64)
        for name, column in self._by_source().items():
            column[:] = 0
            # Earlier releases wrote fewer columns.
            if name in told.schema.names:
                column[known] = told.column(name).to_numpy()
        self._logged = batches[_LOGGED].column(_LOGGED).to_numpy().copy()
        furthest = batches[_FURTHEST].to_pydict() if _FURTHEST in batches else {}
        self._furthest = []
        for at_ms, number in zip(*furthest.values(), strict=True):
            self._note_furthest(at_ms, number)

    def _load(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        super()._load(batches)
        self._histories = None
        # Changes do not tell which rows went.
        self._drop_old()
        self._drop_settled()

    def snapshot(self) -> Iterator[bytes]:
        """The whole state in pieces, without the parts that have been added up."""
        self._drop_settled()
        return super().snapshot()

    def _renumber(self, numbers: Mapping[str, np.ndarray]) -> None:
        super()._renumber(numbers)
        if self._histories is not None:
            new = numbers["episodes"]
            self._histories = {int(new[code]): h for code, h in self._histories.items()}


def _first_open(message: WindowMessage) -> dict[int, int]:
    """By source partition, the first bin that may still change after what a message says of it."""
    return {
        source: (minute + 1) // BIN_MINUTES
        for source, minute in message.watermarks.items()
        if 0 <= source < SOURCES and minute >> MINUTE_BITS == 0
    }
