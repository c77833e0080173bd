"""From a partition's messages to its batches: repeats dropped, cut, accounted for by offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas import columnar
from schemas.codec import BadRecordError
from streams.core.events import EventDecoder, check_events

FIRST_OFFSET = "first_offset"
LAST_OFFSET = "last_offset"

MAX_ROWS = 20_000
MAX_PAYLOAD_BYTES = 4 * 1_048_576
"""Where a batch is cut: an Arrow row takes up to 250 bytes more than its payload, so that a
batch of this size stays below 10 MB, and its topic takes 16."""

_COLUMNS = columnar.columns("user_event").names()


class DedupWindow:
    """Which events of one partition were seen within the last ``window`` offsets.

    An event at offset o is a repeat if its id occurred at an offset in [o - window, o): a
    function of the log alone. Ids are kept in two generations; the older one is dropped once all
    of it is out of reach, so at most twice the window is held.
    """

    def __init__(self, window: int):
        self._window = window
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._young_since = 0

    def repeats(self, event_ids: Sequence[str], offsets: Sequence[int]) -> list[int]:
        """Places of the repeats among events in ascending offset order, all noted as seen."""
        if not event_ids:
            return []
        self._turn(offsets[0])
        fresh = (
            self._young.keys().isdisjoint(event_ids)
            and self._old.keys().isdisjoint(event_ids)
            and len(set(event_ids)) == len(event_ids)
        )
        repeats = [] if fresh else list(self._search(event_ids, offsets))
        self._young.update(zip(event_ids, offsets, strict=True))
        return repeats

    def _search(self, event_ids: Sequence[str], offsets: Sequence[int]) -> Iterator[int]:
        here: dict[str, int] = {}
        for place, (event_id, offset) in enumerate(zip(event_ids, offsets, strict=True)):
            last = here.get(event_id, self._young.get(event_id, self._old.get(event_id)))
            if last is not None and offset - last <= self._window:
                yield place
            here[event_id] = offset

    def _turn(self, offset: int) -> None:
        if offset - self._young_since > self._window:
            # All of the older generation was seen before the younger one began.
            self._old = self._young
            self._young = {}
            self._young_since = offset


@dataclass(frozen=True)
class Chunk:
    """Consecutive messages of one partition, column by column."""

    offsets: Sequence[int]
    log_ms: Sequence[int]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    def cut(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_PAYLOAD_BYTES) -> list[Chunk]:
        """The same messages in pieces, each within both limits or of one message."""
        pieces, start, size = [], 0, 0
        for place, value in enumerate(self.values):
            size += len(value or b"")
            if place > start and (place - start >= max_rows or size > max_bytes):
                pieces.append(self._slice(start, place))
                start, size = place, len(value or b"")
        if len(self) > start:
            pieces.append(self._slice(start, len(self)))
        return pieces

    def _slice(self, start: int, end: int) -> Chunk:
        if (start, end) == (0, len(self)):
            return self
        return Chunk(self.offsets[start:end], self.log_ms[start:end], self.values[start:end])


@dataclass(frozen=True)
class Batch:
    """Valid events without repeats, and the source offsets that they account for."""

    partition: int
    first_offset: int
    last_offset: int
    events: pl.DataFrame
    refused: dict[int, BadRecordError] = field(default_factory=dict)
    """Why messages were refused, by their place in the chunk."""
    repeats: int = 0

    def headers(self) -> dict[str, bytes]:
        """The headers that put the range on record."""
        return {
            FIRST_OFFSET: str(self.first_offset).encode(),
            LAST_OFFSET: str(self.last_offset).encode(),
        }


class PartitionBatcher:
    """Turns the messages of one source partition into batches, one after another."""

    def __init__(self, partition: int, next_offset: int, window: int, decoder: EventDecoder):
        self.partition = partition
        self.next_offset = next_offset
        """First source offset that no batch accounts for."""
        self._window = DedupWindow(window)
        self._decoder = decoder

    def warm(self, chunk: Chunk) -> None:
        """Note messages before ``next_offset`` as seen: an earlier run accounted for them."""
        self._check(chunk)

    def batch(self, chunk: Chunk) -> Batch:
        """The batch of the messages that follow, none of them below ``next_offset``."""
        events, refused, repeats = self._check(chunk)
        if repeats:
            events = events.with_row_index("place").filter(~pl.col("place").is_in(repeats))
        first, self.next_offset = self.next_offset, chunk.offsets[-1] + 1
        return Batch(
            self.partition,
            first,
            chunk.offsets[-1],
            events.with_columns(
                partition=pl.lit(self.partition, pl.Int32), logged_at=pl.col("log_ms")
            ).select(_COLUMNS),
            refused,
            len(repeats),
        )

    def _check(self, chunk: Chunk) -> tuple[pl.DataFrame, dict[int, BadRecordError], list[int]]:
        events, undecodable = self._decoder.decode(chunk.values)
        source = pl.DataFrame(
            {"offset": chunk.offsets, "log_ms": chunk.log_ms},
            schema={"offset": pl.Int64, "log_ms": pl.Int64},
        )
        if undecodable:
            source = source[events["row"]]
        events = events.hstack(source)
        events, impossible = check_events(events)
        repeats = self._window.repeats(events["event_id"].to_list(), events["offset"].to_list())
        return events, {**undecodable, **impossible}, repeats


def accounted_to(headers: Sequence[tuple[str, bytes]]) -> int:
    """First source offset after those that a batch message accounts for, by its headers."""
    last = next((value for name, value in headers if name == LAST_OFFSET), None)
    if last is None:
        raise BadRecordError(f"a batch without the header {LAST_OFFSET}")
    return int(last) + 1
