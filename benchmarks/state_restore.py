"""How long a million keys take to come back after a start: a log of states against a Faust table.

Both read from the same real broker, in one run. The state is columns of numpy by key, written as a
stage writes it: a change a batch, snapshots when they are due, the log cut. The Faust table is a
plain one in memory, JSON values, restored by a Faust worker; it gets fewer keys, and its time for
as many is scaled up. Usage: ``python benchmarks/state_restore.py [KEYS] [FAUST_KEYS]``.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pyarrow as pa
from confluent_kafka.admin import AdminClient, NewTopic

from streams.cli.local.broker import running_broker
from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer
from streams.state.hash_table import ColumnarHashTable
from streams.state.kafka_log import Appender, KafkaStateLog
from streams.state.store import LogStates

STATE_TOPIC = "state-restore-log"
FAUST_APP = "state-restore"
FAUST_TOPIC = f"{FAUST_APP}-table-changelog"
SOURCE_TOPIC = "state-restore-source"
KEYS_PER_BATCH = 5_000
ROUNDS = 3
FIGURES = "figures.json"
_PIECE_ROWS = 100_000


class Totals:
    """Plays and time heard by key, as the stages keep them."""

    def __init__(self) -> None:
        self.applied = -1
        self.table = ColumnarHashTable({"plays": "i8", "heard_ms": "i8", "last_ms": "i8"})

    def add(self, keys: np.ndarray) -> None:
        """Count a play of each key."""
        slots = self.table.upsert(keys)
        self.table["plays"][slots] += 1
        self.table["heard_ms"][slots] += keys % 60_000
        self.table["last_ms"][slots] = self.applied
        self.table.touch(slots)
        self.applied += len(keys)

    def changes(self) -> bytes:
        """The rows that have changed, as Arrow."""
        changed = self.table.changed()
        self.table.forget_changes()
        return _to_bytes(self.table.to_arrow(changed))

    def snapshot(self) -> Iterable[bytes]:
        """All rows, as Arrow, in pieces."""
        self.table.forget_changes()
        for first in range(0, len(self.table), _PIECE_ROWS):
            slots = np.arange(first, min(first + _PIECE_ROWS, len(self.table)))
            yield _to_bytes(self.table.to_arrow(slots))

    def load_changes(self, value: bytes) -> None:
        """Take over what `changes` gave."""
        with pa.ipc.open_stream(value) as rows:
            for batch in rows:
                self.table.load(batch)

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Take over what `snapshot` gave."""
        for piece in pieces:
            self.load_changes(piece)


def _to_bytes(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return sink.getvalue().to_pybytes()


class Worker:
    """The owner of the state's only partition."""

    def __init__(self, bootstrap: str) -> None:
        self._pending: set[asyncio.Future[Any]] = set()
        self._appender = Appender(bootstrap)
        self.log = KafkaStateLog(bootstrap, STATE_TOPIC, self._appender)
        self.states = LogStates(self.log, lambda _: Totals(), self._track)
        self.states.assign([0])

    def _track(self, delivery: Awaitable[Any]) -> None:
        self._pending.add(asyncio.ensure_future(delivery))

    async def add(self, keys: np.ndarray) -> None:
        """Count keys, and return once the log has the change."""
        (await self.states.get(0)).add(keys)
        await self.states.save(0)
        await asyncio.gather(*self._pending)
        self._pending.clear()

    async def close(self) -> None:
        """Give back the connections."""
        await self.log.close()
        self._appender.close()


async def ours(bootstrap: str, keys: int) -> dict[str, Any]:
    """Write the state, then restore it as new workers do."""
    writer = Worker(bootstrap)
    rng = np.random.default_rng(1)
    for first in range(0, keys, KEYS_PER_BATCH):
        await writer.add(np.arange(first, min(first + KEYS_PER_BATCH, keys)))
    # Go on for a while, so that a restart finds a snapshot and changes since.
    for _ in range(keys // KEYS_PER_BATCH // 2):
        await writer.add(np.unique(rng.integers(0, keys, KEYS_PER_BATCH)))
    written = (await writer.states.get(0)).table
    seconds, cpu = [], []
    for _ in range(ROUNDS):
        started, started_cpu = time.perf_counter(), time.process_time()
        worker = Worker(bootstrap)
        restored = (await worker.states.get(0)).table
        seconds.append(round(time.perf_counter() - started, 3))
        cpu.append(round(time.process_time() - started_cpu, 3))
        await worker.close()
        if len(restored) != keys or restored["plays"].sum() != written["plays"].sum():
            raise SystemExit("what was restored is not what was written")
    await writer.close()
    return {"keys": keys, "restore_s": seconds, "restore_cpu_s": cpu}


def plain_faust(bootstrap: str, keys: int, home: Path) -> dict[str, Any]:
    """Restore a plain Faust table of as many keys, in a worker of its own."""
    writer = producer(bootstrap)
    for key in range(keys):
        value = json.dumps({"plays": 1, "heard_ms": key % 60_000, "last_ms": key})
        while True:
            try:
                writer.produce(FAUST_TOPIC, value, json.dumps(str(key)), partition=0)
                break
            except BufferError:
                writer.poll(0.1)
    if writer.flush(60):
        raise SystemExit("the changelog of the Faust table could not be written")
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    (port,) = free_ports(1)
    done = subprocess.run(
        [sys.executable, __file__, "faust-worker", str(keys), str(home), str(port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads((home / FIGURES).read_text())


def faust_worker(keys: int, home: Path, port: int) -> None:
    """The worker: writes how long it took from joining its group to a whole table, and ends."""
    import faust

    app = faust.App(
        FAUST_APP,
        broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
        datadir=home,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_bind="127.0.0.1",
        web_port=port,
    )
    source = app.topic(SOURCE_TOPIC)
    changelog = app.topic(FAUST_TOPIC, key_type=str, compacting=True)
    table = app.Table("table", partitions=1, key_type=str, changelog_topic=changelog)
    started: list[tuple[float, float]] = []

    @app.agent(source)
    async def count(events: Any) -> None:
        async for _ in events:
            table["never"] = {}

    @app.on_partitions_revoked.connect
    async def start(*_: Any, **__: Any) -> None:
        started.append((time.perf_counter(), time.process_time()))

    @table.on_recover
    async def finish(*_: Any) -> None:
        if len(table) != keys:
            return
        wall, cpu = started[-1]
        figures = {
            "keys": keys,
            "restore_s": round(time.perf_counter() - wall, 3),
            "restore_cpu_s": round(time.process_time() - cpu, 3),
        }
        (home / FIGURES).write_text(json.dumps(figures))
        os._exit(0)

    sys.argv[1:] = ["worker", "-l", "warn"]
    app.main()


def main() -> None:
    """Write and restore both sides' state in one run and print JSON."""
    if sys.argv[1:2] == ["faust-worker"]:
        faust_worker(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    faust_keys = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with tempfile.TemporaryDirectory() as home, running_broker(Path(home) / "broker") as bootstrap:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        log = {"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": "16777216"}
        topics = [
            NewTopic(STATE_TOPIC, 1, 1, config=log),
            NewTopic(SOURCE_TOPIC, 1, 1),
            NewTopic(FAUST_TOPIC, 1, 1, config={"cleanup.policy": "compact"}),
        ]
        for created in admin.create_topics(topics).values():
            created.result(30)
        state_log = asyncio.run(ours(bootstrap, keys))
        faust = plain_faust(bootstrap, faust_keys, Path(home) / "faust")
    times = keys / faust_keys
    scaled = {name: round(faust[name] * times, 1) for name in ("restore_s", "restore_cpu_s")}
    machine.report(
        "state_restore",
        {
            "state_log": state_log,
            "faust_table": {**faust, "scaled_to_as_many_keys": scaled},
            "ratio": {
                name: round(scaled[name] / statistics.median(state_log[name])) for name in scaled
            },
        },
    )


if __name__ == "__main__":
    main()
