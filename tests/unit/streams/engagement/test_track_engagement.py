"""What is told beyond the rows: totals that another worker counted, and who is quiet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.codec import RecordCodec
from streams.engagement.core.watermark import HEADER, LOGGED, QUIET, read_watermarks
from streams.events.core.batching import Chunk, PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.kafka.placement import partition_of
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
STAGE = "track_engagement"


@pytest.mark.parametrize("moved", [False, True], ids=["killed", "rebalanced"])
def test_totals_that_were_not_sent_before_a_restart_are_sent_after_it(moved: bool) -> None:
    settings = Settings(podstream_home=Path(), event_partitions=2)
    runtime = MemoryRuntime(build_graph(2), settings)
    codec = RecordCodec("user-events", "user_event", runtime.log.registry)
    for stage in ("batch_events", STAGE):
        runtime.start(stage)

    def heard(user: str, minute: int) -> None:
        at = START + timedelta(minutes=minute)
        runtime.clock.set(at.timestamp())
        event = {
            "event_id": f"{user} {minute}",
            "user_id": user,
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": at,
            "heard_ms": 1000,
        }
        runtime.log.append("user-events", codec.encode(event), key=user)

    def totals() -> dict[tuple[int, datetime], int]:
        frames = runtime.log.decoded("engagement-totals")
        return {
            (row["source_partition"], row["bucket"]): row["plays"]
            for frame in frames
            for row in frame.to_dicts()
        }

    heard("ada", 0)
    heard("bob", 0)
    runtime.run()
    heard("ada", 1)
    heard("bob", 1)
    runtime.run(timers=False)  # counted and saved, and not told
    places = {partition_of(user.encode(), 2) for user in ("ada", "bob")}
    assert places == {0, 1}
    assert set(totals()) == {(place, START) for place in places}

    if moved:
        runtime.rebalance(STAGE)
    else:
        runtime.crash(STAGE)
    runtime.run()  # and nobody is heard any more
    minutes = (START, START + timedelta(minutes=1))
    assert totals() == {(place, minute): 1 for place in places for minute in minutes}
    sent = len(runtime.log.records("engagement-totals"))
    runtime.run()
    assert len(runtime.log.records("engagement-totals")) == sent, "once is enough"


def test_that_a_partition_is_quiet_is_told_to_every_reader_of_the_minutes() -> None:
    settings = Settings(podstream_home=Path(), event_partitions=2)
    runtime = MemoryRuntime(build_graph(2), settings)
    runtime.start(STAGE)
    registry = runtime.log.registry
    batcher = PartitionBatcher(
        1, 0, 10, EventDecoder("user-events", registry), Source("", 2, 1_048_588)
    )
    event = {
        "event_id": "1",
        "user_id": "ada",
        "episode_id": "pi:1",
        "kind": "play",
        "occurred_at": START,
        "heard_ms": 1000,
    }
    value = RecordCodec("user-events", "user_event", registry).encode(event)
    log_ms = int(START.timestamp() * 1000) + 5
    for batch in (batcher.batch(Chunk([0], [log_ms], [value])), batcher.quiet(log_ms + 60_000)):
        runtime.log.append(
            "user-event-batches",
            batch.events,
            partition=1,
            headers=tuple(batch.headers().items()),
        )
        runtime.run(timers=False)
    told: dict[int, dict[str, dict[int, int]]] = {0: {}, 1: {}}
    for message in runtime.log.records("engagement-windows"):
        for name in (LOGGED, QUIET):
            told[message.partition][name] = told[message.partition].get(name, {}) | (
                read_watermarks(message.header(name), name)
            )
    assert told[0] == told[1] == {LOGGED: {1: log_ms}, QUIET: {1: log_ms + 60_000}}


def test_the_time_of_what_comes_again_is_not_told_of_what_was_counted_since() -> None:
    settings = Settings(podstream_home=Path(), event_partitions=1)
    runtime = MemoryRuntime(build_graph(1), settings)
    codec = RecordCodec("user-events", "user_event", runtime.log.registry)
    for stage in ("batch_events", STAGE):
        runtime.start(stage)
    for minute in (0, 60):
        at = START + timedelta(minutes=minute)
        runtime.clock.set(at.timestamp())
        event = {
            "event_id": str(minute),
            "user_id": "ada",
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": at,
        }
        runtime.log.append("user-events", codec.encode(event), key="ada")
        runtime.run()
    runtime.crash(STAGE, redeliver=2)
    runtime.run(max_batch=1)
    told = [
        {name: read_watermarks(message.header(name), name) for name in (HEADER, LOGGED)}
        for message in runtime.log.records("engagement-windows")
    ]
    before, after = told[:2], told[2:]
    assert [one[LOGGED] for one in before] == [
        {0: int((START + timedelta(hours=hours)).timestamp() * 1000)} for hours in (0, 1)
    ]
    assert after == [{HEADER: before[1][HEADER], LOGGED: {}}]
