"""`podstream import events` of a large file: rows a second, and what a kill and a repeat change.

One run imports a file of JSON lines and one of CSV on a broker of its own, the first once more,
then a third file with a kill -9 in the middle, and reads the log back as `batch_events` counts it.
Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import machine

from streams.cli.local.broker import running_broker
from streams.events.batch_progress import event_source, to_chunk
from streams.events.core.batching import PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from topology.apply import apply_topology
from topology.graph import build_graph
from topology.settings import Settings
from topology.topics.events import USER_EVENTS

START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("event_id", "user_id", "episode_id", "kind", "occurred_at", "heard_ms", "position_ms")


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of each file")
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory(prefix="event-import-") as folder,
        running_broker(Path(folder)) as bootstrap,
    ):
        home = Path(folder)
        settings = Settings(podstream_home=home, kafka_bootstrap_servers=bootstrap)
        apply_topology(settings, open_registry(settings), mongo=False)
        write_jsonl(home / "first.jsonl", rows, seed=1)
        write_csv(home / "second.csv", rows, seed=2)
        write_csv(home / "third.csv", rows, seed=3)
        whole = run(settings, home / "first.jsonl")
        whole_csv = run(settings, home / "second.csv")
        again = run(settings, home / "first.jsonl")
        killed = run(settings, home / "third.csv", kill_after_s=whole_csv * 0.5)
        rest = run(settings, home / "third.csv")
        once_more = run(settings, home / "third.csv")
        counted, records = count(settings)
    machine.report(
        "event_import",
        {
            "rows": rows,
            "jsonl": {"seconds": round(whole, 2), "rows_per_s": round(rows / whole)},
            "csv": {"seconds": round(whole_csv, 2), "rows_per_s": round(rows / whole_csv)},
            "again_s": round(again, 2),
            "csv_killed": {
                "killed_after_s": round(killed, 2),
                "rest_s": round(rest, 2),
                "again_s": round(once_more, 2),
            },
            "events_expected": 3 * rows,
            "events_counted": counted,
            "records_in_the_log": records,
        },
    )


def events(rows: int, seed: int) -> Any:
    """Events of many listeners in the order of time."""
    chance = random.Random(seed)
    for number in range(rows):
        at = START + timedelta(milliseconds=40 * number)
        yield (
            f"{seed}-{chance.getrandbits(48):012x}-{number}",
            f"listener-{chance.randrange(100_000):06d}",
            f"pi:{chance.randrange(20_000)}",
            "progress",
            at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            30_000,
            chance.randrange(3_600) * 1_000,
        )


def write_jsonl(path: Path, rows: int, seed: int) -> None:
    """A file of JSON lines."""
    say(f"writing {path.name}")
    with path.open("w") as file:
        file.writelines(
            json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in events(rows, seed)
        )


def write_csv(path: Path, rows: int, seed: int) -> None:
    """A CSV file."""
    say(f"writing {path.name}")
    with path.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(",".join(map(str, row)) + "\n" for row in events(rows, seed))


def run(settings: Settings, path: Path, kill_after_s: float | None = None) -> float:
    """Import a file in a process of its own; the seconds that takes, start and all."""
    say(f"importing {path.name}")
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli.main", "import", "events", str(path)],
        env={
            **os.environ,
            "PODSTREAM_HOME": str(settings.podstream_home),
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        },
        stdout=sys.stderr,
        stderr=subprocess.DEVNULL,
    )
    try:
        code = process.wait(kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    else:
        if code:
            raise RuntimeError(f"the import ended with {code}")
    return time.monotonic() - started


def count(settings: Settings) -> tuple[int, int]:
    """Events as `batch_events` counts them, and the records that there are."""
    say("counting")
    decoder = EventDecoder(USER_EVENTS.name, open_registry(settings))
    places = event_source(settings, build_graph(settings.event_partitions))
    counted = records = 0
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for partition, end in logs.ends(USER_EVENTS.name).items():
            batcher = PartitionBatcher(partition, 0, settings.dedup_window, decoder, places)
            for some in logs.span(USER_EVENTS.name, partition, 0, end):
                counted += batcher.batch(to_chunk(some)).events.height
                records += len(some)
    return counted, records


def say(what: str) -> None:
    """Tell how far it is."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
