"""Raw events to live tables: one `batch_events` and one Faust worker, checked and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
from live_path.cluster import (
    BATCHES,
    SOURCE,
    BenchmarkError,
    Cluster,
    Processes,
    Totals,
    running_processes,
    say,
)

from schemas import columnar
from schemas.codec import RecordCodec
from streams.kafka.log_reader import LogTail
from topology.topics.engagement import ENGAGEMENT_WINDOWS, TABLE_PROGRESS, USER_EPISODE_DAILY

TRACKERS = ("track_engagement", "track_listening")
WINDOWS, DAILY = ENGAGEMENT_WINDOWS.name, USER_EPISODE_DAILY.name
PROGRESS = TABLE_PROGRESS.name
TIMEOUT_S = 600.0


class Progress:
    """How far each stage says that its tables have got."""

    def __init__(self, cluster: Cluster) -> None:
        self._reader = LogTail(cluster.bootstrap, [PROGRESS])
        self._codec = RecordCodec(PROGRESS, "table_progress", cluster.registry)
        self._offsets: dict[tuple[str, int], int] = {}
        self.late = 0

    def reaches(self, ends: dict[int, int], stages: Sequence[str]) -> bool:
        """Whether these stages have applied everything before ``ends``."""
        for message in self._reader.poll(0.1):
            record = self._codec.decode(message.value)
            self._offsets[record["stage"], record["source_partition"]] = record["offset"]
            self.late = max(self.late, record["late"])
        return all(
            self._offsets.get((stage, partition), -1) >= end - 1
            for partition, end in ends.items()
            for stage in stages
            if end
        )

    def close(self) -> None:
        """Give back the connection to the broker."""
        self._reader.close()


@contextmanager
def running(
    cluster: Cluster, stages: Sequence[str], broker: int
) -> Iterator[tuple[Processes, Progress]]:
    """A worker with its partitions, then `batch_events`, which has just sent its first batch."""
    say(f"ours: {', '.join(stages)}")
    progress = Progress(cluster)
    with running_processes(cluster.settings) as processes:
        processes.watch("broker", broker)
        processes.start_worker(stages)
        cluster.wait_for_members(stages, processes)
        processes.start("batch_events", ["-m", "streams.events.batch_events"])
        processes.mark()
        processes.wait(lambda: any(cluster.ends(BATCHES).values()), "the first batch", 60, 0.05)
        yield processes, progress
    progress.close()


def catch_up(
    cluster: Cluster,
    totals: Totals,
    stages: Sequence[str],
    processes: Processes,
    progress: Progress,
) -> dict[str, Any]:
    """Time the whole way of preloaded events, from the first batch to the last output."""
    ends = cluster.ends(SOURCE)
    processes.wait(lambda: progress.reaches(ends, TRACKERS), "every event is counted", TIMEOUT_S)
    reached = time.time()
    for stage in set(stages) - set(TRACKERS):
        cluster.wait_for_group(stage, WINDOWS, processes, TIMEOUT_S)
        reached = time.time()
    usage = processes.usage()
    if progress.late:
        raise BenchmarkError(f"{progress.late} events came too late for the tables")
    first, batched = _times(cluster, BATCHES)
    until = {"batched": batched, "windows": _times(cluster, WINDOWS)[1]}
    until["daily"] = _times(cluster, DAILY)[1]
    if set(stages) > set(TRACKERS):
        until["ranked"] = int(reached * 1000)
    check(cluster, totals)
    seconds = (max(until.values()) - first) / 1000
    cpu = {name: figures["cpu_s"] for name, figures in usage.items()}
    return {
        "stages": list(stages),
        "events": totals.events,
        "seconds": round(seconds, 2),
        "events_per_s": round(totals.events / seconds),
        "seconds_until": {name: round((at - first) / 1000, 2) for name, at in until.items()},
        "cpu_us_per_event": {
            name: round(spent / totals.events * 1e6, 2)
            for name, spent in {**cpu, "all": sum(cpu.values())}.items()
        },
        "processes": usage,
    }


def check(cluster: Cluster, totals: Totals) -> None:
    """BenchmarkError unless both tables add up to what was produced."""
    newest = pl.col("offset") == pl.col("offset").max().over(
        "episode_id", "bucket", "source_partition"
    )
    windows = _rows(cluster, WINDOWS, "engagement_window").filter(newest)
    daily = _rows(cluster, DAILY, "user_episode_daily")
    # An absolute row may come twice, with the same offset.
    windows = windows.unique(["episode_id", "bucket", "source_partition"])
    for name, rows in ((WINDOWS, windows), (DAILY, daily)):
        found = (int(rows["plays"].sum()), int(rows["heard_ms"].sum()))
        if found != (totals.plays, totals.heard_ms):
            raise BenchmarkError(
                f"{name}: plays and heard_ms are {found}, not {(totals.plays, totals.heard_ms)}"
            )


def _rows(cluster: Cluster, topic: str, schema: str) -> pl.DataFrame:
    names = ["plays", "heard_ms"]
    if topic == WINDOWS:
        names += ["episode_id", "bucket", "source_partition", "offset"]
    frames: list[pl.DataFrame] = []

    def keep(messages: list[Any]) -> None:
        frames.extend(columnar.from_message(m.value, schema).select(names) for m in messages)

    whole = LogTail(cluster.bootstrap, [topic])
    whole.read_to_end(keep)
    whole.close()
    return pl.concat(frames)


def _times(cluster: Cluster, topic: str) -> tuple[int, int]:
    """The log's time of the first and the last message of a topic, milliseconds."""
    times: list[int] = []
    whole = LogTail(cluster.bootstrap, [topic])
    whole.read_to_end(lambda messages: times.extend(m.timestamp_ms for m in messages))
    whole.close()
    return min(times), max(times)
