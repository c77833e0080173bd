"""A state comes back as it was acknowledged, whoever wrote to its log and truncated it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryLog, MemoryStateLog
from streams.state.log import Entry, StateFold, change, from_records, snapshot, to_records
from streams.state.store import FencedError, Fold, LogStates, StateLostError
from topology.graph import build_graph, changelog_name

TOPIC = changelog_name(build_graph(1).stages["track_engagement"], "engagement_state")
NEVER = 1 << 60


class Sums:
    """The state of a log whose record at offset n adds n + 1 to the key n % 7."""

    def __init__(self) -> None:
        self.applied = -1
        self.sums: dict[str, int] = {}
        self._changed: set[str] = set()

    def fold(self, end: int) -> None:
        for offset in range(self.applied + 1, end):
            key = str(offset % 7)
            self.sums[key] = self.sums.get(key, 0) + offset + 1
            self._changed.add(key)
            self.applied = offset

    def changes(self) -> bytes:
        changed, self._changed = self._changed, set()
        return json.dumps({key: self.sums[key] for key in changed}).encode()

    def snapshot(self) -> Iterable[bytes]:
        self._changed = set()
        items = sorted(self.sums.items())
        return [json.dumps(dict(items[at::3])).encode() for at in range(3)]

    def load_changes(self, value: bytes) -> None:
        self.sums.update(json.loads(value))

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.sums.update(json.loads(piece))


def expected(applied: int) -> dict[str, int]:
    state = Sums()
    state.fold(applied + 1)
    return state.sums


class Worker:
    """One owner of partition 0 on a shared log."""

    def __init__(self, log: MemoryLog, snapshot_bytes: int = NEVER) -> None:
        self.pending: list[asyncio.Future[Any]] = []
        state_log = MemoryStateLog(log, TOPIC)
        self.states = LogStates(state_log, lambda _: Sums(), self._track, snapshot_bytes)
        self.states.assign([0])

    def _track(self, delivery: Awaitable[Any]) -> None:
        arrival = asyncio.ensure_future(delivery)
        arrival.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.pending.append(arrival)

    async def handle(self, end: int) -> int:
        """Fold the source up to ``end``; the offset that may be acknowledged."""
        state = await self.states.get(0)
        state.fold(end)
        await self.states.save(0)
        await self.flush()
        return state.applied

    async def flush(self) -> None:
        pending, self.pending = self.pending, []
        for outcome in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(build_graph(1))


async def restored(log: MemoryLog) -> Sums:
    return await Worker(log).states.get(0)


async def test_a_state_is_restored_as_it_was_saved(log: MemoryLog) -> None:
    worker = Worker(log)
    for end in (3, 10, 25):
        await worker.handle(end)
    state = await restored(log)
    assert (state.applied, state.sums) == (24, expected(24))


async def test_nothing_is_appended_when_nothing_was_applied(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.handle(5)
    await worker.handle(5)
    assert log.bounds(TOPIC, 0) == (0, 1)


async def test_the_log_is_cut_at_a_snapshot_and_stays_short(log: MemoryLog) -> None:
    worker = Worker(log, snapshot_bytes=200)
    for end in range(1, 300):
        await worker.handle(end)
        await asyncio.sleep(0)
    start, end = log.bounds(TOPIC, 0)
    assert start > 100
    assert end - start < 30
    state = await restored(log)
    assert (state.applied, state.sums) == (298, expected(298))


async def test_whoever_lost_the_partition_is_fenced_and_its_successor_as_well(
    log: MemoryLog,
) -> None:
    old, new = Worker(log), Worker(log)
    await old.handle(10)
    assert await new.handle(20) == 19
    with pytest.raises(FencedError, match="offset 2 instead of 1"):
        await old.handle(30)
    with pytest.raises(FencedError):
        await new.handle(40)
    state = await restored(log)
    assert state.sums == expected(state.applied)
    assert state.applied >= 19


async def test_a_held_state_is_not_read_again_after_a_rebalance(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.handle(10)
    state = await worker.states.get(0)
    worker.states.revoke()
    assert worker.states.owned() == {}
    worker.states.assign([0])
    assert worker.states.owned() == {}
    await worker.states.restore()
    assert worker.states.owned() == {0: state}
    await worker.handle(12)


class LateLog(MemoryStateLog):
    """A log whose answers are a while old when they come."""

    async def end(self, partition: int) -> int:
        found = await super().end(partition)
        await a_while()
        return found

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        found = await super().replay(partition, into)
        await a_while()
        return found


async def a_while() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("known", [False, True], ids=["new here", "held before"])
async def test_a_state_is_not_replaced_while_a_handler_has_it(log: MemoryLog, known: bool) -> None:
    await Worker(log).handle(10)
    worker = Worker(log)
    worker.states = LogStates(LateLog(log, TOPIC), lambda _: Sums(), worker._track, NEVER)
    worker.states.assign([0])
    if known:
        await worker.states.get(0)
    handed = []

    async def handle() -> None:
        for end in range(11, 200):
            state = await worker.states.get(0)
            # What the handler has acknowledged does not come again: a state that lacks it loses it.
            assert state.applied == end - 2
            state.fold(end)
            await worker.states.save(0)
            handed.append(state)
            await asyncio.sleep(0)

    # Each rebalance has the state restored, for timers, whether or not a handler asks as well.
    worker.states.revoke()
    worker.states.assign([0])
    restoring = [asyncio.ensure_future(worker.states.get(0))]
    await asyncio.gather(handle(), *(worker.states.restore() for _ in range(3)))
    assert {id(state) for state in handed} == {id(await restoring[0])}
    await worker.flush()
    assert (await restored(log)).sums == expected(198)


async def test_a_state_that_another_worker_went_on_with_is_read_again(log: MemoryLog) -> None:
    worker, other = Worker(log), Worker(log)
    await worker.handle(10)
    worker.states.revoke()
    await other.handle(20)
    worker.states.assign([0])
    assert (await worker.states.get(0)).applied == 19
    assert await worker.handle(30) == 29
    assert (await restored(log)).sums == expected(29)


async def test_a_partition_that_left_cannot_be_saved(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.handle(10)
    worker.states.revoke()
    worker.states.assign([1])
    with pytest.raises(FencedError, match="left this worker"):
        await worker.states.save(0)


async def test_a_log_that_lost_its_beginning_is_refused(log: MemoryLog) -> None:
    worker = Worker(log)
    for end in (3, 10):
        await worker.handle(end)
    log.truncate(TOPIC, 0, 1)
    with pytest.raises(StateLostError, match="begins at offset 1"):
        await restored(log)


def test_records_of_strangers_are_refused(log: MemoryLog) -> None:
    with pytest.raises(ValueError, match="no header 'piece'"):
        StateFold(Sums).apply(log.append(TOPIC, b"{}", partition=0))


def test_what_is_large_travels_in_several_records() -> None:
    large = b"x" * (20 * 1_048_576)
    for entry in (change(large, "", -1, 5, None), snapshot([large], "", 5, None)):
        assert [len(value) for value, _ in to_records(entry)] == [8 << 20, 8 << 20, 4 << 20]


@given(
    pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    longest=st.integers(1, 12),
)
def test_no_record_is_too_long_and_the_pieces_come_back(pieces: list[bytes], longest: int) -> None:
    entries = [snapshot(pieces, "", 5, ""), change(b"".join(pieces), "", -1, 5, "")]
    for entry in entries:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("streams.state.log.RECORD_BYTES", longest)
            records = list(to_records(entry))
        assert max(len(value) for value, _ in records) <= longest
        messages = [
            Message(TOPIC, 0, offset, None, value, headers=tuple(headers))
            for offset, (value, headers) in enumerate(records)
        ]
        assert from_records(messages) == entry


def test_a_change_that_an_earlier_release_has_cut_is_read() -> None:
    headers = {
        "kind": "change",
        "id": "a",
        "pieces": "2",
        "base": "",
        "since": "-1",
        "applied": "3",
    }
    records = [
        Message(
            TOPIC,
            0,
            place,
            None,
            value,
            headers=tuple((k, v.encode()) for k, v in {**headers, "piece": str(place)}.items()),
        )
        for place, value in enumerate((b'{"0": ', b"9}"))
    ]
    fold = StateFold(Sums)
    for record in records:
        fold.apply(record)
    assert (fold.state.sums, fold.state.applied) == ({"0": 9}, 3)


def append(log: MemoryLog, entry: Entry) -> None:
    for value, headers in to_records(entry):
        log.append(TOPIC, value, partition=0, headers=tuple(headers))


async def test_a_snapshot_that_is_interrupted_does_not_count(log: MemoryLog) -> None:
    await Worker(log).handle(10)
    broken = list(to_records(snapshot([b'{"0": -1}'] * 3, "", 20, None)))
    for value, headers in broken[:2]:
        log.append(TOPIC, value, partition=0, headers=tuple(headers))
    assert await Worker(log).handle(15) == 14
    value, headers = broken[2]
    log.append(TOPIC, value, partition=0, headers=tuple(headers))
    state = await restored(log)
    assert (state.applied, state.sums) == (14, expected(14))


async def test_a_snapshot_of_a_fenced_worker_that_is_behind_does_not_count(log: MemoryLog) -> None:
    await Worker(log).handle(20)
    behind = Sums()
    behind.fold(10)
    append(log, snapshot(list(behind.snapshot()), "", behind.applied, None))
    assert (await restored(log)).applied == 19


async def test_a_change_of_another_snapshot_or_after_a_gap_does_not_count(log: MemoryLog) -> None:
    await Worker(log).handle(20)
    append(log, change(b'{"0": -1}', "another", 19, 25, None))
    append(log, change(b'{"0": -1}', "", 20, 25, None))
    state = await restored(log)
    assert (state.applied, state.sums) == (19, expected(19))


class SlowLog(MemoryStateLog):
    """Records arrive and truncations happen when told: in order, as an idempotent producer's."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, TOPIC)
        self.under_way: list[tuple[bytes, Any, asyncio.Future[int]]] = []
        self.truncations: list[int] = []

    def append(self, partition: int, value: bytes, headers: Any) -> Awaitable[int]:
        arrival: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.under_way.append((value, headers, arrival))
        return arrival

    async def arrive(self) -> None:
        value, headers, arrival = self.under_way.pop(0)
        arrival.set_result(await super().append(0, value, headers))

    async def truncate(self, partition: int, offset: int) -> None:
        self.truncations.append(offset)

    async def truncate_now(self) -> None:
        await super().truncate(0, self.truncations.pop(0))


class Rival(Worker):
    """A worker that believes it owns the partition, until the log tells it otherwise."""

    def __init__(self, log: MemoryLog, snapshot_bytes: int) -> None:
        super().__init__(log, snapshot_bytes)
        self.log = SlowLog(log)
        self.states = LogStates(self.log, lambda _: Sums(), self._track, snapshot_bytes)
        self.states.assign([0])
        self.applied = -1

    async def act(self, act: str, acknowledged: int) -> int:
        """One step; the offset acknowledged by it, or before. FencedError ends the worker."""
        if act == "arrive" and self.log.under_way:
            await self.log.arrive()
            if not self.log.under_way:
                await self.flush()
                return max(acknowledged, self.applied)
        elif act == "truncate" and self.log.truncations:
            await self.log.truncate_now()
        elif act == "handle" and not self.log.under_way:
            state = await self.states.get(0)
            state.fold(max(state.applied, acknowledged) + 3)
            await self.states.save(0)
            self.applied = state.applied
        elif act == "rebalance" and not self.log.under_way:
            self.states.revoke()
            self.states.assign([0])
        await asyncio.sleep(0)
        return acknowledged


ACTS = {"handle": 25, "arrive": 60, "truncate": 5, "rebalance": 6, "crash": 4}


@settings(max_examples=50, deadline=None)
@given(chance=st.randoms(use_true_random=True), snapshot_bytes=st.sampled_from([1, 60, 150]))
def test_nothing_acknowledged_is_lost_however_workers_fight(
    chance: random.Random, snapshot_bytes: int
) -> None:
    """Records of three owners mix in the log; a fenced one starts again."""

    async def fight() -> None:
        log = MemoryLog(build_graph(1))
        rivals = [Rival(log, snapshot_bytes) for _ in range(3)]
        acknowledged = -1
        for act in chance.choices(list(ACTS), list(ACTS.values()), k=300):
            who = chance.choices(range(3), [6, 3, 1])[0]
            try:
                acknowledged = await rivals[who].act(act, acknowledged)
            except FencedError:
                act = "crash"
            if act == "crash":
                rivals[who] = Rival(log, snapshot_bytes)
            state = await restored(log)
            assert state.applied >= acknowledged
            assert state.sums == expected(state.applied)

    asyncio.run(fight())
