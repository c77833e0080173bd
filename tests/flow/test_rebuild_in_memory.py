"""The live tables folded anew agree with the live ones, whatever the baseline; and only then."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from schemas.registry import FixedRegistry
from streams.engagement.core.engagement import Engagement
from streams.events.batch_in_memory import TOPIC_ID, to_chunk
from streams.events.core.batching import PartitionBatcher, accounted_to
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.operations.core import rebuild
from streams.operations.core.rebuild import Comparison, LiveDaily, Rebuilt, Replay
from streams.runtime.in_memory import MemoryRuntime
from streams.serving.core.documents import merge_windows, newest_rows
from topology.graph import build_graph, declared_subjects
from topology.settings import Settings

NOW = datetime(2026, 1, 31, 23, 58, tzinfo=UTC)
KINDS = ["impression", "click", "play", "progress", "complete", "like", "dislike"]
GRAPH = build_graph(4)
EVENTS, WINDOWS, DAILY = "user-events", "engagement-windows", "user-episode-daily"


def feed(runtime: MemoryRuntime, chance: random.Random, number: int, seed: int) -> None:
    """Events across midnight, every tenth one twice, some garbage among them."""
    for index in range(number):
        user = f"u{chance.randrange(12)}"
        event = {
            "event_id": f"{seed}-{index}",
            "user_id": user,
            "episode_id": f"pi:{chance.randrange(5)}",
            "kind": chance.choice(KINDS),
            "occurred_at": NOW + timedelta(seconds=chance.randrange(300)),
            "heard_ms": chance.randrange(60_000),
            "position_ms": 0,
        }
        for _ in range(2 if index % 10 == 0 else 1):
            runtime.log.append(EVENTS, event, key=user)
        if index % 25 == 0:
            runtime.log.append(EVENTS, b"garbage", key=user)


@pytest.fixture
def runtime(podstream_home: Path) -> MemoryRuntime:
    runtime = MemoryRuntime(GRAPH, Settings(podstream_home=podstream_home))
    runtime.clock.set(NOW.timestamp() + 3600)
    for stage in ("batch_events", "track_engagement", "track_listening"):
        runtime.start(stage)
    return runtime


def baselines_of(runtime: MemoryRuntime) -> dict[int, int]:
    baselines = dict.fromkeys(range(4), -1)
    for message in runtime.log.records("user-event-batches"):
        baselines[message.partition] = accounted_to(message.headers) - 1
    return baselines


def replay(runtime: MemoryRuntime, baselines: dict[int, int], chunk: int) -> Rebuilt:
    decoder = EventDecoder(EVENTS, FixedRegistry(declared_subjects(GRAPH)))
    replays = []
    for partition, baseline in baselines.items():
        batcher = PartitionBatcher(partition, 0, 100_000, decoder, Source(TOPIC_ID, 4, 1_048_588))
        one = Replay(batcher, Engagement(900_000), baseline, until=2**40)
        messages = runtime.log.read(EVENTS, partition, 0, 10**6)
        for start in range(0, len(messages), chunk):
            one.feed(to_chunk(messages[start : start + chunk]))
        replays.append(one)
    return Rebuilt.of(replays)


def live_tables(runtime: MemoryRuntime) -> tuple[pl.DataFrame, LiveDaily]:
    newest, daily = rebuild.newest_sum(), LiveDaily()
    for rows in runtime.log.decoded(WINDOWS):
        newest.put(rows)
    for rows in runtime.log.decoded(DAILY):
        daily.apply(rows)
    return newest.total(), daily


def compared(
    runtime: MemoryRuntime, baselines: dict[int, int], chunk: int = 37
) -> list[Comparison]:
    rebuilt = replay(runtime, baselines, chunk)
    parts, daily = live_tables(runtime)
    documents = merge_windows({}, newest_rows(parts))
    served, moving = rebuilt.parts_at(rebuild.document_parts(documents))
    ours, changing = rebuilt.parts_at(parts)
    return [
        rebuild.compare(
            WINDOWS,
            rebuild.windows(ours),
            rebuild.without(rebuild.windows(parts), changing),
            rebuild.WINDOW_KEY,
        ),
        rebuild.compare(
            "served",
            rebuild.windows(served),
            rebuild.without(rebuild.document_windows(documents), moving),
            rebuild.WINDOW_KEY,
        ),
        rebuild.compare(DAILY, rebuilt.daily_at(daily.reached), daily.rows(), rebuild.DAILY_KEY),
    ]


@pytest.mark.parametrize("chunk", [1, 37, 10_000])
def test_both_sides_agree_however_the_log_is_cut(runtime: MemoryRuntime, chunk: int) -> None:
    feed(runtime, random.Random(1), 300, seed=1)
    runtime.run(max_batch=50)
    runtime.crash("track_engagement", redeliver=3)
    runtime.crash("track_listening", redeliver=3)
    runtime.run()
    comparisons = compared(runtime, baselines_of(runtime), chunk)
    assert [c.differences for c in comparisons] == [[], [], []]
    assert all(c.agrees and c.rows for c in comparisons)
    parts, daily = live_tables(runtime)
    assert parts["heard_ms"].sum() == daily.rows()["heard_ms"].sum() > 0


def test_events_that_come_while_it_runs_make_no_difference(runtime: MemoryRuntime) -> None:
    chance = random.Random(2)
    feed(runtime, chance, 200, seed=1)
    runtime.run(max_batch=40)
    baselines = baselines_of(runtime)
    feed(runtime, chance, 200, seed=2)
    runtime.run(max_batch=40)  # the live tables move on after the baseline was taken
    feed(runtime, chance, 50, seed=3)  # and the log after what they have counted
    assert all(c.agrees for c in compared(runtime, baselines))


def test_a_wrong_count_is_found_by_its_key(runtime: MemoryRuntime) -> None:
    feed(runtime, random.Random(3), 200, seed=1)
    runtime.run()
    message = runtime.log.records(WINDOWS)[-1]
    row = runtime.log.wire.decode(WINDOWS, message.value).head(1)
    wrong = row.with_columns(pl.col("plays") + 1)
    runtime.log.append(WINDOWS, wrong, partition=message.partition)
    windows, served, daily = compared(runtime, baselines_of(runtime))
    assert daily.agrees
    assert not windows.agrees
    assert not served.agrees
    (difference,) = windows.differences
    assert difference.key == {"episode_id": row["episode_id"][0], "bucket": row["bucket"][0]}
    assert difference.rebuilt is not None
    assert difference.live is not None
    assert difference.live["plays"] == difference.rebuilt["plays"] + 1  # type: ignore[operator]


def test_an_amount_that_was_lost_is_found(runtime: MemoryRuntime) -> None:
    feed(runtime, random.Random(4), 200, seed=1)
    runtime.run(max_batch=20)
    baselines = baselines_of(runtime)
    dropped = runtime.log._records[DAILY][2].pop(0)
    lost = runtime.log.wire.decode(DAILY, dropped.value)
    windows, _, daily = compared(runtime, baselines)
    assert windows.agrees
    assert not daily.agrees
    users = {difference.key["user_id"] for difference in daily.differences}
    assert users <= set(lost["user_id"])


def test_an_amount_counted_twice_is_found(runtime: MemoryRuntime) -> None:
    feed(runtime, random.Random(5), 100, seed=1)
    runtime.run()
    again = runtime.log.decoded(DAILY)[-1]
    later = again.with_columns(pl.col("last_offset") + 1)  # as if its offsets were new ones
    partition = again["source_partition"][0]
    runtime.log.append(DAILY, later, partition=partition)
    assert not compared(runtime, baselines_of(runtime))[2].agrees
    runtime.log.append(DAILY, again, partition=partition)  # a plain repeat is none
    assert len(compared(runtime, baselines_of(runtime))[2].differences) <= 10


def test_tables_that_lag_behind_the_baseline_are_found(runtime: MemoryRuntime) -> None:
    feed(runtime, random.Random(6), 100, seed=1)
    runtime.run()
    feed(runtime, random.Random(7), 100, seed=2)
    ends = {p: len(runtime.log.read(EVENTS, p, 0, 10**6)) - 1 for p in range(4)}
    assert not any(c.agrees for c in compared(runtime, ends))


def test_an_empty_log_agrees_with_empty_tables(runtime: MemoryRuntime) -> None:
    comparisons = compared(runtime, dict.fromkeys(range(4), -1))
    assert all(c.agrees and c.rows == 0 for c in comparisons)
