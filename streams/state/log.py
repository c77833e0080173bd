"""State as a log: what changed, batch by batch, and the whole of it now and then.

An entry is a change or a snapshot, written as one or more records that follow each other without
a gap. `StateFold` reads entries in order and keeps the state that they add up to. Which entries
count is decided by their headers alone, so every reader of the same log ends with the same state,
whoever wrote it and from wherever after a snapshot's first record the log has been truncated.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from streams.kafka.message import Message
from streams.state.protocols import PartitionState

S = TypeVar("S", bound=PartitionState)

Headers = list[tuple[str, bytes]]

RECORD_BYTES = 8 * 1_048_576
"""Longest record that an entry is cut into, whatever it holds."""

PIECE_BYTES = 4 * 1_048_576
"""Of rows in one piece of a snapshot, unless a single row has more."""

_GOES_ON = "goes_on"
"""Header of a record whose piece goes on in the next one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A change or a snapshot.

    ``after`` is the id of the entry that it follows, empty for the first; None for an entry of a
    release that did not tell. ``base`` is the id of the snapshot that a change builds on, empty
    before the first. A change holds what came above ``since`` up to ``applied``; a snapshot holds
    everything up to ``applied``.
    """

    kind: Literal["change", "snapshot"]
    base: str
    since: int
    applied: int
    pieces: tuple[bytes, ...]
    id: str
    after: str | None

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(len, self.pieces))


def change(value: bytes, base: str, since: int, applied: int, after: str | None) -> Entry:
    """What `PartitionState.changes` gave, as one piece."""
    return Entry("change", base, since, applied, (value,), uuid.uuid4().hex, after)


def snapshot(pieces: Sequence[bytes], base: str, applied: int, after: str | None) -> Entry:
    """What `PartitionState.snapshot` gave, at least one piece."""
    return Entry("snapshot", base, -1, applied, tuple(pieces), uuid.uuid4().hex, after)


def to_records(entry: Entry) -> Iterator[tuple[bytes, Headers]]:
    """Value and headers of each record of an entry, in their order.

    No value is longer than `RECORD_BYTES`: a piece that has more goes on in the next record.
    """
    records = [
        (piece[at : at + RECORD_BYTES], at + RECORD_BYTES < len(piece))
        for piece in entry.pieces
        for at in range(0, max(len(piece), 1), RECORD_BYTES)
    ]
    for number, (value, goes_on) in enumerate(records):
        headers = {
            "kind": entry.kind,
            "id": entry.id,
            "piece": str(number),
            "pieces": str(len(records)),
            "base": entry.base,
            "since": str(entry.since),
            "applied": str(entry.applied),
        }
        if entry.after is not None:
            headers["after"] = entry.after
        if goes_on:
            headers[_GOES_ON] = "1"
        yield value, [(name, text.encode()) for name, text in headers.items()]


def from_records(records: Sequence[Message]) -> Entry:
    """The entry that records add up to, all of them in order."""
    first = records[0]
    kind: Literal["change", "snapshot"] = (
        "snapshot" if _text(first, "kind") == "snapshot" else "change"
    )
    return Entry(
        kind,
        _text(first, "base"),
        int(_text(first, "since")),
        int(_text(first, "applied")),
        tuple(_pieces(records, kind == "change")),
        _text(first, "id"),
        _text(first, "after") if first.header("after") is not None else None,
    )


def _pieces(records: Sequence[Message], whole: bool) -> Iterator[bytes]:
    """The pieces in records; one if it is known to be ``whole``, which earlier releases cut
    without telling so."""
    parts: list[bytes] = []
    for record in records:
        parts.append(record.value or b"")
        if not whole and record.header(_GOES_ON) is None:
            yield b"".join(parts)
            parts = []
    if parts:
        yield b"".join(parts)


def _text(record: Message, name: str) -> str:
    value = record.header(name)
    if value is None:
        raise ValueError(
            f"{record.topic}[{record.partition}]@{record.offset} is no record of a state's log: "
            f"it has no header {name!r}"
        )
    return value.decode()


class StateFold(Generic[S]):
    """The state that a log's records add up to; ``make()`` is a state of nothing.

    ``head`` is the last entry that counted, empty before the first, None where the log has been
    truncated and none has counted yet. ``base`` is the snapshot that counts, ``first`` the offset
    of its first record (None without one); ``snapshot_bytes`` and ``change_bytes`` are its size
    and that of the changes since.
    """

    def __init__(self, make: Callable[[], S]):
        self._make = make
        self._begun = False
        self._underway: list[Message] = []
        self.state = make()
        self.head: str | None = ""
        self.base = ""
        self.first: int | None = None
        self.snapshot_bytes = 0
        self.change_bytes = 0

    def apply(self, record: Message) -> None:
        """Take in the record that comes next in the log. ValueError if it is no such record."""
        if not self._begun:
            self._begun = True
            self.head = None if record.offset > 0 else ""
        piece, pieces = int(_text(record, "piece")), int(_text(record, "pieces"))
        if piece == 0:
            self._underway = []
        elif not self._follows(record, piece):
            # Its writer found itself fenced and never acknowledged what is in here.
            self._underway = []
            return
        self._underway.append(record)
        if piece == pieces - 1:
            records, self._underway = self._underway, []
            self._take(from_records(records), records[0].offset)

    def _follows(self, record: Message, piece: int) -> bool:
        """Whether an entry goes on; anything in between has put its beginning aside."""
        return len(self._underway) == piece and _text(self._underway[-1], "id") == _text(
            record, "id"
        )

    def _take(self, entry: Entry, first: int) -> None:
        if not self._counts(entry):
            return
        self.head = entry.id
        if entry.kind == "snapshot":
            self.state = self._make()
            self.state.load_snapshot(entry.pieces)
            self.base, self.first = entry.id, first
            self.snapshot_bytes, self.change_bytes = entry.size, 0
        else:
            self.state.load_changes(entry.pieces[0])
            self.change_bytes += entry.size
        self.state.applied = entry.applied

    def _counts(self, entry: Entry) -> bool:
        """Whether its writer knew the state as it is here."""
        if entry.after is not None and self.head is not None:
            return entry.after == self.head
        if entry.kind == "snapshot":
            # One that is behind was written by a worker that had lost the partition.
            return entry.applied >= self.state.applied
        return entry.base == self.base and entry.since <= self.state.applied < entry.applied
