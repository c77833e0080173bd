"""No record is skipped where positions change, and one that was skipped is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import faust
import pytest
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.runtime.faust.consumer import Consumer, SkippedError, Transport

EVENTS = TP("events", 0)


async def _nothing(*_: Any) -> None:
    """What is called with records and at rebalances."""


@pytest.fixture
async def consumer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumer]:
    """A consumer that is never started, whose thread's loop nobody else would close."""
    policy = asyncio.get_event_loop_policy()
    loops: list[asyncio.AbstractEventLoop] = []
    make = policy.new_event_loop

    def kept() -> asyncio.AbstractEventLoop:
        loops.append(make())
        return loops[-1]

    app = faust.App("test", broker="kafka://127.0.0.1:1", autodiscover=False)
    transport = Transport(app.conf.broker_consumer, app)
    with monkeypatch.context() as patch:
        patch.setattr(policy, "new_event_loop", kept)
        made = transport.create_consumer(
            _nothing, on_partitions_revoked=_nothing, on_partitions_assigned=_nothing
        )
    assert isinstance(made, Consumer)
    yield made
    for loop in loops:
        loop.close()


def test_records_one_after_another_and_records_that_come_again_are_fine(consumer: Consumer) -> None:
    for offset in (7, 8, 9, 8, 9, 10):
        consumer.delivered(EVENTS, offset)


def test_a_record_that_is_missing_is_noticed(consumer: Consumer) -> None:
    consumer.delivered(EVENTS, 7)
    consumer.delivered(TP("events", 1), 9)
    with pytest.raises(SkippedError, match=r"events\[0\]: offset 9 came where 8 was next"):
        consumer.delivered(EVENTS, 9)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Faust's own consumer was asked to do, in order."""
    found: list[str] = []

    async def getmany(_: Any, name: str) -> str:
        found.append(f"{name} begins")
        await asyncio.sleep(0.02)
        found.append(f"{name} ends")
        return name

    async def perform_seek(consumer: Consumer) -> None:
        found.append(f"seek begins, flow {consumer.flow_active}")
        await asyncio.sleep(0.02)
        found.append("seek ends")

    monkeypatch.setattr(aiokafka.Consumer, "_getmany", getmany)
    monkeypatch.setattr(aiokafka.Consumer, "perform_seek", perform_seek)
    return found


async def test_positions_wait_for_what_is_being_fetched(
    consumer: Consumer, steps: list[str]
) -> None:
    consumer.resume_flow()
    fetching = asyncio.create_task(consumer._getmany("first"))
    await asyncio.sleep(0)
    seeking = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)
    later = asyncio.create_task(consumer._getmany("second"))
    assert await fetching == "first"
    assert not consumer.flow_active
    await asyncio.gather(seeking, later)
    assert steps == [
        *("first begins", "first ends"),
        *("seek begins, flow False", "seek ends"),
        *("second begins", "second ends"),
    ]
