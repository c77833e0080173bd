"""A keyed table goes on from the changelog that Faust kept it in, once; the changelog stays."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.clients import producer
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.state.faust_changelog import FaustChangelog
from streams.state.kafka_log import Appender, KafkaStateLog
from streams.state.keyed_table import KeyedState, StateTable
from streams.state.store import LogStates

pytestmark = pytest.mark.broker

PARTITIONS = 2


@pytest.fixture
def names(broker: str) -> tuple[str, str]:
    """A compacted changelog and a log of state."""
    name = uuid.uuid4().hex[:8]
    changelog, state = f"{name}-changelog", f"{name}-state"
    admin = AdminClient({"bootstrap.servers": broker})
    topics = [
        NewTopic(changelog, PARTITIONS, 1, config={"cleanup.policy": "compact"}),
        NewTopic(state, PARTITIONS, 1, config={"cleanup.policy": "delete"}),
    ]
    for created in admin.create_topics(topics).values():
        created.result(30)
    return changelog, state


class Worker:
    """A worker of the stage whose table it is."""

    def __init__(self, broker: str, changelog: str, state: str):
        self.appender = Appender(broker)
        self.log = KafkaStateLog(broker, state, self.appender)
        self.changelog = KafkaStateLog(broker, changelog, self.appender)
        self.pending: list[Awaitable[Any]] = []
        origin = FaustChangelog(self.changelog).load
        self.states = LogStates(
            self.log, lambda _: KeyedState(), self.pending.append, origin=origin
        )
        self.states.assign(range(PARTITIONS))
        self.table = StateTable(self.states)

    async def rows(self) -> list[dict[bytes, bytes]]:
        await self.states.restore()
        await self.flush()
        return [dict(self.table.items(partition)) for partition in range(PARTITIONS)]

    async def flush(self) -> None:
        await self.table.save()
        pending, self.pending[:] = list(self.pending), []
        await asyncio.gather(*pending)

    async def close(self) -> None:
        await self.log.close()
        await self.changelog.close()
        self.appender.close()


def write(broker: str, changelog: str, *rows: tuple[int, bytes, bytes | None]) -> None:
    """Records as Faust wrote them."""
    writer = producer(broker)
    for partition, key, value in rows:
        owned = partition.to_bytes(4, "big") + key
        writer.produce(changelog, value, owned, partition=partition)
    assert writer.flush(30) == 0


def everything(broker: str, topic: str) -> list[Message]:
    found: list[Message] = []
    read_all(broker, [topic], found.extend)
    return found


async def test_what_faust_kept_is_taken_over_once_and_left_as_it_is(
    broker: str, names: tuple[str, str]
) -> None:
    changelog, _ = names
    write(
        broker, changelog, (0, b"a", b"1"), (1, b"b", b"2"), (0, b"gone", b"3"), (0, b"a", b"4"),
        (0, b"gone", None), (0, b"", b"5"),
    )  # fmt: skip
    before = everything(broker, changelog)
    first = Worker(broker, *names)
    assert await first.rows() == [{b"a": b"4", b"": b"5"}, {b"b": b"2"}]
    first.table.put(0, b"a", b"6")
    await first.flush()
    await first.close()
    # Whatever an old worker might still write there counts no more.
    write(broker, changelog, (0, b"a", b"late"), (1, b"b", b"late"))
    second = Worker(broker, *names)
    assert await second.rows() == [{b"a": b"6", b"": b"5"}, {b"b": b"2"}]
    await second.close()
    assert everything(broker, changelog)[: len(before)] != []
    assert len(everything(broker, changelog)) == len(before) + 2


async def test_a_kill_while_it_is_taken_over_takes_it_over_again(
    broker: str, names: tuple[str, str]
) -> None:
    changelog, state = names
    write(broker, changelog, *((0, b"%d" % n, b"x" * 50) for n in range(1_000)))
    killed = Worker(broker, changelog, state)
    # An appender that is closed at once stands for a process that is: nothing arrives.
    killed.log.append = lambda *_: asyncio.get_running_loop().create_future()  # type: ignore[method-assign]
    await killed.states.get(0)
    await killed.close()
    assert everything(broker, state) == []
    again = Worker(broker, changelog, state)
    assert len((await again.rows())[0]) == 1_000
    await again.close()


async def test_an_instance_without_a_changelog_begins_with_nothing(
    broker: str, names: tuple[str, str]
) -> None:
    worker = Worker(broker, f"{names[0]}-never-was", names[1])
    assert await worker.rows() == [{}, {}]
    worker.table.put(0, b"a", b"1")
    await worker.flush()
    assert len(everything(broker, names[1])) == 1
    await worker.close()
