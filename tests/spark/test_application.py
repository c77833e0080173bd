"""The whole application as a process: killed in mid-run, started again, stopped cleanly."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable

from jobs.write_delta import table_path
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from tests.waiting import wait_until
from topology.model import Graph
from topology.settings import Settings

pytestmark = [pytest.mark.spark, pytest.mark.broker]

ROWS, MESSAGES, PARTITIONS = 200, 12, 2
START = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


def messages(wire: Wire, number: int) -> list[tuple[str, int, bytes]]:
    """What the stages before would send for the ``number``-th batch of each partition."""
    sent = []
    for partition in range(PARTITIONS):
        first = number * ROWS
        events = pl.DataFrame(
            {
                "partition": [partition] * ROWS,
                "offset": range(first, first + ROWS),
                "user_id": [f"u{partition}{n % 7}" for n in range(ROWS)],
                "episode_id": [f"e{n % 11}" for n in range(ROWS)],
                "kind": "progress",
                "occurred_at": [START + dt.timedelta(hours=n % 50) for n in range(ROWS)],
                "heard_ms": range(first, first + ROWS),
                "position_ms": 0,
            },
            schema_overrides={"occurred_at": pl.Datetime("ms", "UTC")},
        ).with_columns(event_id=pl.format("{}-{}", "partition", "offset"))
        optional = ("session_id", "surface", "rank", "arm", "user_agent", "generation")
        full = events.with_columns(pl.lit(None).alias(name) for name in optional)
        at = pl.col("occurred_at")
        daily = events.group_by("user_id", "episode_id", day=at.dt.date()).agg(
            *(pl.lit(0).alias(name) for name in ("impressions", "clicks", "completes")),
            *(pl.lit(0).alias(name) for name in ("likes", "dislikes")),
            plays=pl.len(),
            heard_ms=pl.sum("heard_ms"),
            first_at=at.min(),
            last_at=at.max(),
            source_partition=pl.lit(partition),
            first_offset=pl.lit(first),
            last_offset=pl.lit(first + ROWS - 1),
        )
        for topic, frame in (("user-event-batches", full), ("user-episode-daily", daily)):
            value = wire.encode(topic, frame)
            assert value is not None
            sent.append((topic, partition, value))
    return sent


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[Any], every_s: float = 0.5
) -> None:
    def alive() -> None:
        assert process.poll() is None, f"the application ended with {process.returncode}"

    wait_until(condition, 300, "what the application does", every_s=every_s, check=alive)


@pytest.mark.timeout(900)
def test_kill_in_mid_commit_changes_no_count_and_sigterm_ends_cleanly(
    spark_settings: Settings, graph: Graph, tmp_path: Path
) -> None:
    settings = spark_settings.model_copy(
        update={"delta_root": f"{tmp_path}/delta", "checkpoint_root": f"{tmp_path}/checkpoints"}
    )
    wire = Wire(graph, open_registry(settings))
    sender = producer(settings.kafka_bootstrap_servers)
    environment = {
        **os.environ,
        "PODSTREAM_HOME": str(tmp_path / "home"),
        "PODSTREAM_PORT_BASE": str(settings.podstream_port_base),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "EVENT_PARTITIONS": str(PARTITIONS),
        "DELTA_ROOT": settings.delta_root,
        "CHECKPOINT_ROOT": settings.checkpoint_root,
        "DELTA_TRIGGER_S": "0.5",
    }

    def send(numbers: range) -> None:
        for number in numbers:
            for topic, partition, value in messages(wire, number):
                sender.produce(topic, value, partition=partition)
        sender.flush(30)

    def start() -> subprocess.Popen[Any]:
        with (tmp_path / "application.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs.application"],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def rows(name: str) -> pl.DataFrame:
        path = table_path(settings, name)
        if not DeltaTable.is_deltatable(path):
            return pl.DataFrame({"heard_ms": []})
        return pl.DataFrame(pl.from_arrow(DeltaTable(path).to_pyarrow_table()))

    looked_at = 0

    def merged() -> bool:
        """Whether there is a row: read at each new commit only, for a look is to cost little."""
        nonlocal looked_at
        commits = Path(table_path(settings, "user_vs_episode_daily"), "_delta_log").glob("*.json")
        before, looked_at = looked_at, len(list(commits))
        return looked_at > before and len(rows("user_vs_episode_daily")) > 0

    heard = PARTITIONS * sum(range(MESSAGES * ROWS))
    text = {"episode_id": "x:1", "status": "ok", "text": "whales sing across the deep ocean"}
    value = wire.encode("episode-transcripts", text)
    sender.produce("episode-transcripts", value, "x:1")
    send(range(4))
    process = start()
    try:
        wait_for(merged, process, every_s=0.005)
        os.killpg(process.pid, signal.SIGKILL)  # its MERGE is committed, its checkpoint is not
        process.wait()
        send(range(2, MESSAGES))  # and the stages before it repeat themselves as well
        process = start()
        wait_for(
            lambda: rows("user_vs_episode_daily")["heard_ms"].sum() >= heard, process, every_s=0.5
        )
        wait_for(
            lambda: len(rows("user_events")) >= PARTITIONS * MESSAGES * ROWS, process, every_s=0.5
        )
        reader = LogTail(settings.kafka_bootstrap_servers, ["episode-embeddings"])
        embedded: list[Any] = []

        def has_embedding() -> bool:
            reader.read_to_end(lambda found: embedded.extend(m for m in found if m.key == b"x:1"))
            return bool(embedded)

        wait_for(has_embedding, process)
        reader.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    daily, events = rows("user_vs_episode_daily"), rows("user_events")
    keys = ["user_id", "episode_id", "day"]
    assert daily["heard_ms"].sum() == events["heard_ms"].sum() == heard
    assert daily.select(keys).is_unique().all()
    again = events.group_by("user_id", "episode_id", day="event_date").agg(pl.sum("heard_ms"))
    got, expected = (frame.select(*keys, "heard_ms").sort(keys) for frame in (daily, again))
    assert got.rows() == expected.rows()
    record = wire.decode("episode-embeddings", embedded[0].value)
    vector = np.frombuffer(record["vector"], dtype="<f4")
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)
