"""From produce to a readable window: events at a steady rate, some of them followed."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import polars as pl
from live_path.cluster import SOURCE, BenchmarkError, Cluster, Totals, say
from live_path.events import Events, Generator
from live_path.ours import WINDOWS

from schemas import columnar
from schemas.codec import RecordCodec
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message

RATE = 10_000
"""Events a second."""

WARM_UP_S = 15
FOLLOWED = 50
"""One event of so many is followed."""

TICK_S = 0.005
SETTLE_S = 10.0
SEED = 3
_KEY = ["episode_id", "bucket", "source_partition"]


class WindowReader(threading.Thread):
    """Notes when each new message of `engagement-windows` could be read; decodes them later."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self._tail = LogTail(cluster.bootstrap, [WINDOWS])
        self._tail.read_to_end(lambda messages: None)
        self._messages: list[tuple[float, Message]] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        """Note each message and when it came, until stopped."""
        while not self._stopping.is_set():
            # One at a time: a list is waited for until it is full.
            self._messages += [(time.time(), message) for message in self._tail.poll(0.1, limit=1)]

    def rows(self) -> pl.DataFrame:
        """Key, offset and `read_at` (seconds) of every row read."""
        self._stopping.set()
        self.join()
        self._tail.close()
        return pl.concat(
            columnar.from_message(message.value or b"", "engagement_window")
            .select(*_KEY, "offset")
            .with_columns(read_at=pl.lit(read_at))
            for read_at, message in self._messages
        )


def measure(cluster: Cluster, totals: Totals, seconds: int) -> dict[str, Any]:
    """Produce at RATE and say how long the followed events took; adds them to ``totals``."""
    say(f"latency: {RATE} events/s for {WARM_UP_S} + {seconds} s")
    count = RATE * (WARM_UP_S + seconds)
    windows = WindowReader(cluster)
    # The events are made beforehand, so that making them does not take time from the others.
    start = time.time() + 2 + count / 100_000
    generator = Generator(SEED, int(start * 1000), RATE, cluster.schema_id)
    chunks = list(generator.chunks(count))
    for events in chunks:
        totals.add(events)
    windows.start()
    produced = _produce(cluster, chunks, start)
    time.sleep(SETTLE_S)
    return _figures(_followed(cluster, chunks, produced), windows.rows(), start)


Produced = dict[int, tuple[float, int, int]]
"""Number of an event -> when it was produced (seconds), its partition and offset."""


def _produce(cluster: Cluster, chunks: list[Events], start: float) -> Produced:
    out = producer(cluster.bootstrap, **{"log_level": 0})
    produced: Produced = {}
    times: dict[int, float] = {}

    def follow(number: int) -> Any:
        def delivered(error: Any, record: Any) -> None:
            if error is not None:
                raise BenchmarkError(f"an event was not delivered: {error}")
            produced[number] = (times[number], record.partition(), record.offset())

        return delivered

    values = [value for events in chunks for value in events.values]
    users = [user for events in chunks for user in events.users]
    number = 0
    if time.time() > start:
        raise BenchmarkError("making the events took longer than expected")
    while number < len(values):
        due = min(len(values), int((time.time() - start) * RATE))
        while number < due:
            if number % FOLLOWED:
                out.produce(SOURCE, values[number], users[number])
            else:
                times[number] = time.time()
                report = follow(number)
                out.produce(SOURCE, values[number], users[number], on_delivery=report)
            number += 1
        out.poll(TICK_S)
    out.flush(30)
    return produced


def _followed(cluster: Cluster, chunks: list[Events], produced: Produced) -> pl.DataFrame:
    codec = RecordCodec(SOURCE, "user_event", cluster.registry)
    values = [value for events in chunks for value in events.values]
    records = [codec.decode(values[number]) for number in produced]
    made, partitions, offsets = zip(*produced.values(), strict=True)
    return pl.DataFrame(
        {
            "episode_id": [record["episode_id"] for record in records],
            "bucket": pl.Series([record["occurred_at"] for record in records]),
            "source_partition": pl.Series(partitions, dtype=pl.Int32),
            "offset": offsets,
            "produced_at": made,
        }
    ).with_columns(pl.col("bucket").cast(pl.Datetime("ms", "UTC")).dt.truncate("1m"))


def _figures(followed: pl.DataFrame, rows: pl.DataFrame, start: float) -> dict[str, Any]:
    # A row says up to which offset it counts: an event is visible with the first that reaches it.
    first = rows.group_by(*_KEY, "offset").agg(pl.col("read_at").min())
    seen = followed.filter(pl.col("produced_at") >= start + WARM_UP_S).sort("offset")
    seen = seen.join_asof(
        first.sort("offset"), on="offset", by=_KEY, strategy="forward", check_sortedness=False
    )
    if missing := seen["read_at"].null_count():
        raise BenchmarkError(f"{missing} of {seen.height} events were never seen in a window")
    ms = ((seen["read_at"] - seen["produced_at"]) * 1000).to_numpy()
    return {
        "rate": RATE,
        "followed": seen.height,
        "p50_ms": round(float(np.percentile(ms, 50)), 1),
        "p99_ms": round(float(np.percentile(ms, 99)), 1),
        "max_ms": round(float(ms.max()), 1),
    }
