"""From a partition's messages to its batches: checked, without repeats, accounted for by offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import polars as pl

from schemas import columnar
from schemas.codec import BadRecordError
from streams.events.core.dedup import DedupWindow
from streams.events.core.events import EventDecoder, check_events
from streams.state.interner import Hashed, hash_strings

FIRST_OFFSET = "first_offset"
LAST_OFFSET = "last_offset"

MAX_ROWS = 20_000
MAX_PAYLOAD_BYTES = 4 * 1_048_576
"""Most that a batch holds: an Arrow row takes up to 250 bytes more than its payload, so that a
batch of this size stays below 10 MB, and its topic takes 16."""

_TYPED = [
    pl.col("log_ms" if name == "logged_at" else name).cast(dtype).alias(name)
    for name, dtype in columnar.columns("user_event").items()
    if name != "partition"
]


@dataclass(frozen=True)
class Chunk:
    """Consecutive messages of one partition, column by column."""

    offsets: Sequence[int]
    log_ms: Sequence[int]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def bytes(self) -> int:
        """Bytes of all values."""
        return sum(map(len, filter(None, self.values)))

    def pieces(self, max_rows: int = MAX_ROWS, max_bytes: int = MAX_PAYLOAD_BYTES) -> list[Chunk]:
        """The same messages in pieces, each within both limits or of one message."""
        if 0 < len(self) <= max_rows and self.bytes <= max_bytes:
            return [self]
        pieces, start, size = [], 0, 0
        for place, value in enumerate(self.values):
            size += len(value or b"")
            if place > start and (place - start >= max_rows or size > max_bytes):
                pieces.append(self.slice(start, place))
                start, size = place, len(value or b"")
        if len(self) > start:
            pieces.append(self.slice(start, len(self)))
        return pieces

    def slice(self, start: int, end: int) -> Chunk:
        """The messages from place ``start`` up to but without ``end``."""
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
        for piece in chunk.pieces():
            (checked,) = check([piece], self._decoder)
            self._note(checked)

    def batch(self, chunk: Chunk) -> Batch:
        """The batch of the messages that follow, none of them below ``next_offset``."""
        (checked,) = check([chunk], self._decoder)
        return self.pack(chunk, checked)

    def pack(self, chunk: Chunk, checked: Checked) -> Batch:
        """The batch of the messages that follow, when they have been checked already."""
        events = checked.events
        repeats = self._note(checked)
        if repeats.size:
            events = events.filter(~np.isin(np.arange(events.height), repeats))
        first, self.next_offset = self.next_offset, chunk.offsets[-1] + 1
        return Batch(
            self.partition,
            first,
            chunk.offsets[-1],
            events.insert_column(0, self._column(events.height)),
            checked.refused,
            len(repeats),
        )

    def _note(self, checked: Checked) -> np.ndarray:
        return self._window.repeats(checked.ids, checked.events["offset"].to_numpy())

    def _column(self, rows: int) -> pl.Series:
        return pl.Series("partition", np.full(rows, self.partition, np.int32))


@dataclass(frozen=True)
class Checked:
    """The valid events of a chunk, in the types of their topic, and why others are refused."""

    events: pl.DataFrame
    ids: Hashed
    """Their event ids."""
    refused: dict[int, BadRecordError]
    """By place in the chunk."""


def check(chunks: Sequence[Chunk], decoder: EventDecoder) -> Iterator[Checked]:
    """Decode and check chunks, as many at once as stay within the limits of a batch.

    One call of polars costs as much as a thousand events do.
    """
    together: list[Chunk] = []
    for chunk in chunks:
        if together and (
            sum(map(len, together)) + len(chunk) > MAX_ROWS
            or sum(other.bytes for other in together) + chunk.bytes > MAX_PAYLOAD_BYTES
        ):
            yield from _check(together, decoder)
            together = []
        together.append(chunk)
    if together:
        yield from _check(together, decoder)


def _check(chunks: Sequence[Chunk], decoder: EventDecoder) -> Iterator[Checked]:
    events, undecodable = decoder.decode(list(chain.from_iterable(c.values for c in chunks)))
    source = pl.DataFrame(
        {
            "offset": np.concatenate([chunk.offsets for chunk in chunks]),
            "log_ms": np.concatenate([chunk.log_ms for chunk in chunks]),
        },
        schema={"offset": pl.Int64, "log_ms": pl.Int64},
    )
    if undecodable:
        source = source[events["row"]]
    events, impossible = check_events(events.hstack(source))
    refused = {**undecodable, **impossible}
    rows, events = events["row"].to_numpy(), events.select_seq(*_TYPED)
    ids = hash_strings(events["event_id"])
    start = 0
    for chunk in chunks:
        end = start + len(chunk)
        first, last = np.searchsorted(rows, (start, end))
        why = {row - start: refused[row] for row in refused if start <= row < end}
        yield Checked(events[first:last], ids.take(slice(first, last)), why)
        start = end


def accounted_to(headers: Sequence[tuple[str, bytes]]) -> int:
    """First source offset after those that a batch message accounts for, by its headers."""
    last = next((value for name, value in headers if name == LAST_OFFSET), None)
    if last is None:
        raise BadRecordError(f"a batch without the header {LAST_OFFSET}")
    return int(last) + 1
