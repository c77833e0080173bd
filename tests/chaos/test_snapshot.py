"""A snapshot of an instance that is written to: what is restored of it, elsewhere, is exact, and so
is the instance that it was taken of, which goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymongo import MongoClient

from streams.cli.local.freezing import LONGEST_S
from streams.cli.local.instance import variables
from streams.cli.local.ports import free_range
from streams.cli.local.supervise import Supervisor
from streams.kafka.log_reader import LogReader
from streams.operations.core.snapshots import MANIFEST, decode
from tests.chaos.river import PATIENCE_S, SOURCE, Log, Writer, wait_until_settled
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(600)]

PROCESSES = ("broker", "mongo", "batch_events", "track", "serve")
ONLY = [word for name in PROCESSES for word in ("--only", name)]
PAST_S = 20.0
LIVE_TICKS = 20

Run = Callable[..., str]


def settings_of(home: Path) -> Settings:
    return Settings(
        _env_file=None,
        podstream_home=home,
        podstream_port_base=free_range(40),
        event_partitions=2,
        allowed_lateness_s=900,
        dedup_window=3000,
        mongo_keep_hours=24 * 365,
    )


@pytest.fixture
def podstream() -> Iterator[Run]:
    used: list[Settings] = []

    def run(settings: Settings, *arguments: str) -> str:
        used.append(settings)
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables(settings)},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    for settings in {one.podstream_home: one for one in used}.values():
        run(settings, "down")


def pids(settings: Settings) -> dict[str, int]:
    return {p.name: p.pid for p in Supervisor(settings.podstream_home).processes() if p.pid}


def written(settings: Settings) -> int:
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        return sum(logs.ends(SOURCE).values())


def heard_ms(settings: Settings) -> int:
    """All listening in the minutes that MongoDB serves."""
    with MongoClient[dict[str, int]](settings.mongodb_uri.get_secret_value()) as client:
        documents = client[settings.mongodb_database].engagement_windows.find({}, {"heard_ms": 1})
        return sum(document["heard_ms"] for document in documents)


def finish(settings: Settings, writer: Writer) -> Log:
    """Write the last events, and wait until nothing more comes of them."""
    at = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1)  # the log's own times are to be later
    writer.last(at)
    log = Log(settings)
    wait_until_settled(settings, log, at)
    return log


def counted_ms(log: Log) -> int:
    """All listening in the minutes of the log, by the row of each that counts the most offsets.

    It need not be the last: after a restart, totals that are held are told again.
    """
    rows = [row for _, rows in log.outputs("engagement-windows") for row in rows]
    rows.sort(key=lambda row: row["offset"])
    newest = {(row["episode_id"], row["bucket"], row["source_partition"]): row for row in rows}
    return sum(row["heard_ms"] for row in newest.values())


def test_a_restored_instance_is_exact_and_the_first_one_goes_on(
    tmp_path: Path, podstream: Run
) -> None:
    first, second = settings_of(tmp_path / "first"), settings_of(tmp_path / "second")
    podstream(first, "up", "--detach", *ONLY)
    before = pids(first)
    writer = Writer(first, PAST_S)
    writer.start()
    wait_until(lambda: writer.live_ticks > LIVE_TICKS, PATIENCE_S, "events at the present")

    said = podstream(first, "snapshot", str(tmp_path / "snapshot"))
    enough = writer.live_ticks + LIVE_TICKS
    wait_until(lambda: writer.live_ticks >= enough, PATIENCE_S, "events after the snapshot")
    assert pids(first) == before
    manifest = decode((tmp_path / "snapshot" / MANIFEST).read_bytes())
    assert f"stood still for {manifest.frozen_ms} ms" in " ".join(said.split())
    assert 0 < manifest.frozen_ms < LONGEST_S * 1000
    print(manifest.frozen_ms, "ms,", len(manifest.files), "files,", manifest.size, "bytes")

    writer.stop()
    log = finish(first, writer)
    log.check(writer.deliveries)
    wait_until(lambda: heard_ms(first) == counted_ms(log), PATIENCE_S, "every minute in MongoDB")
    all_of_them = written(first)
    podstream(first, "down")

    podstream(second, "restore", str(tmp_path / "snapshot"))
    podstream(second, "up", "--detach", *ONLY)
    assert 0 < written(second) < all_of_them
    again = Writer(second, PAST_S)
    again.deliveries = writer.deliveries[:]
    copy = finish(second, again)
    copy.check(again.deliveries, missing=True)
    wait_until(lambda: heard_ms(second) == counted_ms(copy), PATIENCE_S, "every minute in MongoDB")
