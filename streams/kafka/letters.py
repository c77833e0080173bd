"""Dead letters by their headers: which are the same, which still wait, and what is sent back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from streams.kafka.message import Message
from streams.kafka.sizes import VALUE_BYTES, Header, record_bytes
from streams.kafka.wire import ERROR_PREFIX, ORIGIN
from topology.graph import dead_letter_name

REDRIVEN = "podstream.redriven"
"""Header of a record that was sent back: how often. One that dies again keeps it."""

Range = tuple[int, int]
"""First and last offset, both included."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter without its value.

    ``offsets`` are its places in the dead-letter topic, ascending: after a crash a stage may have
    put the same record there again. ``source`` is partition and offset of the record it was, None
    if no stage has written the letter. ``redrives`` says how often it was sent back before.
    """

    offsets: tuple[int, ...]
    key: bytes | None = None
    size: int = 0
    source: tuple[int, int] | None = None
    redrives: int = 0
    error: Mapping[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why the record was refused, in words; empty where its headers do not say."""
        return self.error.get("exception.message", "")

    @property
    def is_whole(self) -> bool:
        """Whether the letter has all of the record's value; it cannot be sent back if not."""
        return VALUE_BYTES.removeprefix(ERROR_PREFIX) not in self.error


def letter_of(message: Message) -> Letter:
    """What the headers of a dead letter say."""
    error = error_of(message.headers)
    topic, partition, offset = (error.get(name, "") for name in ("topic", "partition", "offset"))
    from_stage = message.topic == dead_letter_name(topic) and _is_number(partition, offset)
    return Letter(
        offsets=(message.offset,),
        key=message.key,
        size=len(message.value or b""),
        source=(int(partition), int(offset)) if from_stage else None,
        redrives=redrives_of(message.headers),
        error=error,
    )


def _is_number(*texts: str) -> bool:
    return all(text.isascii() and text.isdigit() for text in texts)


def error_of(headers: Sequence[Header]) -> dict[str, str]:
    """The headers that say where a dead letter came from and why it is here, without prefix."""
    return {
        name.removeprefix(ERROR_PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(ERROR_PREFIX)
    }


def original_headers(headers: Sequence[Header]) -> list[Header]:
    """The headers that the record had before it died."""
    return [(name, value) for name, value in headers if not name.startswith(ERROR_PREFIX)]


def redrives_of(headers: Sequence[Header]) -> int:
    """How often a record was sent back before; 0 also where the header holds no number."""
    counts = [
        (value or b"").decode("ascii", "replace") for name, value in headers if name == REDRIVEN
    ]
    return int(counts[-1][:9]) if counts and _is_number(counts[-1]) else 0


def headers_to_send(message: Message, max_message_bytes: int) -> list[Header]:
    """The record's own headers and `REDRIVEN`, one higher.

    `ORIGIN` is left out: by it the record would be known as one that came before. A record that the
    topic takes only just goes without the count: it would be too large with it.
    """
    headers = original_headers(message.headers)
    own = [(name, value) for name, value in headers if name not in (REDRIVEN, ORIGIN)]
    if record_bytes(message.key, message.value, own) > max_message_bytes:
        return own
    return [*own, (REDRIVEN, str(redrives_of(message.headers) + 1).encode())]


def distinct(letters: Iterable[Letter]) -> list[Letter]:
    """One letter for each source record, as the newest says, in the order of the newest."""
    newest: dict[object, Letter] = {}
    for letter in letters:
        place = letter.source or letter.offsets
        before = newest.pop(place, None)
        offsets = letter.offsets if before is None else before.offsets + letter.offsets
        newest[place] = replace(letter, offsets=offsets)
    return list(newest.values())


def waiting(letters: Iterable[Letter], done: Sequence[Range]) -> list[Letter]:
    """The distinct letters that can be sent back and of which no copy is done, the one that died
    first first."""
    left = [
        letter
        for letter in letters
        if letter.is_whole and not any(_within(at, done) for at in letter.offsets)
    ]
    return sorted(left, key=lambda letter: letter.offsets)


def _within(offset: int, ranges: Sequence[Range]) -> bool:
    at = bisect_right(ranges, offset, key=lambda one: one[0]) - 1
    return at >= 0 and offset <= ranges[at][1]


def with_letters(done: Iterable[Range], letters: Iterable[Letter]) -> list[Range]:
    """The ranges, ascending and apart from each other, once these letters are done too."""
    more = [(offset, offset) for letter in letters for offset in letter.offsets]
    merged: list[Range] = []
    for first, last in sorted([*done, *more]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def replaced(
    letters: Iterable[Letter], newest: Mapping[tuple[int, bytes | None], int]
) -> list[Letter]:
    """The letters of a compacted topic whose record is no longer the newest of its key.

    Sent back they would undo what came after them. ``newest`` is the offset of the newest record
    in the topic by source partition and key; a record that is not there was compacted away.
    """
    return [
        letter
        for letter in letters
        if letter.source is not None
        and newest.get((letter.source[0], letter.key)) != letter.source[1]
    ]
