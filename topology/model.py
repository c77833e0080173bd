"""The words in which the graph is declared: topics, tables, stores and stages, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal, TypeVar

from schemas.units import MINUTE_MS
from topology.versions import version_of

FOREVER = -1
"""Retention of a topic that is never truncated: the log is the source of truth."""

MEGABYTE = 1_048_576

SEGMENT_BYTES = 32 * MEGABYTE
SEGMENT_MS = 10 * MINUTE_MS
"""Largest and oldest segment of a topic that gives disk back: the newest segment is never compacted
and hardly ever deleted, so it is what such a topic takes at least."""

SEGMENTS_KEPT = 20
"""Of a topic whose records expire: each is deleted whole, so the oldest is as long behind."""


class Partitions(IntEnum):
    """Numbers of partitions that a deployment chooses: resolved when the graph is built."""

    EVENT_PATH = 0


EVENT_PATH = Partitions.EVENT_PATH
"""As many partitions as the event path has (`EVENT_PARTITIONS`)."""


@dataclass(frozen=True)
class Topic:
    """One Kafka topic.

    ``schema`` names a file of ``schemas/`` without its version (``user_event``). ``format`` says
    what a value is: ``avro`` (Confluent framing, one record), ``arrow`` (an Arrow IPC stream, many
    rows), ``json`` or ``raw`` bytes. ``key`` says in words what the key is and how the partition is
    chosen. ``append_time`` makes the broker stamp records, which gives the log a clock of its own.
    A log that is truncated frees its disk by whole segments of ``segment_bytes``.

    ``purge_after_ms`` is for a topic that derives from another one: a record is kept until every
    stage that consumes the topic has committed it, and at least this long. Unlike a retention it
    never takes away what somebody still has to read, however long that was switched off.

    A ``shared`` topic of a versioned stage is one for all versions: the first writes it, the others
    read it.

    A declared topic is one of the subclasses, which tell mypy what a value of it is.
    """

    name: str
    doc: str
    key: str
    schema: str | None = None
    format: Literal["avro", "arrow", "json", "raw"] = "avro"
    partitions: int = 1
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int = FOREVER
    max_message_bytes: int = 1_048_588
    append_time: bool = False
    segment_bytes: int | None = None
    purge_after_ms: int | None = None
    shared: bool = False

    def config(self) -> dict[str, str]:
        """The topic-level settings that the broker must hold, in its own spelling."""
        settings = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
        }
        if self.cleanup == "delete":
            settings["retention.ms"] = str(self.retention_ms)
        if self.segment_bytes is not None:
            settings["segment.bytes"] = str(self.segment_bytes)
        elif self.cleanup == "compact" or self.purge_after_ms is not None:
            settings["segment.bytes"] = str(SEGMENT_BYTES)
            settings["segment.ms"] = str(SEGMENT_MS)
        elif self.retention_ms != FOREVER:
            settings["segment.bytes"] = str(SEGMENT_BYTES)
            settings["segment.ms"] = str(max(self.retention_ms // SEGMENTS_KEPT, MINUTE_MS))
        return settings


@dataclass(frozen=True)
class AvroTopic(Topic):
    """A topic whose values are records: a dict each, or None for a tombstone."""

    format: Literal["avro"] = "avro"


@dataclass(frozen=True)
class ArrowTopic(Topic):
    """A topic whose values are rows of one schema: a polars DataFrame each.

    Rows of a ``divisible`` one mean the same in several messages, in their order, of which the
    last has the headers: what would be too large is cut. Rows with the same value of the column
    ``together``, which follow each other, stay in one message.
    """

    format: Literal["arrow"] = "arrow"
    divisible: bool = False
    together: str | None = None


@dataclass(frozen=True)
class RawTopic(Topic):
    """A topic whose values are bytes as they came."""

    format: Literal["raw"] = "raw"


@dataclass(frozen=True)
class Table:
    """State of one stage, kept in a topic: the changes of each batch and, now and then, a snapshot
    of the whole, after which the topic is truncated.

    ``keyed`` state is a value for each key, both bytes; ``key`` and ``value`` say in words what
    they hold. A ``log`` is state of the stage's own form, one for each partition. ``partitions``
    equals those of the topic whose partition number owns the state.
    """

    name: str
    doc: str
    key: str
    value: str
    partitions: int
    form: Literal["keyed", "log"] = "keyed"


@dataclass(frozen=True)
class Index:
    """A MongoDB index: (field, 1 or -1) pairs, and the seconds after which a document expires."""

    fields: tuple[tuple[str, int], ...]
    expire_after_s: int | None = None

    @property
    def name(self) -> str:
        """The name that MongoDB itself gives to such an index."""
        return "_".join(f"{name}_{direction}" for name, direction in self.fields)


@dataclass(frozen=True)
class Collection:
    """A MongoDB collection; ``key`` says in words what its ``_id`` is.

    An ``eventual`` one may be empty for long: it holds only what is over, such as a day, or
    unusual.
    """

    name: str
    doc: str
    key: str
    indexes: tuple[Index, ...] = ()
    eventual: bool = False


@dataclass(frozen=True)
class Column:
    """A Delta column: ``type`` is Spark SQL's name for it."""

    name: str
    type: str
    doc: str
    nullable: bool = True


@dataclass(frozen=True)
class DeltaTable:
    """A Delta table; ``key`` are the columns that identify a row, so that a write is idempotent.

    An ``eventual`` one may be empty for long: it holds only what is over, such as a day.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    eventual: bool = False

    def ddl(self) -> str:
        """The columns as Spark's DDL schema string."""
        return ", ".join(
            f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns
        )


Runner = Literal["faust", "confluent", "spark", "streamlit", "uvicorn"]

Outside = Literal["index", "web"]
"""What a stage may ask beyond the instance: the podcast index, or any host of the public web."""


@dataclass(frozen=True)
class Stage:
    """One stage: what it reads, what it writes, where its code is. Edges are written only here.

    ``worker`` names the process that runs it by default: stages with the same ``worker`` share
    one; each stage keeps a consumer group of its own, so that the grouping may change freely.
    ``broadcast`` are topics that every worker of the stage reads whole (reference data), beside
    ``consumes``, whose partitions are divided among the workers. A stage whose state takes another
    form gets the next ``version``, which has read nothing: of a topic that is purged behind its
    readers it has the records made again by `podstream replay`, and does not start without.
    ``hands_over`` are topics that it consumes and whose records it may send to another partition.
    ``tables`` is its own state; ``reads`` and ``writes`` name MongoDB collections and Delta tables.
    ``entry_point`` is the module, or the file, that holds it. A stage that is ``demo_only`` runs in
    the demo alone, one with a ``switch``, the name of a setting, only where this is on.
    ``reaches`` is what it asks outside; stages that reach the same divide its rates among them.
    A ``versioned`` one may run beside itself, of other code (`topology.versions`):
    ``table_version`` says whose it is then, and its edges have that version's names.
    """

    name: str
    doc: str
    runner: Runner
    entry_point: str
    worker: str
    consumes: tuple[str, ...] = ()
    broadcast: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    hands_over: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    demo_only: bool = False
    version: int = 1
    reaches: tuple[Outside, ...] = ()
    switch: str = ""
    versioned: bool = False
    table_version: str = ""


def declare_stage(
    name: str,
    doc: str,
    *,
    runner: Runner,
    entry_point: str,
    worker: str,
    consumes: tuple[Topic, ...] = (),
    broadcast: tuple[Topic, ...] = (),
    produces: tuple[Topic, ...] = (),
    hands_over: tuple[Topic, ...] = (),
    tables: tuple[Table, ...] = (),
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    demo_only: bool = False,
    version: int = 1,
    reaches: tuple[Outside, ...] = (),
    switch: str = "",
    versioned: bool = False,
) -> Stage:
    """A stage whose edges are the topics themselves, so that no name is spelt twice."""
    return Stage(
        name,
        doc,
        runner=runner,
        entry_point=entry_point,
        worker=worker,
        consumes=tuple(topic.name for topic in consumes),
        broadcast=tuple(topic.name for topic in broadcast),
        produces=tuple(topic.name for topic in produces),
        hands_over=tuple(topic.name for topic in hands_over),
        tables=tables,
        reads=reads,
        writes=writes,
        demo_only=demo_only,
        version=version,
        reaches=reaches,
        switch=switch,
        versioned=versioned,
    )


P = TypeVar("P", bound="Topic | Table")


def resolved(part: P, event_partitions: int) -> P:
    """The same topic or table, with ``event_partitions`` where it declares `EVENT_PATH`."""
    return replace(part, partitions=event_partitions) if part.partitions is EVENT_PATH else part


T = TypeVar("T", bound=Topic)


@dataclass(frozen=True)
class Graph:
    """The whole topology: every part by name; of a ``version`` beside the first, what it has.

    ``names`` are those of the version's own topics, by the names that are declared.
    """

    topics: dict[str, Topic] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    delta_tables: dict[str, DeltaTable] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    version: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def topic(self, declared: T) -> T:
        """A declared topic, under the name that it has in this version."""
        name = self.names.get(declared.name)
        return declared if name is None else replace(declared, name=name)

    def own_topics(self) -> dict[str, Topic]:
        """The topics that are this version's alone: all, of the first one."""
        if not self.version:
            return self.topics
        return {n: topic for n, topic in self.topics.items() if version_of(n) == self.version}
