"""Removes from Delta what listeners did before they were forgotten.

Whoever writes a table removes the rows as well, and nobody else: nothing that is committed there at
the same time can conflict. `forgotten-listeners` is read up to its end when a micro-batch has been
planned, and before it is written. The record there is in the log before any row can be that is made
of later events; so rows of before are removed before rows of after are added to what there is, and
those of before that come later still are known, and left out (`jobs.core.forgetting`). A row is
never made of both.

How far a table has gone with that is noted in its own log, in the commit that removes the rows. A
kill at any moment loses nothing, and a start has nothing to read of whoever was forgotten before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from deltalake import DeltaTable as DeltaLog

from jobs.core.facts import MadeFrom
from jobs.core.forgetting import Forgotten, rows_of
from jobs.fencing import WriterEpoch
from streams.kafka.clients import to_message
from streams.kafka.log_reader import LogReader
from topology.graph import check_reads
from topology.model import Stage
from topology.settings import Settings
from topology.topics.events import FORGOTTEN_LISTENERS

log = logging.getLogger(__name__)

TOPIC = FORGOTTEN_LISTENERS.name

MOST_AT_ONCE = 100
"""Listeners removed by one commit: each is a condition by which files are looked at."""

_NOTE = "podstream.forgotten."
"""With the number of a partition: what has been done of it, in Delta's record of transactions."""


class ForgottenListeners:
    """Who is forgotten, read from the log. Raises SilentLogError and KafkaException."""

    def __init__(self, settings: Settings, stage: Stage):
        check_reads(stage, TOPIC)
        self.known = Forgotten()
        self._logs = LogReader(settings.kafka_bootstrap_servers)
        self._partitions = self._logs.partitions(TOPIC)

    def read(self) -> None:
        """Take in what the log has by now."""
        for partition in self._partitions:
            first, end = self._logs.bounds(TOPIC, partition)
            start = max(first, self.known.ends.get(partition, 0))
            for records in self._logs.span(TOPIC, partition, start, end):
                self.known.take(partition, map(to_message, records), end)


class ForgettingTable:
    """A table from which rows of forgotten listeners go, by whoever has the right to write it."""

    def __init__(self, path: str, made_from: MadeFrom, epoch: WriterEpoch, partitions: int):
        self.path = path
        self._made_from = made_from
        self._epoch = epoch
        self._noted = noted(path, range(partitions))

    def forget(self, known: Forgotten) -> int:
        """Remove what the table has of whoever was forgotten since; how many commits it took.

        FencedError if the table is somebody else's.
        """
        told = known.since(self._noted)
        starts = range(0, len(told), MOST_AT_ONCE)
        for start in starts:
            some = told[start : start + MOST_AT_ONCE]
            done = {one.partition: one.offset + 1 for one in some}
            notes = {f"{_NOTE}{partition}": offset for partition, offset in done.items()}
            rows = self._epoch.delete(rows_of(some, self._made_from), notes)
            self._noted |= done
            name = self.path.rpartition("/")[2]
            log.info("%s: %d rows of %d forgotten listeners are gone", name, rows, len(some))
        return len(starts)


def noted(path: str, partitions: Iterable[int]) -> dict[int, int]:
    """Partition -> the first offset of `forgotten-listeners` that a table has yet to act on.

    Those in which it has never done so are left out.
    """
    table = DeltaLog(path)
    found = {number: table.transaction_version(f"{_NOTE}{number}") for number in partitions}
    return {number: offset for number, offset in found.items() if offset is not None}
