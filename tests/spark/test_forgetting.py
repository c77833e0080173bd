"""A listener is forgotten: real Spark and Delta, rows of before and after, late, and again."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from jobs import write_delta
from jobs.core.facts import FACTS
from jobs.write_delta import TableWriter, table_path
from streams.events.core.requests import forgotten_record
from streams.kafka.clients import producer
from streams.kafka.forgetting import Forgetting
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from topology.model import Graph
from topology.settings import Settings
from topology.topics.engagement import LISTENING_SESSIONS, USER_EPISODE_DAILY
from topology.topics.events import FORGOTTEN_LISTENERS, USER_EVENT_BATCHES
from topology.topics.recommendation import RECOMMENDATIONS

pytestmark = [pytest.mark.spark, pytest.mark.broker]

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
BATCHES, DAILY = USER_EVENT_BATCHES.name, USER_EPISODE_DAILY.name
SESSIONS, LISTS = LISTENING_SESSIONS.name, RECOMMENDATIONS.name
TABLES = {FACTS[topic].table: topic for topic in (BATCHES, DAILY, SESSIONS, LISTS)}
PARTITION, FAR = 1, 10_000_000
ADA, DAN = "ada o'hara", "dan"
"""Ada has the even offsets, Dan the odd ones."""

Place = tuple[str, int, int, bytes | None]


class Log:
    """What the stages before would send of a stretch of offsets."""

    def __init__(self, settings: Settings, graph: Graph):
        self._wire = Wire(graph, open_registry(settings))
        self._producer = producer(settings.kafka_bootstrap_servers)

    def stretch(self, number: int, offsets: range) -> list[Place]:
        """Messages, each as (topic, partition, offset, value); lists are a message each."""
        frames = {BATCHES: events(offsets), DAILY: amounts(offsets), SESSIONS: sessions(offsets)}
        made: list[Place] = [
            (topic, PARTITION, number, self._wire.encode(topic, frame))
            for topic, frame in frames.items()
        ]
        lists = [self._wire.encode(LISTS, list_of(offset)) for offset in offsets]
        return [*made, *((LISTS, PARTITION, n, v) for n, v in zip(offsets, lists, strict=True))]

    def forget(self, user_id: str, up_to: int) -> None:
        """As `batch_events` says it."""
        forgetting = Forgetting(user_id, up_to + 1, up_to, int(NOON.timestamp() * 1000))
        topic = FORGOTTEN_LISTENERS.name
        value = self._wire.encode(topic, forgotten_record(PARTITION, forgetting))
        self._producer.produce(
            topic,
            value,
            user_id.encode(),
            partition=PARTITION,
            headers=list(forgetting.headers().items()),
        )
        assert self._producer.flush(30) == 0


def users(offsets: range) -> list[str]:
    return [DAN if offset % 2 else ADA for offset in offsets]


def events(offsets: range) -> pl.DataFrame:
    optional = ("session_id", "surface", "rank", "arm", "user_agent", "generation")
    return pl.DataFrame(
        {
            "partition": PARTITION,
            "offset": list(offsets),
            "event_id": [str(offset) for offset in offsets],
            "user_id": users(offsets),
            "episode_id": "e",
            "kind": "progress",
            "occurred_at": NOON,
            "heard_ms": 1000,
            "position_ms": 0,
            "duration_ms": 60_000,
            "logged_at": NOON,
            **dict.fromkeys(optional),
        },
        schema_overrides={"partition": pl.Int32, "occurred_at": pl.Datetime("ms", "UTC")},
    )


def amounts(offsets: range) -> pl.DataFrame:
    counts = dict.fromkeys(("impressions", "clicks", "plays", "completes", "likes", "dislikes"), 0)
    made_of = {
        "source_partition": PARTITION,
        "first_offset": offsets[0],
        "last_offset": offsets[-1],
    }
    common = {"episode_id": "e", "day": NOON.date(), **made_of, **counts, "duration_ms": 60_000}
    return pl.DataFrame(
        [
            {**common, "user_id": user, "heard_ms": 1000 * users(offsets).count(user),
             "first_at": NOON, "last_at": NOON}
            for user in sorted(set(users(offsets)))
        ]
    )  # fmt: skip


def sessions(offsets: range) -> pl.DataFrame:
    counts = dict.fromkeys(("events", "plays", "completes", "heard_ms"), 1)
    times = {"started_at": NOON, "ended_at": NOON, "source_partition": PARTITION}
    return pl.DataFrame(
        [
            {"user_id": user, "offset": offset, **times, **counts}
            for user, offset in zip(users(offsets), offsets, strict=True)
        ]
    )


def list_of(offset: int) -> dict[str, Any]:
    (user,) = users(range(offset, offset + 1))
    made_of = {"source_partition": PARTITION, "offset": offset}
    return {"user_id": user, "generation": "g", "updated_at": NOON, "caused_by": "c", "items": [],
            **made_of}  # fmt: skip


def micro_batch(spark: SparkSession, *stretches: list[Place]) -> DataFrame:
    """What Spark's Kafka source would give, in the order of the log."""
    schema = "topic string, partition int, offset bigint, value binary, key binary"
    places = [place for stretch in stretches for place in stretch]
    return spark.createDataFrame([(*place, b"") for place in places], schema).coalesce(1)


def versions(settings: Settings) -> list[int]:
    return [DeltaTable(table_path(settings, name)).version() for name in TABLES]


def held(settings: Settings) -> dict[str, list[Any]]:
    """Of each table the rows of each listener, by what they are made of: amounts with their sum."""
    found: dict[str, list[Any]] = {}
    for name, topic in TABLES.items():
        made_from = FACTS[topic].made_from
        assert made_from is not None
        columns = ["user_id", made_from.offset]
        if topic == DAILY:
            columns.append("heard_ms")
        table = DeltaTable(table_path(settings, name)).to_pyarrow_table(columns=columns)
        found[name] = sorted(pl.DataFrame(pl.from_arrow(table)).rows())
    return found


def expected(offsets: dict[str, list[int]], last: int) -> dict[str, list[Any]]:
    """The rows of listeners of whom these offsets count, all but amounts a row each."""
    each = sorted((user, offset) for user, some in offsets.items() for offset in some)
    amounts = sorted((user, last, 1000 * len(some)) for user, some in offsets.items() if some)
    return {name: amounts if topic == DAILY else each for name, topic in TABLES.items()}


def test_what_was_done_before_goes_and_never_comes_and_what_was_done_since_stays(
    spark: SparkSession, settings: Settings, graph: Graph
) -> None:
    write_delta.create_tables(graph, settings)
    log, topics = Log(settings, graph), list(TABLES.values())
    writer = TableWriter(settings, graph, topics)
    first, late, since = (
        log.stretch(n, offsets)
        for n, offsets in enumerate([range(10), range(10, 20), range(20, 30)])
    )
    odd = list(range(1, 30, 2))
    writer(micro_batch(spark, first), 0)
    assert held(settings) == expected({ADA: [0, 2, 4, 6, 8], DAN: odd[:5]}, 9)

    # Forgotten when the second stretch was in the log, and the tables had the first one only.
    log.forget(ADA, 19)
    before = versions(settings)
    batch = micro_batch(spark, late, since)
    writer(batch, 1)
    came = expected({ADA: [20, 22, 24, 26, 28], DAN: odd}, 29)
    assert held(settings) == came
    assert versions(settings) == [version + 2 for version in before], "rows go, others come"

    # The micro-batch again, by this process and by one that follows a kill; then all of the log.
    for restarted in (False, True):
        if restarted:
            writer = TableWriter(settings, graph, topics)
        before = versions(settings)
        for again in (batch, micro_batch(spark, first, late, since)):
            writer(again, 1)
            assert (held(settings), versions(settings)) == (came, before)

    # Killed when the rows are gone, and before others came; forgotten once more, with all of it.
    log.forget(ADA, 29)
    TableWriter(settings, graph, topics)(micro_batch(spark), 2)
    gone = expected({DAN: odd}, 29)
    assert held(settings) == gone
    writer = TableWriter(settings, graph, topics)
    writer(micro_batch(spark, first, late, since), 0)  # the checkpoint is lost as well
    assert held(settings) == gone
    writer(micro_batch(spark, log.stretch(3, range(30, 32))), 3)
    assert held(settings) == expected({ADA: [30], DAN: [*odd, 31]}, 31)


@pytest.mark.timeout(300)
def test_a_request_is_acted_on_where_nothing_else_comes(
    spark: SparkSession, settings: Settings, graph: Graph
) -> None:
    write_delta.create_tables(graph, settings)
    log = Log(settings, graph)
    # Far beyond what other tests have sent: of that the queries find nothing new.
    writer = TableWriter(settings, graph, list(TABLES.values()))
    writer(micro_batch(spark, log.stretch(0, range(FAR, FAR + 4))), 0)
    queries = [launch() for launch in write_delta.start(spark, settings, graph)]

    def of_ada() -> set[str]:
        return {name for name, rows in held(settings).items() if any(r[0] == ADA for r in rows)}

    try:
        for query in queries:
            query.processAllAvailable()
        assert of_ada() == set(TABLES)
        log.forget(ADA, FAR + 3)
        for query in queries:
            query.processAllAvailable()
        assert of_ada() == set()
    finally:
        for query in queries:
            query.stop()
