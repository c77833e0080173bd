"""`batch_events` in memory goes on after a kill at any of its records as if there had been none."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import BadRecordError
from streams.events.core.origins import CLIENT_ID, Tally, tally_of
from streams.events.core.sequencing import LogMismatchError
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.wire import ERROR_PREFIX
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 2
SOURCE, TARGET, DEAD = "user-events", "user-event-batches", "user-events.dlq"
MAX_BATCH = 3
REPEATS_WITHIN = 6
OWNED = ("bob", "ada")
"""A listener of each partition, by Kafka's default."""


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
            "user_id": OWNED[number % PARTITIONS],
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": NOW,
            "heard_ms": -1 if number % 5 == 0 else number,
        }
        value = b"garbage" if number % 7 == 3 else record
        runtime.log.append(SOURCE, value, key="k", partition=number % PARTITIONS)
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


LISTENERS = [f"listener-{number}" for number in range(7)]
EVENTS = [(LISTENERS[number % 7], f"e{number // 7}") for number in range(35)]
PLACED: dict[str, Callable[[int, str], int]] = {
    "as ours": lambda _, user: partition_of(user.encode(), PARTITIONS),
    "by CRC32": lambda _, user: zlib.crc32(user.encode()) % PARTITIONS,
    "without a key": lambda number, _: number % PARTITIONS,
    "in one partition": lambda *_: 0,
}


def placed(home: Path, rules: list[str], window: int = 100_000) -> MemoryRuntime:
    """A log of the same events, of which the first came twice, placed by these rules in turn."""
    settings = Settings(podstream_home=home, event_partitions=PARTITIONS, dedup_window=window)
    runtime = MemoryRuntime(build_graph(PARTITIONS), settings)
    runtime.clock.set(NOW.timestamp())
    runtime.start("batch_events")
    for number, (user, event_id) in enumerate([EVENTS[0], *EVENTS]):
        record = {
            "event_id": event_id,
            "user_id": user,
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": NOW,
            "heard_ms": number,
        }
        partition = PLACED[rules[number % len(rules)]](number, user)
        headers = ((CLIENT_ID, b"the app"),) if number % 2 else ()
        runtime.log.append(SOURCE, record, key=user, partition=partition, headers=headers)
    return runtime


def rows_of(runtime: MemoryRuntime) -> list[tuple[int, int, str, str]]:
    return [
        row
        for frame in runtime.log.decoded(TARGET)
        for row in frame.select("partition", "offset", "user_id", "event_id").rows()
    ]


def tallies(runtime: MemoryRuntime) -> list[Tally]:
    """What the last batch of each partition says."""
    newest = {message.partition: message.headers for message in runtime.log.records(TARGET)}
    return [tally_of(headers) for headers in newest.values()]


RULES = [*([rule] for rule in PLACED), list(PLACED)]


@pytest.mark.parametrize("rules", RULES, ids=" and ".join)
def test_a_listener_has_one_partition_whoever_placed_the_events(
    tmp_path: Path, rules: list[str]
) -> None:
    runtime = placed(tmp_path, rules)
    runtime.run(max_batch=MAX_BATCH)
    found = rows_of(runtime)
    assert sorted((user, event_id) for _, _, user, event_id in found) == sorted(EVENTS)
    for partition, _, user, _ in found:
        assert partition == partition_of(user.encode(), PARTITIONS)
    strays = sum(
        PLACED[rules[number % len(rules)]](number, user) != partition_of(user.encode(), PARTITIONS)
        for number, (user, _) in enumerate([EVENTS[0], *EVENTS])
    )
    assert sum(tally.moved for tally in tallies(runtime)) == strays
    clients = [name for tally in tallies(runtime) for name in tally.clients]
    assert set(clients) == ({"the app", "unknown"} if strays else set())
    assert len(runtime.log.records(SOURCE)) == 36 + strays
    if len(rules) == 1 and rules[0] != "without a key":
        for user in LISTENERS:
            own = [event_id for _, _, name, event_id in found if name == user]
            assert own == sorted(own), "in the order in which one producer sent them"


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("window", [1, 100_000])
def test_a_kill_while_events_are_handed_over_doubles_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, window: int
) -> None:
    """Also where a repeat comes later than the window of repeats reaches."""
    number, killed = 0, True
    while killed:
        runtime = placed(tmp_path, ["in one partition"], window)
        kill_at(runtime, number, monkeypatch, written=written)
        try:
            runtime.run(max_batch=MAX_BATCH)
            killed = False
        except KilledError:
            runtime.crash("batch_events")
            runtime.run(max_batch=MAX_BATCH + 2)
        found = [(user, event_id) for _, _, user, event_id in rows_of(runtime)]
        assert sorted(found) == sorted(EVENTS), f"killed at {number}"
        number += 1
    assert number > 20
