"""Clocks that a test moves, for stages whose servers are real."""

from __future__ import annotations

import asyncio
import time

from streams.runtime.clock import ManualClock

SHORT_S = 0.1


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
    """The system's time and what a test has skipped of it: for servers that are slow in earnest.

    Time limits of requests are real; what is due later is due as soon as the time is skipped.
    """

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def now(self) -> float:
        return time.time() + self._skipped_s

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def skip(self, seconds: float) -> None:
        """Leave out so much time; nobody who sleeps wakes earlier."""
        self._skipped_s += seconds
