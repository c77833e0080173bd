"""Clocks that a test moves, for stages whose servers are real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine

from streams.runtime.clock import ManualClock

SHORT_S = 0.1
LOOKS, LOOK_EVERY_S = 8, 0.002
"""A connection that was given up is closed, and its end seen by the server, in fewer looks."""


class StandingClock:
    """A `ManualClock` that does not run ahead while sockets are waited for.

    The in-memory runtime lets time pass as soon as a stage only sleeps; it does not see that a
    server is about to answer. This one is moved by the test alone, from any thread. Sleeps shorter
    than `SHORT_S`, such as those before a second try at once, end at once and take no time.
    """

    def __init__(self, now_s: float = 1_790_000_000.0) -> None:
        """``now_s`` is the time to begin with, in Unix seconds."""
        self._clock = ManualClock(now_s)
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        await self._clock.sleep(seconds if seconds >= SHORT_S else 0.0)

    def move(self, seconds: float) -> None:
        """Let time pass; whoever is due wakes."""
        loop = self._loop
        if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:
            self._clock.move(seconds)
        else:
            loop.call_soon_threadsafe(self._clock.move, seconds)


class SkippingClock:
    """The system's time and what has been skipped of it: no stage waits for it in earnest.

    Who sleeps wakes as soon as nothing else can come before: when each request that is on its way
    is one that the server lets stall. As long as an answer may come, the time is the system's.
    """

    def __init__(self, limit_s: float, stalled: Callable[[], Awaitable[int]]) -> None:
        """``limit_s`` is the time limit of a request, by which its sleep is known, also after some
        redirects. ``stalled()``: how many requests stall, as the server knows once it has looked at
        all that was sent to it."""
        self._limit_s = limit_s
        self._stalled = stalled
        self._skipped_s = 0.0
        self._ends: dict[object, float] = {}
        self._limits = 0

    def now(self) -> float:
        return time.time() + self._skipped_s

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped_s

    def skip(self, seconds: float) -> None:
        """Leave out so much time."""
        self._skipped_s += max(seconds, 0.0)

    async def sleep(self, seconds: float) -> None:
        if seconds < SHORT_S:
            return await asyncio.sleep(seconds)
        sleeper, ends = object(), self.monotonic() + seconds
        limits = self._limit_s / 2 < seconds <= self._limit_s
        self._ends[sleeper] = ends
        self._limits += limits
        looks = 0
        try:
            while self.monotonic() < ends:
                await asyncio.sleep(LOOK_EVERY_S)
                first = ends <= min(self._ends.values())
                looks = looks + 1 if first and await self._stalled() == self._limits else 0
                if looks >= LOOKS and not _task_begins():
                    self.skip(ends - self.monotonic())
        finally:
            self._limits -= limits
            del self._ends[sleeper]


def _task_begins() -> bool:
    """Whether a task of this event loop has still to begin, such as that of a time limit which
    does not sleep yet."""
    coros = (task.get_coro() for task in asyncio.all_tasks())
    return any(iscoroutine(coro) and getcoroutinestate(coro) == CORO_CREATED for coro in coros)
