"""Compares two versions of the tables, at equal offsets, a part of the keys at a time.

Each topic is read once. Where it holds more rows than fit, they go to files by the hash of their
key, so that memory holds one part of the keys at a time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from schemas.registry import RestRegistry, TopicRegistry
from streams.kafka.clients import to_message
from streams.kafka.log_reader import LogReader
from streams.kafka.wire import Wire
from streams.operations.core.version_diff import (
    TABLES,
    ComparedTable,
    Repeats,
    Span,
    TableDiff,
    bucket_of,
    newest,
    plain,
)
from streams.operations.core.versions import Version
from streams.operations.versions import wait_until_counted
from topology.graph import build_graph
from topology.model import Topic
from topology.settings import Settings
from topology.versions import setting

ROWS_IN_MEMORY = 500_000
BUCKETS = 32
RECORDS_AT_ONCE = 200

TOLD_WITHIN_S = 12.0
"""What is not told with every batch is told by then."""

_PARTITION = "source_partition"


@dataclass(frozen=True)
class VersionDiff:
    """Two versions side by side; ``offsets``: by source partition, the offset before which every
    event was counted by both."""

    a: str
    b: str
    offsets: dict[int, int]
    tables: list[TableDiff]

    @property
    def differs(self) -> bool:
        """Whether any table does."""
        return any(table.differs for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        return {
            "a": self.a,
            "b": self.b,
            "differs": self.differs,
            "offsets": {str(partition): end for partition, end in self.offsets.items()},
            "tables": [table.as_dict() for table in self.tables],
        }


class Spill:
    """Rows by the part of the keys that they belong to: in memory, in files if they are many."""

    def __init__(self, table: ComparedTable, folder: Path, in_memory: int = ROWS_IN_MEMORY):
        self._table = table
        self._folder = folder
        self._limit = in_memory
        self._held: list[pl.DataFrame] = []
        self._rows = 0
        self._files = 0

    def put(self, rows: pl.DataFrame) -> None:
        """Take in rows, in the order of the log."""
        if rows.is_empty():
            return
        self._held.append(rows)
        self._rows += rows.height
        if self._rows > self._limit:
            self._flush()

    def _flush(self) -> None:
        """Keep of each key what matters; where that is too much for memory, in files."""
        rows = newest(self._table, pl.concat(self._held)).select(self._table.columns)
        self._held, self._rows = [rows], rows.height
        if rows.height <= self._limit // 2:
            return
        numbered = rows.with_columns(_bucket=bucket_of(self._table, rows, BUCKETS))
        for (bucket,), some in numbered.partition_by("_bucket", as_dict=True).items():
            some.drop("_bucket").write_parquet(self._folder / f"{bucket}-{self._files}.parquet")
        self._files += 1
        self._held, self._rows = [], 0

    def bucket(self, number: int) -> pl.DataFrame:
        """The rows of one part of the keys, in the order in which they came."""
        found = [
            pl.read_parquet(self._folder / name)
            for n in range(self._files)
            if (self._folder / (name := f"{number}-{n}.parquet")).exists()
        ]
        if self._held:
            rows = pl.concat(self._held).select(self._table.columns)
            self._held = [rows]
            found.append(rows.filter(bucket_of(self._table, rows, BUCKETS) == number))
        if not found:
            return pl.DataFrame()
        return pl.concat(found)


class Side:
    """The tables of one version, as its topics hold them. Close it."""

    def __init__(self, settings: Settings, registry: TopicRegistry | RestRegistry, name: str):
        self._graph = build_graph(settings.event_partitions, setting(name))
        self._wire = Wire(self._graph, registry)
        self._logs = LogReader(settings.kafka_bootstrap_servers)

    def close(self) -> None:
        """Let go of the broker."""
        self._logs.close()

    def read(self, table: ComparedTable, into: Spill) -> dict[int, int]:
        """Read a table; by source partition the offset below which its topic may lack rows."""
        topic: Topic = self._graph.topic(table.topic)
        repeats, firsts = Repeats(table), dict[int, int]()
        for partition in self._logs.partitions(topic.name):
            start, end = self._logs.bounds(topic.name, partition)
            seen = dict[int, int]()
            for records in self._logs.span(topic.name, partition, start, end, RECORDS_AT_ONCE):
                for record in records:
                    value = to_message(record).value
                    rows = plain(self._wire.decode(topic.name, value, table.columns))
                    into.put(repeats.drop(rows.select(table.columns)))
                    if start and rows.height and len(seen) < self._graph_partitions():
                        _note_first(seen, table, rows)
            for source, first in seen.items():
                firsts[source] = max(firsts.get(source, 0), first)
        return firsts

    def _graph_partitions(self) -> int:
        return self._graph.topics[self._graph.stages["batch_events"].consumes[0]].partitions


def _note_first(seen: dict[int, int], table: ComparedTable, rows: pl.DataFrame) -> None:
    """Of a topic whose beginning is gone: how far the first message of each source partition that
    is left had counted. Whatever changed before may be in messages that are gone."""
    reached = rows.group_by(_PARTITION).agg(pl.col(table.offset).max())
    for source, offset in reached.iter_rows():
        seen.setdefault(int(source), int(offset))


def diff(
    settings: Settings,
    registry: TopicRegistry | RestRegistry,
    a: Version,
    b: Version,
    tell: Callable[[str], None] = lambda _: None,
) -> VersionDiff:
    """Compare all tables of two versions, once both have counted every event that there is now.

    VersionError if one of them stands still; KafkaException and SilentLogError where the broker
    fails.
    """
    offsets = wait_until_counted(settings, a, lambda told: tell(f"{a.name}: {told}"))
    wait_until_counted(settings, b, lambda told: tell(f"{b.name}: {told}"))
    counted_at = time.monotonic()
    sides = Side(settings, registry, a.name), Side(settings, registry, b.name)
    try:
        found = []
        for table in TABLES:
            tell(f"comparing {table.name}")
            made = _compare(sides, table, offsets)
            left = counted_at + TOLD_WITHIN_S - time.monotonic()
            if made.differs and table.late and left > 0:
                tell(f"{table.name} may not have been told yet: looking again in {left:.0f} s")
                time.sleep(left)
                made = _compare(sides, table, offsets)
            found.append(made)
    finally:
        for side in sides:
            side.close()
    return VersionDiff(a.name, b.name, offsets, found)


def _compare(sides: tuple[Side, Side], table: ComparedTable, offsets: dict[int, int]) -> TableDiff:
    with tempfile.TemporaryDirectory(prefix="podstream-diff-") as folder:
        spills, firsts = [], dict[int, int]()
        for number, side in enumerate(sides):
            place = Path(folder) / str(number)
            place.mkdir()
            spill = Spill(table, place)
            for source, first in side.read(table, spill).items():
                firsts[source] = max(firsts.get(source, 0), first)
            spills.append(spill)
        made, span = TableDiff(table.name), Span(firsts, offsets)
        for number in range(BUCKETS):
            rows = [spill.bucket(number) for spill in spills]
            if all(side.is_empty() for side in rows):
                continue
            like = next(side for side in rows if side.width)
            ours, theirs = (side if side.width else like.clear() for side in rows)
            made.add(table, ours, theirs, span)
    return made
