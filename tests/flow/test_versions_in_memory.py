"""A version beside the first counts the same events, and leaves what it reads as it is."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph, dead_letter_name
from topology.settings import Settings
from topology.topics.engagement import ENGAGEMENT_WINDOWS, USER_EPISODE_DAILY
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
PARTITIONS = 3
STAGES = ("batch_events", "track_engagement", "track_listening", "rank_trending")


def river(home: Path, version: str) -> MemoryRuntime:
    settings = Settings(podstream_home=home, event_partitions=PARTITIONS, podstream_version=version)
    runtime = MemoryRuntime(build_graph(PARTITIONS, version), settings)
    runtime.clock.set((START + timedelta(hours=1)).timestamp())
    for stage in STAGES:
        runtime.start(stage)
    return runtime


def write_events(runtime: MemoryRuntime, number: int) -> None:
    """Events in any partition, so that most have to be handed over; and one that is none."""
    chance = random.Random(3)
    for count in range(number):
        event = {
            "event_id": str(count),
            "user_id": f"u{chance.randrange(20)}",
            "episode_id": f"pi:{chance.randrange(5)}",
            "kind": chance.choice(["play", "progress", "impression"]),
            "occurred_at": START + timedelta(seconds=chance.randrange(600)),
            "heard_ms": chance.randrange(90_000),
            "position_ms": 0,
        }
        runtime.log.append(USER_EVENTS.name, event, partition=chance.randrange(PARTITIONS))
    runtime.log.append(USER_EVENTS.name, b"garbage", partition=0)


def newest(runtime: MemoryRuntime, topic: str) -> pl.DataFrame:
    key = ["episode_id", "bucket", "source_partition"]
    rows: pl.DataFrame = pl.concat(runtime.log.decoded(topic)).sort("offset", maintain_order=True)
    return rows.unique(key, keep="last").sort(key)


def test_a_version_counts_what_the_first_has_counted_under_names_of_its_own(
    tmp_path: Path,
) -> None:
    first = river(tmp_path, "")
    write_events(first, 300)
    first.run()
    second = river(tmp_path, "v2")
    for record in first.log.records(USER_EVENTS.name):
        good = record.value != b"garbage"
        second.log.append(
            USER_EVENTS.name,
            first.log.wire.decode(USER_EVENTS.name, record.value) if good else record.value,
            key=record.key,
            partition=record.partition,
            headers=record.headers,
        )
    before = len(second.log.records(USER_EVENTS.name))
    assert before > 301  # some were handed over
    second.run()
    assert len(second.log.records(USER_EVENTS.name)) == before

    named = second.log.graph.topic
    windows = newest(second, named(ENGAGEMENT_WINDOWS).name)
    assert windows["plays"].sum() > 0
    assert_frame_equal(windows, newest(first, ENGAGEMENT_WINDOWS.name))
    assert len(second.log.records(named(USER_EVENT_BATCHES).name)) > 0
    daily = pl.concat(second.log.decoded(named(USER_EPISODE_DAILY).name))
    firsts = pl.concat(first.log.decoded(USER_EPISODE_DAILY.name))
    assert daily["heard_ms"].sum() == firsts["heard_ms"].sum()
    (dead,) = second.log.records(dead_letter_name(USER_EVENTS.name, "v2"))
    assert dead.value == b"garbage"


def test_a_version_goes_on_after_a_kill(tmp_path: Path) -> None:
    runtime = river(tmp_path, "v2")
    write_events(runtime, 100)  # nobody hands over here: what lies elsewhere is not counted
    runtime.run()
    topic = runtime.log.graph.topic(ENGAGEMENT_WINDOWS).name
    before = newest(runtime, topic)
    for stage in STAGES:
        runtime.crash(stage, redeliver=5)
    runtime.run()
    assert_frame_equal(newest(runtime, topic), before)
