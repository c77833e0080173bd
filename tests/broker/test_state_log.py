"""The log of a state on a real broker: restored, truncated, and fenced against a second writer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.state.kafka_log import Appender, KafkaStateLog
from streams.state.log import StateFold
from streams.state.store import FencedError, LogStates, StateLostError
from topology.graph import STATE_MESSAGE_BYTES

pytestmark = pytest.mark.broker

KEYS = 20_000


class Counters:
    """The state of a log whose record at offset n adds one to some counters."""

    def __init__(self) -> None:
        self.applied = -1
        self.counts = np.zeros(KEYS, np.int64)
        self._changed: list[np.ndarray] = []

    def fold(self, end: int) -> None:
        for offset in range(self.applied + 1, end):
            touched = np.random.default_rng(offset).integers(KEYS, size=50)
            np.add.at(self.counts, touched, 1)
            self._changed.append(touched)
            self.applied = offset

    def changes(self) -> bytes:
        touched = np.unique(np.concatenate(self._changed))
        self._changed = []
        return np.stack([touched, self.counts[touched]]).tobytes()

    def snapshot(self) -> Iterable[bytes]:
        self._changed = []
        return [part.tobytes() for part in np.array_split(self.counts, 4)]

    def load_changes(self, value: bytes) -> None:
        touched, counts = np.frombuffer(value, np.int64).reshape(2, -1)
        self.counts[touched] = counts

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        self.counts = np.frombuffer(b"".join(pieces), np.int64).copy()


@pytest.fixture
def topic(broker: str) -> str:
    name = f"states-{uuid.uuid4().hex[:8]}"
    config = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "max.message.bytes": str(STATE_MESSAGE_BYTES),
    }
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(name, 2, 1, config=config)])[name].result(30)
    return name


class Large(Counters):
    """Counters whose snapshot is one piece that no record takes, nor any compression shrinks."""

    PADDING = np.random.default_rng(1).bytes(STATE_MESSAGE_BYTES + 1)

    def snapshot(self) -> Iterable[bytes]:
        return [b"".join([*super().snapshot(), self.PADDING])]

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        (whole,) = pieces
        assert whole.endswith(self.PADDING)
        super().load_snapshot([whole.removesuffix(self.PADDING)])


class Worker:
    def __init__(
        self, broker: str, topic: str, snapshot_bytes: int, make: Callable[[], Counters]
    ) -> None:
        self.appender = Appender(broker)
        self.log = KafkaStateLog(broker, topic, self.appender)
        self.pending: list[Awaitable[Any]] = []
        self.states = LogStates(self.log, lambda _: make(), self.pending.append, snapshot_bytes)
        self.states.assign([0, 1])

    async def handle(self, partition: int, end: int) -> None:
        state = await self.states.get(partition)
        state.fold(end)
        await self.states.save(partition)
        pending, self.pending[:] = list(self.pending), []
        await asyncio.gather(*pending)

    async def close(self) -> None:
        await self.log.close()
        self.appender.close()


Hire = Callable[..., Worker]


@pytest.fixture
async def hire(broker: str, topic: str) -> AsyncIterator[Hire]:
    """Makes a worker that takes snapshots every so many bytes."""
    workers: list[Worker] = []

    def make(snapshot_bytes: int = 1 << 60, state: Callable[[], Counters] = Counters) -> Worker:
        workers.append(Worker(broker, topic, snapshot_bytes, state))
        return workers[-1]

    yield make
    for worker in workers:
        await worker.close()


def expected(end: int) -> list[int]:
    state = Counters()
    state.fold(end)
    return state.counts.tolist()


async def test_states_come_back_from_a_log_that_was_cut(hire: Hire) -> None:
    worker = hire(50_000)
    for end in range(10, 410, 10):
        await worker.handle(1, end)
    await worker.handle(0, 1)
    async with asyncio.timeout(10):
        while (await worker.log.replay(1, StateFold(Counters)))[0] == 0:
            await asyncio.sleep(0.05)
    other = hire(50_000)
    await other.states.restore()
    owned = other.states.owned()
    assert {partition: state.applied for partition, state in owned.items()} == {0: 0, 1: 399}
    assert owned[1].counts.tolist() == expected(400)
    await other.handle(1, 420)


async def test_the_first_write_of_a_worker_that_lost_its_partition_fails(hire: Hire) -> None:
    old, new = hire(), hire()
    await old.handle(0, 5)
    await new.handle(0, 10)
    with pytest.raises(FencedError, match="offset 2 instead of 1"):
        await old.handle(0, 20)
    await old.handle(1, 20)
    state = await hire().states.get(0)
    assert state.counts.tolist() == expected(state.applied + 1)
    assert state.applied == 9


async def test_a_log_without_its_beginning_is_refused(hire: Hire) -> None:
    worker = hire()
    await worker.handle(0, 5)
    await worker.handle(0, 10)
    await worker.log.truncate(0, 1)
    with pytest.raises(StateLostError, match="begins at offset 1"):
        await hire().states.get(0)


async def test_a_state_larger_than_any_record_comes_back(hire: Hire) -> None:
    worker = hire(0, Large)
    for end in (10, 20):
        await worker.handle(0, end)
    state = await hire(0, Large).states.get(0)
    assert state.applied == 19
    assert state.counts.tolist() == expected(20)
