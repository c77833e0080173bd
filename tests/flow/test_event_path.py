"""The event path in memory: garbage beside good records, and rankings as a reader has them.

What the tables must say of any log is in `test_live_tables`.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streams.engagement.core.trending import ALL, merge_scopes
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

START = datetime(2026, 1, 1, 23, 57, tzinfo=UTC)
KINDS = ("impression", "click", "play", "complete", "progress", "like", "dislike")
TRACKERS = ("track_engagement", "track_listening", "rank_trending")


@pytest.fixture
def runtime(tmp_path: Path) -> MemoryRuntime:
    settings = Settings(podstream_home=tmp_path, event_partitions=3)
    runtime = MemoryRuntime(build_graph(3), settings)
    runtime.clock.set((START + timedelta(hours=1)).timestamp())
    for stage in ("batch_events", *TRACKERS):
        runtime.start(stage)
    for number in range(8):
        category = "Tv" if number % 2 else "News"
        episode = {
            "episode_id": f"pi:{number}",
            "title": f"Episode {number}",
            "show_id": "pi:show",
            "show_title": "Show",
            "categories": [category],
            "source": "import",
        }
        runtime.log.append("episode-metadata", episode, key=f"pi:{number}")
    return runtime


def events(number: int, seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "event_id": f"e{seed}-{n}",
            "user_id": f"u{chance.randrange(6)}",
            "episode_id": f"pi:{chance.randrange(8)}",
            "kind": chance.choice(KINDS),
            "occurred_at": START + timedelta(milliseconds=chance.randrange(6 * 60_000)),
            "heard_ms": chance.randrange(60_000),
        }
        for n in range(number)
    ]


def write(runtime: MemoryRuntime, log: list[dict[str, Any]]) -> None:
    for event in log:
        runtime.log.append("user-events", event, key=event["user_id"])


def ranking(runtime: MemoryRuntime, scope: str) -> list[dict[str, Any]]:
    records = runtime.log.decoded("trending-episodes")
    return merge_scopes(record for record in records if record["scope"] == scope)


def test_garbage_is_put_aside_and_everything_read_is_somewhere(runtime: MemoryRuntime) -> None:
    log = events(50, seed=2)
    write(runtime, log[:25])
    runtime.log.append("user-events", b"garbage", key="u1", headers=(("trace", b"7"),))
    write(runtime, log[25:])
    runtime.run()
    runtime.log.append("user-event-batches", b"no batch", partition=0)
    runtime.run()
    (dead,) = runtime.log.records("user-events.dlq")
    assert (dead.value, dead.key, dead.header("trace")) == (b"garbage", b"u1", b"7")
    assert sum(frame.height for frame in _batches(runtime)) == 50
    # Each stage that could not use it says so.
    verdicts = runtime.log.records("user-event-batches.dlq")
    assert {message.value for message in verdicts} == {b"no batch"}
    assert {message.header("__connect.errors.stage") for message in verdicts} == {
        b"track_engagement",
        b"track_listening",
    }


def _batches(runtime: MemoryRuntime) -> list[Any]:
    return [
        runtime.log.wire.decode(message.topic, message.value)
        for message in runtime.log.records("user-event-batches")
        if message.value != b"no batch"
    ]


def test_what_is_played_now_ranks_above_what_was_played_then(runtime: MemoryRuntime) -> None:
    def plays(episode: str, number: int, at: datetime, seed: int) -> list[dict[str, Any]]:
        played = [{**event, "kind": "play"} for event in events(number, seed)]
        return [{**event, "episode_id": episode, "occurred_at": at} for event in played]

    then = START - timedelta(hours=2)
    write(runtime, plays("pi:1", 40, then, seed=3))
    runtime.run()
    assert [place["episode_id"] for place in ranking(runtime, ALL)] == ["pi:1"]
    write(runtime, plays("pi:2", 10, START, seed=4) + plays("pi:4", 3, START, seed=5))
    runtime.run()
    assert [place["episode_id"] for place in ranking(runtime, ALL)] == ["pi:2", "pi:4", "pi:1"]
    assert [place["plays"] for place in ranking(runtime, "category:News")] == [10, 3]
    assert [place["episode_id"] for place in ranking(runtime, "category:Tv")] == ["pi:1"]

    before = len(runtime.log.records("trending-episodes"))
    runtime.run()
    assert len(runtime.log.records("trending-episodes")) == before
    runtime.crash("rank_trending")
    runtime.run()
    assert [place["episode_id"] for place in ranking(runtime, ALL)] == ["pi:2", "pi:4", "pi:1"]


def test_what_is_too_old_leaves_the_ranking(runtime: MemoryRuntime) -> None:
    old = [{**event, "kind": "play"} for event in events(30, seed=6)]
    write(runtime, [{**event, "occurred_at": START - timedelta(hours=7)} for event in old])
    runtime.run()
    assert ranking(runtime, "category:Tv")
    new = [{**event, "kind": "play", "episode_id": "pi:2"} for event in events(30, seed=7)]
    write(runtime, new)
    # Every partition of the windows hears that time has gone on.
    write(
        runtime,
        [
            {**event, "kind": "impression", "heard_ms": 0, "episode_id": f"pi:{number}"}
            for number, event in enumerate(events(8, seed=8))
        ],
    )
    runtime.run()
    assert [place["episode_id"] for place in ranking(runtime, ALL)] == ["pi:2"]
    assert ranking(runtime, "category:Tv") == []
