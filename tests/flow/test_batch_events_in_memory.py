"""`batch_events` in memory goes on after a kill at any of its records as if there had been none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import BadRecordError
from streams.events.core.sequencing import LogMismatchError
from streams.kafka.message import Message
from streams.kafka.wire import ERROR_PREFIX
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 2
SOURCE, TARGET, DEAD = "user-events", "user-event-batches", "user-events.dlq"
MAX_BATCH = 3
REPEATS_WITHIN = 6


class KilledError(Exception):
    """Stands for kill -9."""


def runtime_at(home: Path) -> MemoryRuntime:
    settings = Settings(
        podstream_home=home, event_partitions=PARTITIONS, dedup_window=REPEATS_WITHIN
    )
    runtime = MemoryRuntime(build_graph(PARTITIONS), settings)
    runtime.clock.set(NOW.timestamp())
    runtime.start("batch_events")
    for number in range(24):
        event_id = f"e{number // 4 if number % 4 else number}"
        record = {
            "event_id": event_id,
            "user_id": "ada",
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": NOW,
            "heard_ms": -1 if number % 5 == 0 else number,
        }
        value = b"garbage" if number % 7 == 3 else record
        runtime.log.append(SOURCE, value, key="ada", partition=number % PARTITIONS)
    return runtime


def kill_at(
    runtime: MemoryRuntime, number: int, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    """Let the next run die at its ``number``-th record, before or after the log has it."""
    append, left = runtime.log.append, [number]

    def dying(*args: Any, **options: Any) -> Message:
        if not left:
            return append(*args, **options)
        left[0] -= 1
        if left[0] < 0:
            left.clear()
            if written:
                append(*args, **options)
            raise KilledError
        return append(*args, **options)

    monkeypatch.setattr(runtime.log, "append", dying)


def batched(runtime: MemoryRuntime) -> list[tuple[int, int, str, int]]:
    return [
        row
        for frame in runtime.log.decoded(TARGET)
        for row in frame.select("partition", "offset", "event_id", "heard_ms").rows()
    ]


def refused(runtime: MemoryRuntime) -> list[tuple[bytes | None, bytes | None]]:
    return sorted(
        (message.header(f"{ERROR_PREFIX}partition"), message.header(f"{ERROR_PREFIX}offset"))
        for message in runtime.log.records(DEAD)
    )


def accounted(runtime: MemoryRuntime, partition: int) -> list[int]:
    """The source offsets that the batches of a partition account for, as they say."""
    return [
        offset
        for message in runtime.log.records(TARGET)
        if message.partition == partition
        for offset in range(
            int(message.header("first_offset") or b""),
            int(message.header("last_offset") or b"") + 1,
        )
    ]


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_at_any_record_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    calm = runtime_at(tmp_path)
    calm.run(max_batch=MAX_BATCH)
    expected, dead = batched(calm), refused(calm)
    assert len(dead) > 4
    assert 0 < len(expected) < 24 - len(dead), "there are repeats"
    number, killed = 0, True
    while killed:
        runtime = runtime_at(tmp_path)
        kill_at(runtime, number, monkeypatch, written=written)
        try:
            runtime.run(max_batch=MAX_BATCH)
            killed = False
        except KilledError:
            runtime.crash("batch_events")
            runtime.run(max_batch=MAX_BATCH + 2)
        assert sorted(batched(runtime)) == sorted(expected), f"killed at record {number}"
        assert refused(runtime) == dead, f"killed at record {number}"
        for partition in range(PARTITIONS):
            assert accounted(runtime, partition) == list(range(12))
        number += 1
    assert number > 10


def test_records_that_come_again_are_passed_over(tmp_path: Path) -> None:
    runtime = runtime_at(tmp_path)
    runtime.run(max_batch=MAX_BATCH)
    before = batched(runtime), refused(runtime)
    runtime.crash("batch_events", redeliver=5)
    runtime.run(max_batch=2)
    assert (batched(runtime), refused(runtime)) == before


def test_batches_of_another_source_are_a_mismatch(tmp_path: Path) -> None:
    runtime = runtime_at(tmp_path)
    runtime.run()
    other = runtime_at(tmp_path)
    for message in runtime.log.records(TARGET):
        headers = (("first_offset", b"0"), ("last_offset", b"99"))
        other.log.append(TARGET, message.value, partition=message.partition, headers=headers)
    with pytest.raises(LogMismatchError, match=r"up to offset 99, which ends at 12: was the topic"):
        other.run()


def test_a_batch_that_accounts_for_nothing_is_refused(tmp_path: Path) -> None:
    runtime = runtime_at(tmp_path)
    runtime.log.append(TARGET, b"", partition=0)
    with pytest.raises(BadRecordError, match="a batch without the header last_offset"):
        runtime.run()
