"""A field is added to events while old producers write on; what readers cannot read is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from schemas import columnar, files
from schemas.codec import frame, subject_of
from streams.cli.local.instance import variables
from streams.cli.local.versions import PACKAGES
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from streams.kafka.registry import open_registry, topic_registry
from tests.broker.workers import instance, records
from tests.chaos.processes import Processes
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.apply import observe
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(300)]

EVENTS, BATCHES, RECORD = "user-events", "user-event-batches", "user_event"
NEXT = files.versions(RECORD)[-1] + 1
SUBJECT = subject_of(EVENTS)
OPTIONAL = {"name": "device", "type": ["null", "string"], "doc": "what played it", "default": None}
REQUIRED = {"name": "device", "type": "string", "doc": "what played it"}

DECODE = """
import json, sys
from streams.events.core.events import EventDecoder
from streams.kafka.log_reader import LogTail
from streams.kafka.registry import topic_registry

messages = []
tail = LogTail(sys.argv[1], ["user-events"])
tail.read_to_end(messages.extend)
tail.close()
messages.sort(key=lambda message: (message.partition, message.offset))
decoder = EventDecoder("user-events", topic_registry(sys.argv[1]))
rows, bad = decoder.decode([message.value for message in messages])
print(json.dumps([rows.sort("row").to_dicts(), len(bad)]))
"""


@pytest.fixture
def settings(tmp_path: Path, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path, mongo_uri) as settings:
        yield settings


def next_release(folder: Path, field: dict[str, Any]) -> Path:
    """A copy of the code whose events have one more version, with one more field."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    schema = json.loads((ROOT / "schemas" / f"{RECORD}.v{NEXT - 1}.avsc").read_text())
    schema["fields"].append(field)
    (folder / "schemas" / f"{RECORD}.v{NEXT}.avsc").write_text(json.dumps(schema))
    return folder


def run(tree: Path, settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a copy of the code, on this instance."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, **variables(settings), "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )


def topology(tree: Path, settings: Settings, command: str) -> subprocess.CompletedProcess[str]:
    return run(tree, settings, "-m", "streams.cli.main", "topology", command)


def registered(settings: Settings) -> set[int]:
    """The versions of events that the registry has."""
    graph = build_graph(settings.event_partitions)
    return set(observe(settings, graph, open_registry(settings)).subjects[SUBJECT])


def event(number: int) -> dict[str, Any]:
    return {
        "event_id": str(number),
        "user_id": f"listener-{number % 7}",
        "episode_id": f"my:{number % 3}",
        "kind": "progress",
        "occurred_at": datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60),
        "heard_ms": 1000 + number,
    }


def encoded(schema: dict[str, Any], schema_id: int, record: dict[str, Any]) -> bytes:
    """A message as a producer of that version writes it."""
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record)
    return frame(schema_id, buffer.getvalue())


def rows_of(settings: Settings) -> pl.DataFrame:
    """The rows of all batches."""
    messages: list[Message] = []
    tail = LogTail(settings.kafka_bootstrap_servers, [BATCHES])
    tail.read_to_end(messages.extend)
    tail.close()
    frames = [columnar.from_message(message.value, RECORD) for message in messages]
    return pl.concat(frames) if frames else pl.DataFrame(schema=columnar.columns(RECORD))


def test_old_and_new_producers_write_side_by_side(settings: Settings, tmp_path: Path) -> None:
    bootstrap = settings.kafka_bootstrap_servers
    old_id = topic_registry(bootstrap).id_of(SUBJECT)
    tree = next_release(tmp_path / "next", OPTIONAL)
    applied = topology(tree, settings, "apply")
    assert applied.returncode == 0, applied.stderr
    assert f"register version {NEXT} of {SUBJECT}" in applied.stdout
    new_id = topic_registry(bootstrap).id_of(SUBJECT)
    assert new_id != old_id

    old, new = files.load(RECORD), json.loads((tree / f"schemas/{RECORD}.v{NEXT}.avsc").read_text())
    events = [event(number) for number in range(300)]
    writer = producer(bootstrap)
    for number, one in enumerate(events):
        if number % 2:
            value = encoded(new, new_id, {**one, "device": "watch"})
        else:
            value = encoded(old, old_id, one)
        writer.produce(EVENTS, value, key=one["user_id"])
    assert writer.flush(30) == 0

    # The release before counts what both write: a field that it does not know is passed over.
    processes = Processes(settings)
    processes.start_batcher("batch_events")
    try:
        wait_until(
            lambda: rows_of(settings).height == len(events), 90, "all rows", check=processes.check
        )
    finally:
        processes.kill_all()
    assert records(settings, f"{EVENTS}.dlq") == 0
    columns = list(events[0])
    batched = rows_of(settings).with_columns(pl.col("kind").cast(pl.String)).select(columns)
    expected = pl.DataFrame(events).with_columns(
        pl.col("occurred_at").cast(batched.schema["occurred_at"])
    )
    assert batched.sort("heard_ms").equals(expected.sort("heard_ms").cast(batched.schema))

    # Replayed by either release the log is the same rows, but for what only one of them knows.
    both = []
    for code in (ROOT, tree):
        done = run(code, settings, "-c", DECODE, bootstrap)
        assert done.returncode == 0, done.stderr
        both.append(json.loads(done.stdout))
    (before, bad), (after, bad_after) = both
    assert (bad, bad_after) == (0, 0)
    devices = [row.pop("device") for row in after]
    assert after == before
    assert len(before) == len(events)
    wanted = ["watch" if int(row["event_id"]) % 2 else None for row in before]
    assert devices == wanted


def test_a_version_that_cannot_read_the_log_is_refused(settings: Settings, tmp_path: Path) -> None:
    before = registered(settings)
    tree = next_release(tmp_path / "next", REQUIRED)
    unsound = topology(tree, settings, "validate")
    assert unsound.returncode == 1
    assert f"{RECORD}.v{NEXT}.avsc cannot read what versions before it wrote: device" in (
        unsound.stderr
    )
    for command in ("plan", "apply"):
        refused = topology(tree, settings, command)
        assert refused.returncode == 1
        said = refused.stdout + refused.stderr
        assert f"refuse {SUBJECT}: {RECORD}.v{NEXT}.avsc cannot read what is in the log" in said
        assert "device: the field is new and has no default" in said
    assert "Nothing was changed." in refused.stderr
    assert registered(settings) == before
