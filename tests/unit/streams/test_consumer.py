"""Positions of the consumer change only while nothing is fetched and nothing is handed out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from faust.transport.drivers import aiokafka

from streams.consumer import Consumer


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


def consumer() -> Consumer:
    made = Consumer.__new__(Consumer)
    made._moving = asyncio.Lock()
    made.flow_active = True
    made.can_resume_flow, made.suspend_flow = asyncio.Event(), asyncio.Event()
    return made


async def test_positions_wait_for_what_is_being_fetched(steps: list[str]) -> None:
    one = consumer()
    fetching = asyncio.create_task(one._getmany("first"))
    await asyncio.sleep(0)
    seeking = asyncio.create_task(one.perform_seek())
    await asyncio.sleep(0)
    later = asyncio.create_task(one._getmany("second"))
    assert await fetching == "first"
    assert not one.flow_active
    await asyncio.gather(seeking, later)
    assert steps == [
        *("first begins", "first ends"),
        *("seek begins, flow False", "seek ends"),
        *("second begins", "second ends"),
    ]
