"""What the search for anomalies remembers of one partition of `engagement-windows`.

Rows of the bins that are still open, and the history of every episode heard within a day. Which
bins are closed when is told in `streams.core.anomalies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from streams.core.anomalies import (
    BIN_MINUTES,
    DAY_BINS,
    GRACE_MINUTES,
    LONGEST_GAP_BINS,
    History,
    Surprise,
)
from streams.core.keyed import KeyedTable
from streams.core.names import Names
from streams.core.packing import pack, unpack
from streams.core.window_rows import (
    MINUTE_BITS,
    SOURCE_BITS,
    Logged,
    Parts,
    forget_unused,
    local,
    minute_of,
    newest_minute,
    portable,
    window_rows,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = ("plays",)
_SHIFTS = {"parts": MINUTE_BITS + SOURCE_BITS, "histories": 0}
_FIGURES = {"bins": np.int32, "last_heard": np.int32, "level": np.float64, "error": np.float64}
_CLOCK = "clock"


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


class AnomalyState:
    """A function of one partition's rows up to the offset ``applied``."""

    def __init__(self) -> None:
        self.applied = -1
        self._names = Names()
        self._newest = 0
        self._closed = 0  # every bin before this one
        self._parts = Parts(_COUNTS)
        self._figures = KeyedTable(_FIGURES)
        self._histories: dict[int, History] | None = {}

    def __len__(self) -> int:
        """How many episodes have a history."""
        return len(self._figures)

    # -- folding -------------------------------------------------------------------------------

    def fold(self, messages: Iterable[Logged]) -> list[Anomaly]:
        """Take in messages in the order of their offsets; what is found in the bins they close."""
        found: list[Anomaly] = []
        waiting: list[Logged] = []
        for message in [message for message in messages if message.offset > self.applied]:
            waiting.append(message)
            self._newest = max(self._newest, newest_minute(message))
            end = (self._newest - GRACE_MINUTES) // BIN_MINUTES
            if end > self._closed:
                self._add(waiting)
                waiting = []
                found += self._close(end)
        self._add(waiting)
        return found

    def _add(self, messages: Sequence[Logged]) -> None:
        if not messages:
            return
        rows = window_rows(messages, _COUNTS)
        open_bins = rows.minutes >= self._closed * BIN_MINUTES
        rows = rows.take(open_bins & (rows.counts["plays"] > 0))
        self._parts.replace(rows.keys(self._names), rows)
        self.applied = messages[-1].offset

    def _close(self, end: int) -> list[Anomaly]:
        """Close the bins before ``end``."""
        bins = minute_of(self._parts.keys) // BIN_MINUTES
        found: list[Anomaly] = []
        following = self._closed
        for heard in [*np.unique(bins[bins < end]).tolist(), end]:
            if heard - following <= LONGEST_GAP_BINS:
                for silent in range(following, heard):
                    found += self._learn(silent, {})
            if heard < end:
                found += self._learn(heard, self._plays(bins == heard))
            following = heard + 1
        self._closed = end
        self._note()
        self._drop_old()
        return found

    def _plays(self, chosen: np.ndarray) -> dict[int, int]:
        """Plays by episode of some of the parts, source partitions added up."""
        codes, place = np.unique(self._parts.keys[chosen] >> _SHIFTS["parts"], return_inverse=True)
        plays = np.bincount(place, self._parts["plays"][chosen])
        return dict(zip(codes.tolist(), plays.astype(np.int64).tolist(), strict=True))

    def _learn(self, number: int, plays: Mapping[int, int]) -> list[Anomaly]:
        histories, found = self._known(), []
        for code, history in histories.items():
            count = plays.get(code, 0)
            if (surprise := history.score_one(count)) is not None:
                found.append(Anomaly(self._names[code], number, count, surprise))
            history.learn_one(number, count)
        for code in plays.keys() - histories.keys():
            histories[code] = History()
            histories[code].learn_one(number, plays[code])
        return sorted(found, key=lambda anomaly: anomaly.episode_id)

    def _known(self) -> dict[int, History]:
        """The histories by episode, made of their figures after a restore."""
        if self._histories is None:
            columns = (self._figures[name].tolist() for name in _FIGURES)
            restored = map(History.restored, *columns)
            self._histories = dict(zip(self._figures.keys.tolist(), restored, strict=True))
        return self._histories

    def _note(self) -> None:
        """Write down the figures of all histories."""
        histories = self._known()
        slots = self._figures.upsert(np.fromiter(histories, np.int64, len(histories)))
        for name in _FIGURES:
            self._figures[name][slots] = [getattr(each, name) for each in histories.values()]
        self._figures.touch(slots)

    def _drop_old(self) -> None:
        self._parts.drop(minute_of(self._parts.keys) < self._closed * BIN_MINUTES)
        silent = self._figures["last_heard"] < self._closed - DAY_BINS
        if self._histories is not None:
            for code in self._figures.keys[silent].tolist():
                del self._histories[code]
        self._figures.drop(silent)

    # -- in and out ----------------------------------------------------------------------------

    def changes(self) -> bytes:
        """Every row that has changed since the last call, and the clock."""
        rows = {name: table.to_arrow(table.changed()) for name, table in self._tables.items()}
        self._forget_changes()
        return self._packed(rows)

    def snapshot(self) -> list[bytes]:
        """All of it; forgets what has changed, and the numbers not in use."""
        numbers = forget_unused(self._names, self._tables, _SHIFTS)
        if numbers is not None and self._histories is not None:
            self._histories = {int(numbers[code]): h for code, h in self._histories.items()}
        self._forget_changes()
        return [self._packed({name: table.to_arrow() for name, table in self._tables.items()})]

    def load_changes(self, value: bytes) -> None:
        """Take over what `changes` gave; what is older than this state is in it already."""
        batches = unpack(value)
        clock = batches.pop(_CLOCK).to_pylist()[0]
        if clock["applied"] <= self.applied:
            return
        self.applied, self._newest, self._closed = (
            clock[name] for name in ("applied", "newest", "closed")
        )
        for name, rows in local(batches, _SHIFTS, self._names).items():
            self._tables[name].load(rows)
        self._histories = None
        self._drop_old()

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Become what `snapshot` gave."""
        for piece in pieces:
            self.load_changes(piece)

    @property
    def _tables(self) -> dict[str, KeyedTable]:
        return {"parts": self._parts, "histories": self._figures}

    def _forget_changes(self) -> None:
        for table in self._tables.values():
            table.forget_changes()

    def _packed(self, rows: Mapping[str, pa.RecordBatch]) -> bytes:
        clock = {"applied": self.applied, "newest": self._newest, "closed": self._closed}
        told = pa.RecordBatch.from_pylist([clock])
        return pack({_CLOCK: told, **portable(rows, _SHIFTS, self._names)})
