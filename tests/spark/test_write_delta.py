"""Micro-batches into real Delta tables: every mode, every kind of repeat, garbage."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from jobs import fencing, write_delta
from jobs.core.facts import FACTS
from jobs.fencing import FencedError, WriterEpoch
from jobs.gaps import GapError, check_gaps
from jobs.housekeeping import Housekeeping
from jobs.kafka_source import checkpoint, read_topics
from jobs.write_delta import TableWriter, row_type, table_path
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.purge import commit, committed
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.operations.replay import History
from streams.transcripts.core.analysis.record import analyse
from topology.access import admin_client
from topology.graph import app_id, dead_letter_name
from topology.model import Graph
from topology.settings import Settings

pytestmark = [pytest.mark.spark, pytest.mark.broker]

DAY = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
Place = tuple[str, int, int, bytes | None]


@pytest.fixture
def wire(settings: Settings, graph: Graph) -> Wire:
    return Wire(graph, open_registry(settings))


@pytest.fixture
def tables(spark: SparkSession, settings: Settings, graph: Graph) -> Settings:
    write_delta.create_tables(graph, settings)
    return settings


def micro_batch(spark: SparkSession, places: list[Place], key: bytes = b"") -> DataFrame:
    """What Spark's Kafka source would give, in the order of the log."""
    schema = "topic string, partition int, offset bigint, value binary, key binary"
    return spark.createDataFrame([(*place, key) for place in places], schema).coalesce(1)


def rows(settings: Settings, table: str) -> pl.DataFrame:
    """A table as delta-rs reads it: what the dashboard and DuckDB see."""
    return pl.DataFrame(pl.from_arrow(DeltaTable(table_path(settings, table)).to_pyarrow_table()))


def version(settings: Settings, table: str) -> int:
    return DeltaTable(table_path(settings, table)).version()


def events(partition: int, offsets: range, days: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "partition": partition,
            "offset": list(offsets),
            "event_id": [f"{partition}-{n}" for n in offsets],
            "user_id": "u",
            "episode_id": "e",
            "kind": "progress",
            "occurred_at": [DAY + dt.timedelta(days=n % days) for n in offsets],
            "heard_ms": 1000,
            "position_ms": 0,
            "duration_ms": 60_000,
            "logged_at": DAY,
            **dict.fromkeys(("session_id", "surface", "rank", "arm", "user_agent", "generation")),
        },
        schema_overrides={"partition": pl.Int32, "occurred_at": pl.Datetime("ms", "UTC")},
    )


def increments(
    partition: int, last: int, heard_ms: int, duration_ms: int = 0, **keys: Any
) -> pl.DataFrame:
    row = {"user_id": "u", "episode_id": "e", "day": DAY.date(), **keys}
    counts = dict.fromkeys(("impressions", "clicks", "plays", "completes", "likes", "dislikes"), 1)
    position = {"source_partition": partition, "first_offset": last - 9, "last_offset": last}
    at = DAY + dt.timedelta(seconds=last)
    amounts = {**counts, "heard_ms": heard_ms, "duration_ms": duration_ms}
    return pl.DataFrame([{**row, **position, **amounts, "first_at": at, "last_at": at}])


def test_tables_are_created_as_declared_and_readable_outside_spark(
    tables: Settings, graph: Graph
) -> None:
    for name, declared in graph.delta_tables.items():
        table = DeltaTable(table_path(tables, name))
        assert [field.name for field in table.schema().fields] == [
            column.name for column in declared.columns
        ]
        assert table.metadata().partition_columns == list(declared.partition_by)
        assert table.protocol().reader_features in (None, [])
        assert table.schema().fields[0].metadata["comment"] == declared.columns[0].doc
        assert rows(tables, name).is_empty()


def test_events_are_appended_once_however_they_are_cut_again(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    topic = "user-event-batches"
    writer = TableWriter(tables, graph, [topic])

    def messages(*cuts: range) -> list[Place]:
        return [(topic, 1, n, wire.encode(topic, events(1, cut))) for n, cut in enumerate(cuts)]

    first = messages(range(0, 50), range(30, 80), range(80, 90))
    writer(micro_batch(spark, first), 0)
    assert sorted(rows(tables, "user_events")["source_offset"]) == list(range(90))
    before = version(tables, "user_events")
    writer(micro_batch(spark, first), 0)  # foreachBatch again, same process
    assert version(tables, "user_events") == before
    restarted = TableWriter(tables, graph, [topic])
    before = version(tables, "user_events")
    restarted(micro_batch(spark, first), 0)  # and again, after a crash
    assert version(tables, "user_events") == before
    restarted(micro_batch(spark, messages(range(60, 100))), 1)
    written = rows(tables, "user_events")
    assert sorted(written["source_offset"]) == list(range(100))
    assert written["event_date"].unique().to_list() == [DAY.date()]
    assert written["heard_ms"].sum() == 100_000
    assert written["duration_ms"].unique().to_list() == [60_000]
    assert written["logged_at"].unique().to_list() == [DAY]


def test_the_newest_analysis_of_an_episode_replaces_the_others(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    topic = "episode-analysis"
    spoken = "This show is brought to you by Acme. Use code ROSES for bread. Sourdough bread! " * 9
    transcript = {"episode_id": "e", "status": "ok", "language": "en", "segments": []}
    found = [analyse({**transcript, "text": text}) for text in (spoken, spoken + "Bread, bread.")]
    writer = TableWriter(tables, graph, [topic])
    places: list[Place] = [
        (topic, 0, n, wire.encode(topic, record)) for n, record in enumerate(found) if record
    ]
    for repeat in range(2):
        writer(micro_batch(spark, places), repeat)
        (row,) = rows(tables, "episode_analysis").to_dicts()
        assert row == {name: value for name, value in (found[1] or {}).items() if name in row}
        assert {"keywords", "sponsors", "readability"} < row.keys()


def test_topics_and_duplicates_of_episodes_are_the_newest(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    similar = [{"episode_id": "f", "similarity": 0.9}]
    group = {"topic_id": "t", "size": 1, "centroid": b"1234", "model": "m"}
    told: dict[str, list[dict[str, Any]]] = {
        "episode-duplicates": [
            {"episode_id": "e", "duplicate_of": "f", "similar": similar},
            {"episode_id": "e", "duplicate_of": None, "similar": []},
        ],
        "episode-topics": [
            {"episode_id": "e", "topic_id": topic, "score": 0.5, "model": "m"} for topic in "st"
        ],
        "topics": [{**group, "label": label} for label in ("bread", "bread, yeast")],
    }
    writer = TableWriter(tables, graph, list(told))
    places: list[Place] = [
        (topic, 0, n, wire.encode(topic, record))
        for topic, records in told.items()
        for n, record in enumerate(records)
    ]
    writer(micro_batch(spark, places), 0)
    for topic, records in told.items():
        (row,) = rows(tables, FACTS[topic].table).to_dicts()
        assert row == {name: value for name, value in records[-1].items() if name in row}
        assert len(row) >= 3


@pytest.mark.parametrize("topic", ["episode-topics", "topics", "episode-duplicates"])
def test_what_is_no_more_leaves_the_tables_of_how_things_are_now(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire, topic: str
) -> None:
    records: dict[str, dict[str, Any]] = {
        "episode-topics": {"episode_id": "e", "topic_id": "t", "score": 0.5, "model": "m"},
        "topics": {"topic_id": "e", "size": 1, "centroid": b"1234", "model": "m", "label": "x"},
        "episode-duplicates": {"episode_id": "e", "duplicate_of": None, "similar": []},
    }
    writer, value = TableWriter(tables, graph, [topic]), wire.encode(topic, records[topic])
    histories: list[list[bytes | None]]
    histories = [[value], [value, None], [value], [None], [None], [None, value]]
    for first, values in enumerate(histories):
        places: list[Place] = [(topic, 0, 2 * first + n, found) for n, found in enumerate(values)]
        for _ in range(2):
            writer(micro_batch(spark, places, b"e"), 0)
            assert len(rows(tables, FACTS[topic].table)) == (values[-1] is not None)


def test_daily_amounts_add_up_once(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    topic, table = "user-episode-daily", "user_vs_episode_daily"
    writer = TableWriter(tables, graph, [topic])
    told = ((9, 100, 0), (19, 20, 200), (29, 3, 164))
    parts = [increments(0, *each) for each in told]
    other = increments(1, 5, 7000, user_id="v")
    places = [(topic, 0, n, wire.encode(topic, part)) for n, part in enumerate(parts)]
    writer(micro_batch(spark, [*places[:2], (topic, 1, 0, wire.encode(topic, other))]), 0)
    again = micro_batch(spark, [places[1], places[0], places[1], places[2]])
    for restart in (False, True):
        if restart:
            writer = TableWriter(tables, graph, [topic])
        writer(again, 1)
        got = {row["user_id"]: row for row in rows(tables, table).to_dicts()}
        assert (got["u"]["heard_ms"], got["u"]["plays"]) == (123, 3)
        assert (got["u"]["applied_offset"], got["u"]["source_partition"]) == (29, 0)
        assert got["u"]["first_at"] == DAY + dt.timedelta(seconds=9)
        assert got["u"]["last_at"] == DAY + dt.timedelta(seconds=29)
        assert (got["u"]["duration_ms"], got["u"]["share"]) == (200, 123 / 200)
        assert (got["v"]["heard_ms"], got["v"]["share"]) == (7000, None)
        assert len(got) == 2


@pytest.mark.parametrize("few", [write_delta.FEW_ROWS, 0], ids=["delta-rs", "Spark"])
def test_a_writer_that_another_one_has_followed_writes_nothing_more(
    spark: SparkSession,
    tables: Settings,
    graph: Graph,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    monkeypatch.setattr(write_delta, "FEW_ROWS", few)
    events_topic, daily_topic = "user-event-batches", "user-episode-daily"
    of_topic = {
        events_topic: [wire.encode(events_topic, events(0, range(n, n + 5))) for n in (0, 5, 10)],
        daily_topic: [wire.encode(daily_topic, increments(0, n, 100)) for n in (9, 19, 29)],
    }
    for topic, (first, second, third) in of_topic.items():
        table = FACTS[topic].table
        earlier = TableWriter(tables, graph, [topic])
        earlier(micro_batch(spark, [(topic, 0, 0, first)]), 0)
        later = TableWriter(tables, graph, [topic])
        before = rows(tables, table)
        with pytest.raises(FencedError, match="has taken over"):
            earlier(micro_batch(spark, [(topic, 0, 1, second)]), 1)
        assert rows(tables, table).equals(before)
        later(micro_batch(spark, [(topic, 0, 1, second)]), 1)
        later(micro_batch(spark, [(topic, 0, 2, third)]), 2)
        with pytest.raises(FencedError, match="has taken over"):
            earlier(micro_batch(spark, [(topic, 0, 1, second), (topic, 0, 2, third)]), 1)
    assert sorted(rows(tables, "user_events")["source_offset"]) == list(range(15))
    assert rows(tables, "user_vs_episode_daily")["heard_ms"].to_list() == [300]


def test_of_two_writers_at_the_same_moment_one_commits(
    tables: Settings, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked and found the table theirs: the commit itself tells."""
    path = table_path(tables, "episode_topics")
    row = pa.table({"episode_id": ["e"], "topic_id": ["t"], "score": [0.5], "model": ["m"]})
    row = row.cast(to_arrow_schema(row_type(graph.delta_tables["episode_topics"])))
    earlier, later = WriterEpoch(path), WriterEpoch(path)
    stale = DeltaTable(path, version=DeltaTable(path).version() - 1)
    monkeypatch.setattr(fencing, "DeltaLog", lambda _: stale)
    with pytest.raises((FencedError, CommitFailedError)):
        earlier.append(row)
    with pytest.raises(FencedError):
        WriterEpoch(path)
    monkeypatch.undo()
    assert rows(tables, "episode_topics").is_empty()
    later.append(row)
    assert rows(tables, "episode_topics").height == 1


def test_records_that_are_gone_unread_are_told(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire, tmp_path: Path
) -> None:
    mine = tables.model_copy(update={"checkpoint_root": str(tmp_path)})
    stage, kept = graph.stages[write_delta.STAGE], "episode-days"
    sender = producer(tables.kafka_bootstrap_servers)

    def send() -> None:
        sender.produce(kept, wire.encode(kept, day_rows(0, True)), b"e", partition=0)
        assert sender.flush(30) == 0

    def read() -> None:
        query = (
            read_topics(spark, mine, stage, [kept], 1_000)
            .writeStream.foreachBatch(lambda *_: None)
            .option("checkpointLocation", str(tmp_path / PROBE))
            .start()
        )
        try:
            query.processAllAvailable()
        finally:
            query.stop()

    probed = {kept: History(table_path(mine, FACTS[kept].table), f"{tmp_path}/{PROBE}")}
    check_gaps(mine, graph, probed)  # before there is a checkpoint
    send()
    read()
    check_gaps(mine, graph, probed)
    send()
    with LogTail(tables.kafka_bootstrap_servers, [kept]) as tail:
        place = TopicPartition(kept, 0, tail.ends(kept)[0])
    admin = admin_client(tables.kafka_bootstrap_servers)
    for future in admin.delete_records([place]).values():
        future.result(30)
    with pytest.raises(GapError, match=r"episode-days\[0\] begins at") as caught:
        check_gaps(mine, graph, probed)
    assert "1 records are gone" in str(caught.value)
    assert "`podstream replay track_engagement`" in str(caught.value)


def test_a_lost_checkpoint_is_told_where_the_table_lacks_what_is_gone(
    spark: SparkSession, settings: Settings, graph: Graph, wire: Wire, tmp_path: Path
) -> None:
    roots = {"delta_root": f"{tmp_path}/tables", "checkpoint_root": f"{tmp_path}/checkpoints"}
    mine, topic = settings.model_copy(update=roots), "user-episode-daily"
    write_delta.create_tables(graph, mine)
    history = {topic: write_delta.histories(mine, graph)[topic]}
    group = app_id(graph.stages[write_delta.STAGE])
    commit(mine, group, {topic: {0: 0, 1: 0}})  # other tests' queries have read as well
    value = wire.encode(topic, increments(1, 9, 1000))
    sender = producer(mine.kafka_bootstrap_servers)
    sender.produce(topic, value, b"e", partition=1)
    assert sender.flush(30) == 0
    check_gaps(mine, graph, history)
    with LogTail(mine.kafka_bootstrap_servers, [topic]) as tail:
        end = tail.ends(topic)[1]
    admin = admin_client(mine.kafka_bootstrap_servers)
    for future in admin.delete_records([TopicPartition(topic, 1, end)]).values():
        future.result(30)
    check_gaps(mine, graph, history)  # no query has ever read it
    commit(mine, group, {topic: {1: end}})
    with pytest.raises(GapError, match=rf"daily\[1\] begins at {end}, .* has no checkpoint"):
        check_gaps(mine, graph, history)
    TableWriter(mine, graph, [topic])(micro_batch(spark, [(topic, 1, 0, value)]), 0)
    check_gaps(mine, graph, history)
    table = history[topic].table
    WriterEpoch(table).delete("user_id = 'u'", {"podstream.forgotten.1": 1})
    assert rows(mine, FACTS[topic].table).is_empty()
    check_gaps(mine, graph, history)  # everybody who was there is forgotten


def test_tables_of_another_log_are_refused(tables: Settings) -> None:
    path = table_path(tables, "user_events")
    for _ in range(2):
        fencing.bind(path, "one log")
    with pytest.raises(fencing.ForeignTableError, match="another log of events"):
        fencing.bind(path, "another log")


def test_tables_of_an_older_instance_gain_the_new_columns(
    spark: SparkSession, settings: Settings, graph: Graph, wire: Wire
) -> None:
    new = {
        "user_events": ["duration_ms", "logged_at"],
        "user_vs_episode_daily": ["duration_ms", "share"],
    }
    events_topic, daily_topic = "user-event-batches", "user-episode-daily"
    write_delta.create_tables(graph, settings)
    old = {"user_events": events(0, range(5)), "user_vs_episode_daily": increments(0, 9, 100)}
    writer = TableWriter(settings, graph, [events_topic, daily_topic])
    writer(
        micro_batch(
            spark,
            [
                (events_topic, 0, 0, wire.encode(events_topic, old["user_events"])),
                (daily_topic, 0, 0, wire.encode(daily_topic, old["user_vs_episode_daily"])),
            ],
        ),
        0,
    )
    for table, columns in new.items():
        path = table_path(settings, table)
        kept = rows(settings, table).drop(columns)
        write_deltalake(path, kept, mode="overwrite", schema_mode="overwrite")
        assert not set(columns) & set(rows(settings, table).columns)

    write_delta.create_tables(graph, settings)
    before = {table: version(settings, table) for table in new}
    write_delta.create_tables(graph, settings)
    assert {table: version(settings, table) for table in new} == before
    for table, columns in new.items():
        assert (
            rows(settings, table)[columns].null_count().row(0)
            == (rows(settings, table).height,) * 2
        )
    writer = TableWriter(settings, graph, [events_topic, daily_topic])
    more = increments(0, 19, 20, duration_ms=200)
    writer(
        micro_batch(
            spark,
            [
                (events_topic, 0, 1, wire.encode(events_topic, events(0, range(3, 8)))),
                (daily_topic, 0, 1, wire.encode(daily_topic, more)),
            ],
        ),
        1,
    )
    written = rows(settings, "user_events").sort("source_offset")
    assert written["source_offset"].to_list() == list(range(8))
    assert written["duration_ms"].to_list() == [None] * 5 + [60_000] * 3
    (day,) = rows(settings, "user_vs_episode_daily").to_dicts()
    assert (day["heard_ms"], day["duration_ms"], day["share"]) == (120, 200, 0.6)


def test_settled_facts_are_written_once(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    writer = TableWriter(tables, graph, SETTLED)
    minutes = [wire.encode("engagement-history", minute_of(n)) for n in range(3)]
    sessions = [
        wire.encode("listening-sessions", sessions_closed_by(*cut)) for cut in ((4, 4, 6), (6, 9))
    ]
    days = [
        wire.encode("episode-days", day_rows(n, final))
        for n, final in ((0, False), (0, True), (1, True))
    ]
    curves = [
        wire.encode("episode-retention", curve(n, final))
        for n, final in ((0, False), (0, True), (0, True))
    ]
    first = [
        *(("engagement-history", 0, n, minutes[n]) for n in (0, 1)),
        ("engagement-history", 1, 0, wire.encode("engagement-history", minute_of(0, partition=1))),
        ("listening-sessions", 0, 0, sessions[0]),
        *(("episode-days", 0, n, days[n]) for n in (0, 1)),
        *(("episode-retention", 0, n, curves[n]) for n in (0, 1)),
    ]
    again = [
        *(("engagement-history", 0, 2 + n, value) for n, value in enumerate(minutes)),
        *(("listening-sessions", 0, 1 + n, value) for n, value in enumerate(sessions)),
        *(("episode-days", 0, 2 + n, value) for n, value in enumerate(days[1:])),
        ("episode-retention", 0, 2, curves[2]),
    ]
    writer(micro_batch(spark, first), 0)
    for restart in (False, True):
        if restart:
            writer = TableWriter(tables, graph, SETTLED)
        writer(micro_batch(spark, again), 1)
        written = rows(tables, "engagement_minutes").sort("source_partition", "bucket")
        assert written["bucket"].to_list() == [noon(n) for n in (0, 1, 2, 0)]
        assert (written["new_listeners"].sum(), written["heard_ms"].sum()) == (4, 400)
        assert written["event_date"].unique().to_list() == [DAY.date()]
        closed = rows(tables, "listening_sessions")["closed_offset"]
        assert sorted(closed) == [4, 4, 6, 9]
        finished = rows(tables, "episode_daily").sort("day")
        assert finished["day"].to_list() == [DAY.date(), DAY.date() + dt.timedelta(days=1)]
        assert finished["downloads"].to_list() == [7, 7]
        heard = rows(tables, "episode_retention").sort("minute")
        assert heard["listeners"].to_list() == [2, 1]


PROBE = f"{write_delta.STAGE}/probe"
SETTLED = [topic for topic, facts in FACTS.items() if facts.pace == "settled"]
COUNTS = ("impressions", "clicks", "plays", "completes", "streams", "engaged")


def noon(minutes: int) -> dt.datetime:
    return DAY + dt.timedelta(minutes=minutes)


def minute_of(number: int, partition: int = 0) -> pl.DataFrame:
    counts = dict.fromkeys((*COUNTS, "listeners", "new_listeners"), 1)
    place = {"episode_id": "e", "bucket": noon(number), "source_partition": partition, "offset": 3}
    return pl.DataFrame([{**place, **counts, "heard_ms": 100}])


def sessions_closed_by(*offsets: int) -> pl.DataFrame:
    counts = dict.fromkeys(("events", "plays", "completes", "heard_ms"), 1)
    times = {"started_at": DAY, "ended_at": DAY, "source_partition": 0}
    return pl.DataFrame([{"user_id": f"u{n}", "offset": n, **times, **counts} for n in offsets])


def day_rows(number: int, final: bool) -> pl.DataFrame:
    day = DAY.date() + dt.timedelta(days=number)
    row = {"episode_id": "e", "day": day, "source_partition": 0, "offset": 3, "final": final}
    return pl.DataFrame([{**row, **dict.fromkeys(COUNTS, 1), "heard_ms": 5, "downloads": 7}])


def curve(number: int, final: bool) -> pl.DataFrame:
    day = DAY.date() + dt.timedelta(days=number)
    row = {"episode_id": "e", "day": day, "source_partition": 0, "offset": 3, "final": final}
    heard = ((0, 2), (1, 1)) if final else ((0, 1),)
    return pl.DataFrame([{**row, "minute": minute, "listeners": n} for minute, n in heard])


def test_records_garbage_and_tombstones(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    topics = [topic for topic in FACTS if graph.topics[topic].format == "avro"]
    writer = TableWriter(tables, graph, topics)

    def episode(title: str) -> bytes | None:
        return wire.encode(
            "episode-metadata",
            {"episode_id": "x:1", "title": title, "show_id": "s", "show_title": "S",
             "categories": ["Science"], "published_at": DAY, "source": "rss"},
        )  # fmt: skip

    transcript = {"episode_id": "x:1", "status": "ok", "text": "three plain words"}
    item = {"episode_id": "x:1", "title": "T", "show": "S", "score": 0.5, "reason": "new",
            "parts": {"als": 0.1, "content": 0.2, "trending": 0.3}}  # fmt: skip
    shown = {"user_id": "u", "generation": "g", "updated_at": DAY, "caused_by": "c",
             "source_partition": 0, "offset": 4, "items": [item]}  # fmt: skip
    metric = {"model": "als", "generation": "g", "metric": "m", "value": 1.5, "at": DAY}
    settings = tables
    bad = b"\x01 not a frame"
    sender = producer(settings.kafka_bootstrap_servers)
    placed: list[int] = []
    sender.produce(
        "episode-metadata", bad, b"a key", headers=[("mine", b"kept")], partition=0,
        on_delivery=lambda error, message: placed.append(message.offset() or 0),
    )  # fmt: skip
    sender.flush(30)
    batch = micro_batch(
        spark,
        [
            ("episode-metadata", 0, 1, episode("old")),
            ("episode-metadata", 0, placed[0], bad),
            ("episode-metadata", 0, 2, episode("new")),
            ("episode-metadata", 0, 3, None),
            ("episode-transcripts", 1, 0, wire.encode("episode-transcripts", transcript)),
            ("recommendations", 1, 0, wire.encode("recommendations", shown)),
            ("recommendations", 0, 0, wire.encode("recommendations", shown)),
            ("model-metrics", 0, 0, wire.encode("model-metrics", metric)),
        ],
    )
    for _ in range(2):
        writer(batch, 0)
        assert rows(settings, "episodes")["title"].to_list() == ["new"]
        assert rows(settings, "episodes")["published_at"].to_list() == [DAY]
        assert rows(settings, "transcripts")["words"].to_list() == [3]
        history = rows(settings, "recommendations_history")
        assert len(history) == 2
        assert history["items"][0][0]["content"] == 0.2
        assert rows(settings, "model_metrics")["value"].to_list() == [1.5]
    reader = LogTail(settings.kafka_bootstrap_servers, [dead_letter_name("episode-metadata")])
    dead: list[Any] = []
    reader.read_to_end(dead.extend)
    reader.close()
    assert {(m.value, m.key, m.header("mine")) for m in dead} == {(bad, b"a key", b"kept")}
    assert dead[0].header("__connect.errors.offset") == str(placed[0]).encode()
    assert b"frame" in (dead[0].header("__connect.errors.exception.message") or b"")


def test_history_of_many_days_is_one_file_a_day(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    topic = "user-event-batches"
    batch = [(topic, 0, 0, wire.encode(topic, events(0, range(12_000), days=60)))]
    TableWriter(tables, graph, [topic])(micro_batch(spark, batch), 0)
    table = DeltaTable(table_path(tables, "user_events"))
    assert len(table.file_uris()) == 60
    assert len(rows(tables, "user_events")) == 12_000


def test_progress_is_told_to_the_groups_of_the_stages(
    spark: SparkSession, tables: Settings, graph: Graph, wire: Wire
) -> None:
    """Derived topics are purged behind it: nothing before it may be read again."""
    topic = graph.topics["episode-topics"]
    record = {"episode_id": "e", "topic_id": "t", "score": 0.5, "model": "m"}
    with LogTail(tables.kafka_bootstrap_servers, [topic.name]) as tail:
        before = tail.ends(topic.name)  # other tests write to it as well
    sender = producer(tables.kafka_bootstrap_servers)
    for partition in (0, 0, 1):
        sender.produce(topic.name, wire.encode(topic.name, record), b"e", partition=partition)
    assert sender.flush(30) == 0
    stage = graph.stages[write_delta.STAGE]
    query = (
        read_topics(spark, tables, stage, [topic.name], 100)
        .writeStream.queryName(f"{stage.name}.probe")
        .foreachBatch(lambda *_: None)
        .option("checkpointLocation", checkpoint(tables, stage, "probe"))
        .start()
    )
    try:
        query.processAllAvailable()
        Housekeeping(tables, graph).run([query])
    finally:
        query.stop()
    reached = committed(tables, app_id(stage), topic)
    assert reached == before | {0: before[0] + 2, 1: before[1] + 1}
