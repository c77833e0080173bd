"""From a partition's messages to its batches: checked, without repeats, accounted for by offset."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np
import polars as pl

from schemas import columnar
from schemas.codec import BadRecordError
from streams.events.core.dedup import DedupWindow, identities
from streams.events.core.events import EventDecoder, check_events
from streams.events.core.origins import (
    TALLY,
    Header,
    Headers,
    Source,
    Tally,
    client_of,
    handed_over,
    was_handed_over,
)
from streams.kafka.forgetting import Forgetting
from streams.kafka.placement import partitions_of
from streams.kafka.quiet import quiet_header
from streams.monitoring.tracing import TRACEPARENT, sampled
from streams.state.interner import Hashed

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

_NOTHING = pl.DataFrame(schema=columnar.columns("user_event"))


@dataclass(frozen=True)
class Chunk:
    """Consecutive messages of one partition, column by column."""

    offsets: Sequence[int]
    log_ms: Sequence[int]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] = ()
    """Empty where no message has any."""

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
        return Chunk(
            self.offsets[start:end],
            self.log_ms[start:end],
            self.values[start:end],
            self.headers[start:end],
        )

    def headers_at(self, place: int) -> Headers:
        """The headers of a message."""
        return self.headers[place] if self.headers else None


@dataclass(frozen=True)
class Move:
    """Where an event belongs that was found in another partition, under which key and with which
    headers: they say where it lay, by which it is known there if it comes again."""

    partition: int
    key: bytes
    headers: list[Header]


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
    moves: dict[int, Move] = field(default_factory=dict)
    """What belongs to another partition, by place in the chunk: it is handed over, not counted."""
    tally: bytes = b""
    trace: bytes = b""
    """The `traceparent` of its first event that has a sampled one."""
    forgotten: int = 0
    """How many valid events were left out, as their listener was forgotten after they were done."""
    forgetting: Forgetting | None = None
    """Who is forgotten here: such a batch accounts for no event."""
    quiet_to_ms: int | None = None
    """Up to which log time nothing follows the batches before: such a batch accounts for none."""

    def headers(self) -> dict[str, bytes]:
        """The headers that put the range on record, and what became of the partition so far."""
        return {
            FIRST_OFFSET: str(self.first_offset).encode(),
            LAST_OFFSET: str(self.last_offset).encode(),
            **({TALLY: self.tally} if self.tally else {}),
            **({TRACEPARENT: self.trace} if self.trace else {}),
            **(self.forgetting.headers() if self.forgetting else {}),
            **({} if self.quiet_to_ms is None else quiet_header(self.quiet_to_ms)),
        }


class PartitionBatcher:
    """Turns the messages of one source partition into batches, one after another."""

    def __init__(
        self,
        partition: int,
        next_offset: int,
        window: int,
        decoder: EventDecoder,
        source: Source,
        tally: Tally | None = None,
        forgotten: Iterable[Forgetting] = (),
    ):
        self.partition = partition
        self.next_offset = next_offset
        """First source offset that no batch accounts for."""
        self.tally = tally or Tally()
        """What became of the records before it."""
        self.source = source
        self._window = DedupWindow(window)
        self._decoder = decoder
        self._forgotten = {
            f.user_id: (f.batched_to, f.up_to) for f in forgotten if f.up_to >= next_offset
        }
        """Of whom events are left out that are still to come: the first and the last offset."""

    def warm(self, chunk: Chunk) -> None:
        """Note messages before ``next_offset`` as seen: an earlier run accounted for them."""
        for piece in chunk.pieces():
            (checked,) = check([piece], self._decoder, self.source.partitions)
            mine = self._counted_here(checked)
            self._note(checked.events.filter(mine), checked.ids.take(mine))

    def batch(self, chunk: Chunk) -> Batch:
        """The batch of the messages that follow, none of them below ``next_offset``."""
        (checked,) = check([chunk], self._decoder, self.source.partitions)
        return self.pack(chunk, checked)

    def pack(self, chunk: Chunk, checked: Checked) -> Batch:
        """The batch of the messages that follow, when they have been checked already."""
        again = {
            place
            for place, headers in enumerate(chunk.headers)
            if self.tally.again(headers, self.source)
        }
        events, ids, refused = checked.events, checked.ids, checked.refused
        moves: dict[int, Move] = {}
        mine = self._counted_here(checked)
        if not mine.all():
            moves, stuck = self._moves(chunk, checked, np.flatnonzero(~mine), again)
            refused = {**refused, **stuck}
            events, ids = events.filter(mine), ids.take(mine)
        dropped = self._note(events, ids)
        if again:
            at_places = np.searchsorted(chunk.offsets, events["offset"].to_numpy())
            dropped = np.union1d(dropped, np.flatnonzero(np.isin(at_places, list(again))))
        if dropped.size:
            events = events.filter(~np.isin(np.arange(events.height), dropped))
        # Of the valid events, those that are neither kept nor handed over nor refused as strays.
        others = events.height + len(moves) + len(refused) - len(checked.refused)
        repeats = checked.events.height - others
        self.tally.repeated += repeats
        events, forgotten = self._without_forgotten(events)
        first, self.next_offset = self.next_offset, chunk.offsets[-1] + 1
        return Batch(
            self.partition,
            first,
            chunk.offsets[-1],
            events.insert_column(0, self._column(events.height)),
            refused,
            repeats,
            moves,
            self.tally.header(),
            sampled(chunk.headers),
            forgotten,
        )

    def forgetting(self, user_id: str, end: int, requested_ms: int) -> Forgetting:
        """Up to where a listener is forgotten: what the log held at the request, and what batches
        have by now.

        ``end`` is the first offset of an event that came after the request, ``requested_ms`` the
        log's time of the request.
        """
        at = self.next_offset
        up_to = max(at - 1, end - 1, self._forgotten.get(user_id, (0, -1))[1])
        return Forgetting(user_id, at, up_to, requested_ms)

    def forget(self, forgetting: Forgetting, request: int) -> Batch:
        """The batch that says that a listener is forgotten, by the request of this offset."""
        at = self.next_offset
        if forgetting.up_to >= at:
            self._forgotten[forgetting.user_id] = (at, forgetting.up_to)
        self.tally.requests = request + 1
        tally = self.tally.header()
        return Batch(self.partition, at, at - 1, _NOTHING, tally=tally, forgetting=forgetting)

    def quiet(self, log_ms: int) -> Batch:
        """The batch that says that up to a log time nothing follows what was batched."""
        at, tally = self.next_offset, self.tally.header()
        return Batch(self.partition, at, at - 1, _NOTHING, tally=tally, quiet_to_ms=log_ms)

    def _without_forgotten(self, events: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """The events whose listeners are not forgotten up to there, and how many the others are."""
        if not self._forgotten or not events.height:
            return events, 0
        users, offsets = events["user_id"], events["offset"]
        named = np.flatnonzero(users.is_in(list(self._forgotten)).to_numpy())
        dropped = []
        for row in named.tolist():
            first, last = self._forgotten[users[row]]
            if first <= offsets[row] <= last:
                dropped.append(row)
        reached = int(offsets[-1])
        self._forgotten = {
            name: (first, last) for name, (first, last) in self._forgotten.items() if last > reached
        }
        self.tally.forgotten += len(dropped)
        return events.filter(~np.isin(np.arange(events.height), dropped)), len(dropped)

    def _counted_here(self, checked: Checked) -> np.ndarray:
        """Which events are of this partition's listeners, or count here all the same."""
        here: np.ndarray = checked.owners == self.partition
        if self.tally.strays_below:
            here |= checked.events["offset"].to_numpy() < self.tally.strays_below
        return here

    def _moves(
        self, chunk: Chunk, checked: Checked, strays: np.ndarray, again: set[int]
    ) -> tuple[dict[int, Move], dict[int, BadRecordError]]:
        """What of the rows ``strays`` is handed over, and why the others are not, by place."""
        moves: dict[int, Move] = {}
        stuck: dict[int, BadRecordError] = {}
        found = checked.events[strays].select("offset", "user_id").rows()
        for (offset, user_id), owner in zip(found, checked.owners[strays].tolist(), strict=True):
            place = bisect_left(chunk.offsets, offset)
            if place in again:
                continue
            value, headers = chunk.values[place], chunk.headers_at(place)
            if was_handed_over(headers, self.source):
                # Once more would be for ever.
                stuck[place] = BadRecordError(
                    f"the listener belongs to partition {owner}, but the record was handed over to "
                    "this one: processes were started with different EVENT_PARTITIONS"
                )
                continue
            key = user_id.encode()
            sent = handed_over(self.source, self.partition, offset, key, value, headers)
            if sent is None:
                stuck[place] = BadRecordError(
                    f"the listener belongs to partition {owner}, and the record is too large to be "
                    "handed over"
                )
                continue
            moves[place] = Move(owner, key, sent)
            self.tally.note_moved(client_of(headers))
        return moves, stuck

    def _note(self, events: pl.DataFrame, ids: Hashed) -> np.ndarray:
        return self._window.repeats(ids, events["offset"].to_numpy())

    def _column(self, rows: int) -> pl.Series:
        return pl.Series("partition", np.full(rows, self.partition, np.int32))


@dataclass(frozen=True)
class Checked:
    """The valid events of a chunk, in the types of their topic, and why others are refused."""

    events: pl.DataFrame
    ids: Hashed
    """By which they are told apart: see `identities`."""
    owners: np.ndarray
    """The partitions of their listeners."""
    refused: dict[int, BadRecordError]
    """By place in the chunk."""


def check(chunks: Sequence[Chunk], decoder: EventDecoder, partitions: int) -> Iterator[Checked]:
    """Decode and check chunks of a topic, as many at once as stay within the limits of a batch.

    One call of polars costs as much as a thousand events do.
    """
    together: list[Chunk] = []
    for chunk in chunks:
        if together and (
            sum(map(len, together)) + len(chunk) > MAX_ROWS
            or sum(other.bytes for other in together) + chunk.bytes > MAX_PAYLOAD_BYTES
        ):
            yield from _check(together, decoder, partitions)
            together = []
        together.append(chunk)
    if together:
        yield from _check(together, decoder, partitions)


def _check(chunks: Sequence[Chunk], decoder: EventDecoder, partitions: int) -> Iterator[Checked]:
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
    ids, owners = identities(events), partitions_of(events["user_id"], partitions)
    start = 0
    for chunk in chunks:
        end = start + len(chunk)
        first, last = np.searchsorted(rows, (start, end))
        why = {row - start: refused[row] for row in refused if start <= row < end}
        some = slice(first, last)
        yield Checked(events[first:last], ids.take(some), owners[some], why)
        start = end


def accounted_to(headers: Sequence[tuple[str, bytes]]) -> int:
    """First source offset after those that a batch message accounts for, by its headers."""
    last = next((value for name, value in headers if name == LAST_OFFSET), None)
    if last is None:
        raise BadRecordError(f"a batch without the header {LAST_OFFSET}")
    return int(last) + 1
