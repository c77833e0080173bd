"""What `batch_events` does in which order, without a log: the same against a broker and in memory.

Every batch says in its headers which source offsets it accounts for, so the last one of a
partition says where to go on. The window of event ids before that offset is read again from the
source, and what was refused after it from the dead letters. Then, for each partition: what is
refused, or handed over to the partition of its listener, is on record before the batch that
accounts for it, and batches follow one another without a gap. A kill at any moment loses nothing,
and what is sent twice carries the same source offsets, or the same origin.

A partition without news says so now and then, by a batch of nothing, for whoever waits for it.

A request to forget a listener is answered between two batches: that it was, and up to where, is on
record before the batch that says so, and that batch says which requests are answered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from schemas.codec import BadRecordError
from streams.events.core.batching import (
    Batch,
    Chunk,
    PartitionBatcher,
    accounted_to,
    check,
)
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Header, Source, Tally, tally_of
from streams.kafka.forgetting import Forgetting, forgetting_of
from streams.kafka.message import Message
from streams.kafka.wire import ERROR_PREFIX

R = TypeVar("R")

CLOCK_SKEW_MS = 60_000
"""How far the clocks of two processes may differ that own a partition one after the other."""


class LogMismatchError(RuntimeError):
    """The batches account for events that the source does not have."""


@dataclass(frozen=True)
class EventTopics:
    """The source of the events, the batches of them, the refused ones, and who is forgotten."""

    source: str
    target: str
    dead: str
    forgotten: str
    places: Source


class EventLogs(Protocol):
    """The logs of these topics, as one process reads them when it gets a partition."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The offset of the first record that is left, and the one after the last."""

    def offset_since(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset whose record has this log time or a later one; the end if none has."""

    def messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """The records from ``start`` up to but without ``end``, many at a time."""

    def chunks(self, topic: str, partition: int, start: int, end: int) -> Iterator[Chunk]:
        """The same, column by column."""


@dataclass(frozen=True)
class Resumption:
    """Where a partition goes on."""

    batcher: PartitionBatcher
    refused: frozenset[int]
    """Source offsets that were refused, but that no batch accounts for: a kill came in between."""

    @property
    def next_offset(self) -> int:
        """First source offset that no batch accounts for."""
        return self.batcher.next_offset


def resume(
    logs: EventLogs, topics: EventTopics, partition: int, window: int, decoder: EventDecoder
) -> Resumption:
    """Where the partition's last batch ended, with the ``window`` of event ids before it.

    LogMismatchError if the source ends before that, and the errors of ``logs``.
    """
    # In this order: whoever owned the partition before may still batch what has just come.
    next_offset, written_ms, tally = _last_batch(logs, topics, partition)
    first, end = logs.bounds(topics.source, partition)
    next_offset = max(next_offset, first)
    if next_offset > end:
        raise LogMismatchError(
            f"{topics.target}[{partition}] accounts for {topics.source} up to offset "
            f"{next_offset - 1}, which ends at {end}: was the topic made anew?"
        )
    refused = _refused_since(logs, topics.dead, written_ms - CLOCK_SKEW_MS, partition)
    # Whoever reads what was batched before leaves that out as well.
    known = forgotten_listeners(logs, topics.forgotten, partition)
    forgotten = [replace(one, batched_to=0) for one in known]
    batcher = PartitionBatcher(
        partition, next_offset, window, decoder, topics.places, tally, forgotten
    )
    for chunk in logs.chunks(
        topics.source, partition, max(first, next_offset - window), next_offset
    ):
        batcher.warm(chunk)
    return Resumption(batcher, frozenset(one for one in refused if one >= next_offset))


def _last_batch(logs: EventLogs, topics: EventTopics, partition: int) -> tuple[int, int, Tally]:
    """First source offset without a batch, when the last batch was written, and its tally."""
    first, end = logs.bounds(topics.target, partition)
    for messages in logs.messages(topics.target, partition, max(first, end - 1), end):
        headers = messages[-1].headers
        return accounted_to(headers), messages[-1].timestamp_ms, tally_of(headers)
    return 0, 0, Tally()


def forgotten_listeners(logs: EventLogs, topic: str, partition: int) -> list[Forgetting]:
    """Who of the partition's listeners was forgotten, and up to where at most."""
    found: dict[str, Forgetting] = {}
    for messages in logs.messages(topic, partition, *logs.bounds(topic, partition)):
        for told in filter(None, (forgetting_of(message.headers) for message in messages)):
            known = found.setdefault(told.user_id, told)
            # A process that had lost the partition may have written last.
            found[told.user_id] = max(known, told, key=lambda one: one.up_to)
    return list(found.values())


def _refused_since(logs: EventLogs, topic: str, since_ms: int, partition: int) -> Iterator[int]:
    """Offsets of a source partition that were refused since a log time."""
    start, (_, end) = logs.offset_since(topic, 0, max(0, since_ms)), logs.bounds(topic, 0)
    for messages in logs.messages(topic, 0, start, end):
        for message in messages:
            if message.header(f"{ERROR_PREFIX}partition") == str(partition).encode():
                yield int(message.header(f"{ERROR_PREFIX}offset") or b"-1")


@dataclass(frozen=True)
class Refusal(Generic[R]):
    """A record to be put aside, as it came."""

    record: R
    error: BadRecordError


@dataclass(frozen=True)
class HandOver(Generic[R]):
    """A record to be sent to the partition of its listener, under this key and with these headers.

    It says where it lay, by which the owner of that partition knows it if it comes again.
    """

    record: R
    value: bytes | None
    partition: int
    key: bytes
    headers: list[Header]


@dataclass(frozen=True)
class ForgottenListener:
    """What is to be on record of a listener that is forgotten."""

    partition: int
    forgetting: Forgetting


@dataclass(frozen=True)
class Flush:
    """Everything so far is to be in the log before anything that follows is sent."""


class Sequencer(Generic[R]):
    """The partitions of one owner, and the steps that their records take.

    ``columns`` gives the chunk of records of one partition, in their order.
    """

    def __init__(self, decoder: EventDecoder, columns: Callable[[Sequence[R]], Chunk]):
        self._decoder = decoder
        self._columns = columns
        self._partitions: dict[int, Resumption] = {}
        self.counts: Counter[str] = Counter()
        """Events read, batched, refused, repeated, handed over and forgotten since the start."""

    def own(self, resumption: Resumption) -> None:
        """Take the records of a partition from now on."""
        self._partitions[resumption.batcher.partition] = resumption

    def disown(self, partition: int) -> None:
        """Pass over the records of a partition from now on."""
        self._partitions.pop(partition, None)

    def owned(self) -> int:
        """How many partitions' records are taken."""
        return len(self._partitions)

    def owns(self, partition: int) -> bool:
        """Whether the records of a partition are taken."""
        return partition in self._partitions

    def steps(
        self, records: Mapping[int, Sequence[R]]
    ) -> Iterator[Refusal[R] | HandOver[R] | Flush | Batch]:
        """What is to be done, one after another, with the next records of each partition.

        Records that are accounted for already, and those of partitions that are not owned, are
        passed over.
        """
        pieces = [
            piece
            for partition, group in records.items()
            for piece in self._pieces(partition, group)
        ]
        if not pieces:
            return
        # All of one topic.
        partitions = pieces[0][0].batcher.source.partitions
        checks = check([chunk for _, _, chunk in pieces], self._decoder, partitions)
        for (owned, group, chunk), checked in zip(pieces, checks, strict=True):
            batch = owned.batcher.pack(chunk, checked)
            for place, error in batch.refused.items():
                if chunk.offsets[place] not in owned.refused:
                    yield Refusal(group[place], error)
            for place, move in batch.moves.items():
                value = chunk.values[place]
                yield HandOver(group[place], value, move.partition, move.key, move.headers)
            if batch.refused or batch.moves:
                yield Flush()
            yield batch
            self.counts.update(
                read=len(chunk),
                batched=batch.events.height,
                refused=len(batch.refused),
                repeated=batch.repeats,
                moved=len(batch.moves),
                forgotten=batch.forgotten,
            )

    def next_offset(self, partition: int) -> int:
        """First source offset of an owned partition that no batch accounts for."""
        return self._partitions[partition].next_offset

    def quiet(self, partition: int, log_ms: int) -> Batch:
        """What says that an owned partition has nothing more up to a log time, in milliseconds."""
        return self._partitions[partition].batcher.quiet(log_ms)

    def next_request(self, partition: int) -> int:
        """Offset of the first request of an owned partition that is not answered."""
        return self._partitions[partition].batcher.tally.requests

    def answers(self, partition: int, request: int) -> bool:
        """Whether a request, by its offset, is this owner's to answer, and is not answered yet."""
        return self.owns(partition) and request >= self.next_request(partition)

    def forget(
        self, partition: int, user_id: str, end: int, request: int, requested_ms: int
    ) -> Iterator[ForgottenListener | Flush | Batch]:
        """What is to be done, one after another, to answer a request.

        See `PartitionBatcher.forgetting`; ``request`` is the request's own offset.
        """
        batcher = self._partitions[partition].batcher
        forgetting = batcher.forgetting(user_id, end, requested_ms)
        yield ForgottenListener(partition, forgetting)
        yield Flush()
        yield batcher.forget(forgetting, request)

    def refuse_request(self, partition: int, request: int) -> None:
        """Pass over a request that cannot be read; the next batch says so."""
        self._partitions[partition].batcher.tally.requests = request + 1

    def _pieces(
        self, partition: int, records: Sequence[R]
    ) -> Iterator[tuple[Resumption, Sequence[R], Chunk]]:
        """The records of each batch, with their columns."""
        if (owned := self._partitions.get(partition)) is None or not records:
            return
        chunk, start = self._columns(records), 0
        if chunk.offsets[0] < owned.next_offset:
            start = bisect_left(chunk.offsets, owned.next_offset)
            chunk = chunk.slice(start, len(chunk))
        for piece in chunk.pieces():
            end = start + len(piece)
            yield owned, records[start:end], piece
            start = end
