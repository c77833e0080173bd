"""Trending and anomalies in memory: rows of `engagement-windows` in, rankings and alerts out."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from streams.engagement.core.trending import merge_scopes
from streams.engagement.core.watermark import watermark_header
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

PARTITIONS = 3
START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
STAGES = ("rank_trending", "detect_anomalies")
SOURCES = 2
COUNTS = ("plays", "new_listeners")


class Windows:
    """Writes rows as `track_engagement` does: the whole value so far, and which minutes are over:
    all before the newest."""

    def __init__(self, runtime: MemoryRuntime) -> None:
        self.log = runtime.log
        self.clock = runtime.clock
        self.totals: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0])
        self.offset = 0
        self.sent: list[tuple[int, pl.DataFrame, tuple[Any, ...]]] = []

    def add(self, *counts: tuple[str, int, int, int, int]) -> None:
        """Episode, minute, source partition, plays and new listeners more."""
        rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for episode_id, minute, source, plays, new in counts:
            total = self.totals[episode_id, minute, source]
            total[0], total[1] = total[0] + plays, total[1] + new
            self.offset += 1
            partition = zlib.crc32(episode_id.encode()) % PARTITIONS
            rows[partition].append(
                {
                    "episode_id": episode_id,
                    "bucket": START + timedelta(minutes=minute),
                    "source_partition": source,
                    "offset": self.offset,
                    "plays": total[0],
                    "new_listeners": total[1],
                }
            )
        newest = max(minute for _, minute, *_ in counts)
        moment = START + timedelta(minutes=newest, seconds=30)
        self.clock.set(max(self.clock.now(), moment.timestamp()))
        nothing = dict.fromkeys(("impressions", "clicks", "completes", "heard_ms"), 0)
        others = dict.fromkeys(("streams", "listeners", "engaged"), 0)
        closed = int((START + timedelta(minutes=newest - 1)).timestamp()) // 60
        headers = tuple(watermark_header(dict.fromkeys(range(PARTITIONS), closed)).items())
        for partition, group in rows.items():
            columns = [pl.lit(0).alias(name) for name in (*nothing, *others)]
            frame = pl.DataFrame(group).with_columns(columns)
            self.sent.append((partition, frame, headers))
            self.log.append("engagement-windows", frame, partition=partition, headers=headers)

    def again(self, number: int) -> None:
        """What a restarted stage may say again."""
        for partition, frame, headers in self.sent[-number:]:
            self.log.append("engagement-windows", frame, partition=partition, headers=headers)


@pytest.fixture
def runtime(tmp_path: Path) -> MemoryRuntime:
    settings = Settings(podstream_home=tmp_path, event_partitions=PARTITIONS)
    runtime = MemoryRuntime(build_graph(PARTITIONS), settings)
    for stage in STAGES:
        runtime.start(stage)
    for number in range(6):
        episode = {
            "episode_id": f"pi:{number}",
            "title": f"Episode {number}",
            "show_id": "pi:show",
            "show_title": "Show",
            "categories": ["Tv" if number % 2 else "News"],
            "language": "en" if number < 4 else "de",
            "source": "import",
        }
        runtime.log.append("episode-metadata", episode, key=f"pi:{number}")
    return runtime


def rankings(runtime: MemoryRuntime) -> dict[str, list[dict[str, Any]]]:
    """As a reader has them, every scope, to the digits that are told."""
    records = defaultdict(list)
    for record in runtime.log.decoded("trending-episodes"):
        records[record["scope"]].append(record)
    return {
        scope: [{**place, "score": round(place["score"], 4)} for place in merge_scopes(told)]
        for scope, told in records.items()
    }


def test_the_reason_of_a_place_is_told_in_every_scope(runtime: MemoryRuntime) -> None:
    windows = Windows(runtime)
    for hour in range(1, 6):  # pi:1 is always heard, pi:3 is new
        windows.add(("pi:1", 10 * 60 + 60 * hour, 0, 9, 2), ("pi:1", 10 * 60 + 60 * hour, 1, 1, 1))
    now = 16 * 60
    windows.add(("pi:3", now, 0, 4, 4), ("pi:1", now, 0, 2, 2), ("pi:4", now - 30, 1, 8, 2))
    runtime.run()
    ranked = rankings(runtime)
    assert set(ranked) == {
        "all",
        "category:Tv",
        "category:News",
        "language:en",
        "language:de",
        "category:Tv|language:en",
        "category:News|language:de",
    }
    (first, second) = ranked["category:Tv|language:en"]
    assert first == {
        "episode_id": "pi:3",
        "score": 4.0,
        "plays": 4,
        "recent": 4,
        "usual": 0.0,
        "rise": 5.0,
    }
    assert (second["episode_id"], second["recent"]) == ("pi:1", 2)
    assert second["usual"] == pytest.approx(15 / 23, abs=1e-5)
    assert second["rise"] == pytest.approx(3 / (15 / 23 + 1), abs=1e-5)
    assert [place["episode_id"] for place in ranked["language:de"]] == ["pi:4"]
    assert ranked["language:de"][0]["score"] == 1.0


def test_a_listener_who_plays_again_and_again_lifts_nothing(runtime: MemoryRuntime) -> None:
    windows = Windows(runtime)
    windows.add(("pi:0", 0, 0, 1, 1), ("pi:2", 0, 0, 2, 2))
    for minute in range(50):
        windows.add(("pi:0", minute, 0, 100, 0))
    runtime.run()
    first, second = rankings(runtime)["all"]
    assert (first["episode_id"], second["episode_id"]) == ("pi:2", "pi:0")
    assert second["plays"] == 5001


def test_crashes_and_repeats_change_neither_rankings_nor_alerts(tmp_path: Path) -> None:
    outcomes = []
    for crashes in (False, True):
        settings = Settings(podstream_home=tmp_path, event_partitions=PARTITIONS)
        runtime = MemoryRuntime(build_graph(PARTITIONS), settings)
        for stage in STAGES:
            runtime.start(stage)
        windows, poisson, chance = Windows(runtime), np.random.default_rng(3), random.Random(4)
        for minute in range(180):
            rates = [12 if minute < 150 else factor for factor in (60, 12, 0)]
            counts = []
            for number, rate in enumerate(rates):
                for source in range(SOURCES):
                    plays, new = (int(n) for n in poisson.poisson(rate, 2))
                    counts.append((f"pi:{number}", minute, source, plays, new))
            windows.add(*[counts[n] for n in chance.sample(range(len(counts)), len(counts))])
            if crashes and minute % 13 == 0:
                windows.again(minute % 11)
                runtime.run(max_batch=1 + minute % 5)
                for stage in STAGES:
                    runtime.crash(stage, redeliver=minute % 4)
        windows.add(("pi:0", 190, 0, 1, 1), ("pi:1", 190, 0, 1, 1), ("pi:2", 190, 0, 1, 1))
        runtime.run()
        alerts = {
            (alert["episode_id"], alert["at"]): alert
            for alert in runtime.log.decoded("episode-anomalies")
        }
        outcomes.append((rankings(runtime), alerts))
    calm, stormy = outcomes
    assert calm == stormy
    found = [(key, alert["direction"]) for key, alert in sorted(calm[1].items())]
    planted = START + timedelta(minutes=150)
    assert (("pi:0", planted), "rise") in found
    assert (("pi:2", planted), "fall") in found
    assert all(at >= planted for (_, at), _ in found)


def test_what_is_no_batch_is_put_aside(runtime: MemoryRuntime) -> None:
    windows = Windows(runtime)
    windows.add(("pi:0", 0, 0, 1, 1))
    runtime.log.append("engagement-windows", b"no batch", partition=0)
    windows.add(("pi:0", 1, 0, 1, 1))
    runtime.run()
    assert rankings(runtime)["all"][0]["plays"] == 2
    dead = runtime.log.records("engagement-windows.dlq")
    assert {message.header("__connect.errors.stage") for message in dead} == {
        stage.encode() for stage in STAGES
    }


def test_a_snapshot_takes_the_place_of_what_was_logged(tmp_path: Path) -> None:
    settings = Settings(podstream_home=tmp_path, event_partitions=PARTITIONS)
    runtime = MemoryRuntime(build_graph(PARTITIONS), settings, snapshot_bytes=2_000)
    for stage in STAGES:
        runtime.start(stage)
    windows = Windows(runtime)
    for minute in range(40):
        windows.add(("pi:0", minute, 0, 1, 1), ("pi:1", minute, 1, 2, 1))
        runtime.run()
    before = rankings(runtime)["all"]
    for stage in STAGES:
        runtime.crash(stage)
    windows.add(("pi:0", 39, 0, 0, 0))
    runtime.run()
    assert rankings(runtime)["all"] == before
    assert [place["plays"] for place in before] == [40, 80]
