"""Batches hold what has arrived, wait no longer than told, and give back-pressure."""

from __future__ import annotations

import asyncio

import pytest

from streams.runtime.inbox import Inbox


async def fill(inbox: Inbox[int], number: int) -> None:
    for item in range(number):
        await inbox.put(item)


async def test_a_batch_is_what_is_there_up_to_the_limit() -> None:
    inbox: Inbox[int] = Inbox(3)
    filling = asyncio.ensure_future(fill(inbox, 5))
    assert await inbox.take() == [0, 1, 2]
    await filling
    assert await inbox.take() == [3, 4]


async def test_a_full_batch_does_not_wait() -> None:
    inbox: Inbox[int] = Inbox(3)
    taking = asyncio.ensure_future(inbox.take(linger_s=60))
    await asyncio.sleep(0)
    await fill(inbox, 3)
    assert await asyncio.wait_for(taking, 1) == [0, 1, 2]


async def test_a_batch_waits_for_what_comes_soon_after_the_first() -> None:
    inbox: Inbox[int] = Inbox(10)
    taking = asyncio.ensure_future(inbox.take(linger_s=0.2))
    await inbox.put(1)
    await asyncio.sleep(0.02)
    assert not taking.done()
    await inbox.put(2)
    assert await asyncio.wait_for(taking, 1) == [1, 2]


async def test_a_full_inbox_makes_the_sender_wait() -> None:
    inbox: Inbox[int] = Inbox(2)
    filling = asyncio.ensure_future(fill(inbox, 6))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(filling), 0.02)
    assert len(inbox) == 2
    assert [await inbox.take() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    await filling
