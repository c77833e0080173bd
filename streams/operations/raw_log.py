"""Stretches of `user-events` as they were written, for a recount."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.codec import BadRecordError, RecordCodec, Registry
from streams.events.batch_progress import KafkaEventLogs
from streams.events.core.sequencing import forgotten_listeners
from streams.kafka import letters
from streams.kafka.clients import to_message, topic_id
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.wire import ORIGIN
from streams.operations.core.recount import Seen, good_events, minute_counts, without_left_out
from topology.graph import dead_letter_name
from topology.settings import Settings
from topology.topics.events import FORGOTTEN_LISTENERS, USER_EVENTS

MOST_RECORDS = 1_000_000
"""Most records that are read for one minute: one whose events lie further apart is left out."""

REPEATED_WITHIN = 20_000
"""Offsets before a minute that are read for the ids of its repeats. Only one whose first copy was
dated in the future of its arrival lies there at all."""


class RawLog:
    """Counts minutes anew. Raises SilentLogError and KafkaException."""

    def __init__(self, settings: Settings, registry: Registry):
        self._settings = settings
        self._logs = KafkaEventLogs(settings.kafka_bootstrap_servers)
        self._codec = RecordCodec(USER_EVENTS.name, str(USER_EVENTS.schema), registry)
        # An event that was copied here from another topic, with its headers, is one like any other.
        own = topic_id(settings.kafka_bootstrap_servers, USER_EVENTS.name)
        self._senders = (f"{own}/", f"import/{own}/")

    def close(self) -> None:
        """Give back the connection."""
        self._logs.close()

    def recount(self, minute: datetime, partition: int) -> dict[str, dict[str, int]] | None:
        """Episode -> counts of a UTC minute that is over, of one source partition; None if the log
        does not say, or only after more records than are read."""
        first, end = self._logs.bounds(USER_EVENTS.name, partition)
        at_ms = int(minute.timestamp() * 1000)
        # Nothing before it was in the log can belong to it, but the id of a repeat can be older.
        begin = self._logs.offset_since(USER_EVENTS.name, partition, at_ms)
        start = max(begin - min(self._settings.dedup_window, REPEATED_WITHIN), first)
        if first > 0 and begin == first:
            return None  # what was before it is gone
        end = min(end, begin + MOST_RECORDS)
        dead = self._dead(partition, at_ms)
        good = good_events(
            self._records(partition, start, end),
            dead,
            lambda user: partition_of(user.encode(), self._settings.event_partitions) == partition,
            self._settings.dedup_window,
        )
        lateness = timedelta(seconds=self._settings.allowed_lateness_s)
        counted = without_left_out(
            good, forgotten_listeners(self._logs, FORGOTTEN_LISTENERS.name, partition)
        )
        counts, whole = minute_counts(counted, minute, lateness)
        return counts if whole else None

    def _records(self, partition: int, start: int, end: int) -> Iterator[Seen]:
        for records in self._logs.span(USER_EVENTS.name, partition, start, end):
            for message in map(to_message, records):
                yield Seen(
                    message.offset,
                    datetime.fromtimestamp(message.timestamp_ms / 1000, UTC),
                    self._event(message),
                    self._sender(message),
                )

    def _event(self, message: Message) -> dict[str, Any] | None:
        try:
            return self._codec.decode(message.value)
        except BadRecordError:
            return None

    def _sender(self, message: Message) -> tuple[str, int] | None:
        told = (message.header(ORIGIN) or b"").decode(errors="replace")
        name, _, number = told.rpartition(":")
        if name.startswith(self._senders) and number.isascii() and number.isdigit():
            return name, int(number)
        return None

    def _dead(self, partition: int, since_ms: int) -> set[int]:
        """Offsets of the partition that were refused since a time of the log."""
        topic, found = dead_letter_name(USER_EVENTS.name), set()
        start = self._logs.offset_since(topic, 0, since_ms)
        for records in self._logs.span(topic, 0, start, self._logs.bounds(topic, 0)[1]):
            for message in map(to_message, records):
                source = letters.letter_of(message).source
                if source is not None and source[0] == partition:
                    found.add(source[1])
        return found
