"""Reads a keyed table from where Faust kept it before the table had a log of its own.

Faust wrote each value that changed to a compacted topic, under a key that begins with the number
of the partition that owns it.
"""

from __future__ import annotations

import logging

from streams.kafka.message import Message
from streams.state.kafka_log import KafkaStateLog
from streams.state.keyed_table import KeyedState

log = logging.getLogger(__name__)

PARTITION_BYTES = 4
"""Of the owning partition's number, big-endian, at the beginning of a key."""


class ChangelogFold:
    """The rows of one partition that a changelog's records add up to."""

    def __init__(self, partition: int):
        self._prefix = partition.to_bytes(PARTITION_BYTES, "big")
        self.rows: dict[bytes, bytes] = {}

    def apply(self, record: Message) -> None:
        """Take in the record that comes next. ValueError if another partition owns its key."""
        key = record.key or b""
        if not key.startswith(self._prefix):
            raise ValueError(
                f"{record.topic}[{record.partition}]@{record.offset} has key {key!r}, which is "
                f"none of a table's partition {int.from_bytes(self._prefix, 'big')}"
            )
        if record.value is None:
            self.rows.pop(key[PARTITION_BYTES:], None)
        else:
            self.rows[key[PARTITION_BYTES:]] = record.value


class FaustChangelog:
    """The changelog of a table of earlier releases, if there is one."""

    def __init__(self, changelog: KafkaStateLog):
        self._changelog = changelog

    async def load(self, partition: int, state: KeyedState) -> bool:
        """Fill an empty state with what the changelog holds; whether that was anything."""
        if not await self._changelog.exists():
            return False
        fold = ChangelogFold(partition)
        await self._changelog.replay(partition, fold)
        state.load_rows(fold.rows)
        if fold.rows:
            log.info("%s[%d]: %d rows taken over", self._changelog.name, partition, len(fold.rows))
        return bool(fold.rows)
