"""Versions of the tables on a cluster: which there are, how far each is, promoting and retiring.

What there is, and which is served, stands in the log (`table-versions`, `served-version`), so that
every machine with a hold on the brokers sees the same. `serve_mongo` of the first version brings
the pointer to MongoDB, where readers look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from pymongo import MongoClient

from schemas.registry import RestRegistry, TopicRegistry
from streams.events.core.origins import tally_of
from streams.kafka.clients import reader, send_all
from streams.kafka.log_reader import LogReader, read_all
from streams.kafka.message import Message
from streams.kafka.removal import delete_topics, unless_gone
from streams.kafka.wire import Wire
from streams.operations.core.versions import (
    LIVE,
    Pace,
    Pointer,
    Version,
    VersionError,
    Versions,
    VersionStage,
    versions_of,
)
from streams.operations.replay import send_beginnings
from topology.access import admin_client
from topology.graph import build_graph
from topology.settings import Settings
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS
from topology.topics.operations import SERVED_VERSION, TABLE_VERSIONS
from topology.versions import FIRST, beside, prefix, version_of

BATCHING = "batch_events"
TIMEOUT_S = 30.0
STALL_S = 90.0
"""Longest that a version may stand still while it is waited for."""

LOOK_EVERY_S = 0.25
ROUNDS = 3
"""From batches to the last of what is made of them is so many stages."""

Ends = Mapping[str, Mapping[int, int]]
"""Topic -> partition -> offset after its last record."""


class VersionLog:
    """What the log says of versions. KafkaException and SilentLogError where the broker fails."""

    def __init__(self, settings: Settings, registry: TopicRegistry | RestRegistry):
        self._settings = settings
        self._graph = build_graph(settings.event_partitions)
        self._wire = Wire(self._graph, registry)

    def read(self) -> Versions:
        """Every version, and the pointer. KeyError if the cluster has no such topics yet."""
        records: dict[str, Mapping[str, Any]] = {}
        pointers: list[Mapping[str, Any]] = []

        def apply(messages: list[Message]) -> None:
            for message in messages:
                record = self._wire.decode(message.topic, message.value)
                if message.topic == SERVED_VERSION.name:
                    pointers.append(record)
                else:
                    records[record["version"]] = record

        topics = [TABLE_VERSIONS.name, SERVED_VERSION.name]
        read_all(self._settings.kafka_bootstrap_servers, topics, apply)
        first = Version.of_graph(
            self._graph, self._settings.mongodb_database, "this instance", "", None
        )
        return versions_of(first, records.values(), pointers[-1] if pointers else None)

    def write(self, version: Version) -> None:
        """Say what a version is. DeliveryError if the broker does not take it."""
        self._send(TABLE_VERSIONS.name, version.name, version.to_record())

    def point(self, pointer: Pointer) -> None:
        """Say which version is served. DeliveryError if the broker does not take it."""
        self._send(SERVED_VERSION.name, LIVE, pointer.to_record())

    def _send(self, topic: str, key: str, record: dict[str, Any]) -> None:
        sent = {"key": key, "value": self._wire.encode(topic, record)}
        send_all(self._settings.kafka_bootstrap_servers, topic, [sent], TIMEOUT_S)


def begin_batches(settings: Settings, name: str) -> None:
    """Tell `batch_events` of a new version what that of the first knows and the log does not say:
    below which offset events count where they lie, whomever they are of. Told once."""
    first, own = (
        build_graph(settings.event_partitions),
        build_graph(settings.event_partitions, name),
    )
    told, topic = first.topic(USER_EVENT_BATCHES), own.topic(USER_EVENT_BATCHES)
    strays = dict[int, int]()
    with LogReader(settings.kafka_bootstrap_servers, TIMEOUT_S) as logs:
        for partition in logs.partitions(topic.name):
            last = logs.last(told.name, partition)
            below = tally_of(last.headers() or ()).strays_below if last is not None else 0
            if below and not logs.bounds(topic.name, partition)[1]:
                strays[partition] = below
    send_beginnings(settings, topic, strays, strays)


# -- how far a version is ------------------------------------------------------------------------


class Progress:
    """Looks how far the stages of a version have read. Close it."""

    def __init__(self, settings: Settings, version: Version):
        self._version = version
        self._logs = LogReader(settings.kafka_bootstrap_servers, TIMEOUT_S, log_level=0)
        self._groups = {
            stage.name: reader(settings.kafka_bootstrap_servers, stage.group, log_level=0)
            for stage in version.stages
        }

    def close(self) -> None:
        """Let go of the broker."""
        self._logs.close()
        for group in self._groups.values():
            group.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ends(self, stages: Iterable[VersionStage]) -> dict[str, dict[int, int]]:
        """Where the topics that these stages consume end now."""
        topics = {topic for stage in stages for topic in stage.consumes}
        return {topic: self._logs.ends(topic) for topic in sorted(topics)}

    def left(self, stage: VersionStage, ends: Ends) -> int:
        """How many records before these ends the stage has not acknowledged."""
        asked = [
            TopicPartition(topic, partition)
            for topic in stage.consumes
            for partition, end in ends.get(topic, {}).items()
            if end
        ]
        if not asked:
            return 0
        total = 0
        for place in self._groups[stage.name].committed(asked, timeout=TIMEOUT_S):
            end = ends[place.topic][place.partition]
            done = place.offset if place.offset >= 0 else 0
            if done < end:
                first, _ = self._logs.bounds(place.topic, place.partition)
                total += max(0, end - max(done, first))
        return total

    def behind(self) -> dict[str, int]:
        """Stage -> records that wait for it now."""
        stages = self._version.stages
        ends = self.ends(stages)
        return {stage.name: self.left(stage, ends) for stage in stages}


def wait_until_counted(
    settings: Settings,
    version: Version,
    tell: Callable[[str], None] = lambda _: None,
    stall_s: float = STALL_S,
) -> dict[int, int]:
    """Return once a version has counted every event that there is now: by source partition, the
    offset after the last one.

    ``tell`` hears how far it is. VersionError if it stands still for ``stall_s`` seconds.
    """
    batching = [stage for stage in version.stages if stage.name == BATCHING]
    others = [stage for stage in version.stages if stage.name != BATCHING]
    with Progress(settings, version) as progress:
        events = progress.ends(batching)
        _wait_for(progress, version, batching, events, tell, stall_s)
        for _ in range(ROUNDS):
            _wait_for(progress, version, others, progress.ends(others), tell, stall_s)
        return dict(events[USER_EVENTS.name])


def _wait_for(
    progress: Progress,
    version: Version,
    stages: list[VersionStage],
    ends: Ends,
    tell: Callable[[str], None],
    stall_s: float,
) -> None:
    """Return once these stages have acknowledged everything before ``ends``."""
    total = sum(ends.get(USER_EVENTS.name, {}).values())
    began = moved_at = time.monotonic()
    begun_with: int | None = None
    smallest: int | None = None
    while left := {s.name: n for s in stages if (n := progress.left(s, ends))}:
        now, waiting = time.monotonic(), sum(left.values())
        if smallest is None or waiting < smallest:
            smallest, moved_at = waiting, now
        elif now - moved_at > stall_s:
            raise VersionError(
                f"{version.name} stands still: {_listed(left)} to go for {stall_s:.0f} s. Its "
                f"processes must run; `podstream status` shows them."
            )
        if total:
            done = total - waiting
            begun_with = done if begun_with is None else begun_with
            tell(Pace(done, total, begun_with, now - began).sentence())
        else:
            tell(f"{_listed(left)} to go")
        time.sleep(LOOK_EVERY_S)


def _listed(left: Mapping[str, int]) -> str:
    return ", ".join(f"{name} has {number:,}" for name, number in left.items())


# -- promoting -----------------------------------------------------------------------------------


def promote(settings: Settings, log: VersionLog, pointer: Pointer) -> None:
    """Have readers look at another version, and return when MongoDB tells them so.

    VersionError if nobody brings the pointer to MongoDB; it is in the log then, and will be.
    """
    log.point(pointer)
    uri = settings.mongodb_uri.get_secret_value()
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=int(TIMEOUT_S * 1000)) as client:
        told = client[settings.mongodb_database][SERVED]
        deadline = time.monotonic() + TIMEOUT_S
        while (found := told.find_one({"_id": LIVE})) is None or (
            found["promoted_at"].replace(tzinfo=UTC) < _milliseconds(pointer.promoted_at)
        ):
            if time.monotonic() > deadline:
                raise VersionError(
                    f"The log says that {pointer.version} is served, but serve_mongo of {FIRST} "
                    f"has not told MongoDB for {TIMEOUT_S:.0f} s: is it running?"
                )
            time.sleep(LOOK_EVERY_S / 5)


SERVED = "served_version"
"""The collection that has the pointer."""


def _milliseconds(at: datetime | None) -> datetime:
    """A time as the log has it."""
    at = at or datetime.now(UTC)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


# -- retiring ------------------------------------------------------------------------------------


def remove_tables(settings: Settings, version: Version) -> list[str]:
    """Remove the groups, topics and database of a version; what was removed, in words.

    VersionError if a worker of it runs, and for a version whose names are not its own. Cut off,
    the same call does the rest.
    """
    if version.name == FIRST or version.database != beside(settings.mongodb_database, version.name):
        raise VersionError(f"{version.name} has names that others use: nothing is removed.")
    admin = admin_client(settings.kafka_bootstrap_servers, log_level=0)
    listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result()
    groups = [g.group_id for g in listed.valid if g.group_id.startswith(prefix(version.name))]
    _require_idle(admin, version, groups)
    removed = admin.delete_consumer_groups(groups, request_timeout=TIMEOUT_S) if groups else {}
    for future in removed.values():
        unless_gone(future, KafkaError.GROUP_ID_NOT_FOUND, TIMEOUT_S)
    topics = [
        name
        for name in admin.list_topics(timeout=TIMEOUT_S).topics
        if version_of(name) == version.name
    ]
    delete_topics(admin, topics, TIMEOUT_S)
    uri = settings.mongodb_uri.get_secret_value()
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=int(TIMEOUT_S * 1000)) as client:
        client.drop_database(version.database)
    return [
        f"{len(groups)} consumer groups",
        f"{len(topics)} topics",
        f"the database {version.database}",
    ]


def _require_idle(admin: AdminClient, version: Version, groups: list[str]) -> None:
    asked = admin.describe_consumer_groups(groups, request_timeout=TIMEOUT_S) if groups else {}
    busy = [group for group, future in asked.items() if future.result(TIMEOUT_S).members]
    if busy:
        raise VersionError(
            f"Workers of {version.name} still run ({', '.join(sorted(busy))}): stop them first."
        )
