"""Time limits by a stage's clock: asyncio's own ask the event loop, which no test can move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from streams.runtime.clock import Clock

T = TypeVar("T")


@asynccontextmanager
async def time_limit(clock: Clock, seconds: float | None) -> AsyncIterator[None]:
    """Raises TimeoutError from the block once so many seconds are over; None for no limit."""
    if seconds is None:
        yield
        return
    ends_at = clock.monotonic() + seconds
    async with asyncio.timeout(None) as limit:

        async def expire() -> None:
            await clock.sleep(ends_at - clock.monotonic())
            limit.reschedule(0.0)  # the event loop's time is always later

        timer = asyncio.ensure_future(expire())
        try:
            yield
        finally:
            timer.cancel()


async def first_done(
    clock: Clock, tasks: Collection[asyncio.Task[T]], seconds: float
) -> set[asyncio.Task[T]]:
    """Those of the tasks that are done, as soon as one is; none once so many seconds are over."""
    with suppress(TimeoutError):
        async with time_limit(clock, seconds):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done
    return set()
