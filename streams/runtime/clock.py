"""The time as a stage asks for it: the system's, or one that is moved by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable
from itertools import count
from typing import Protocol, TypeVar

T = TypeVar("T")

_NS = 1_000_000_000
_TURNS = 50
"""Turns of the event loop in which whoever was woken gets as far as he can."""


class Clock(Protocol):
    """What tells a stage the time and lets it wait."""

    def now(self) -> float:
        """Wall time: seconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment, for spans: never goes back, whoever sets the wall clock."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds; at once, but after the others had a turn, for 0 or less."""


class SystemClock:
    """The time of this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until it is moved.

    Sleepers wake in the order of their due times, those of one time in the order in which they
    lay down. Times are kept in nanoseconds, so ten steps of 0.1 s are one second.
    """

    def __init__(self, now_s: float = 0.0):
        self._elapsed = 0
        self._started = _to_ns(now_s)
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._turn = count()
        self._slept: asyncio.Event | None = None

    def now(self) -> float:
        return (self._started + self._elapsed) / _NS

    def monotonic(self) -> float:
        return self._elapsed / _NS

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self._elapsed + _to_ns(seconds)
        heapq.heappush(self._sleepers, (due, next(self._turn), woken))
        if self._slept is not None:
            self._slept.set()
        await woken

    def set(self, now_s: float) -> None:
        """Set the wall time, forward or back; nobody wakes, and `monotonic` does not move."""
        self._started = _to_ns(now_s) - self._elapsed

    def move(self, seconds: float) -> None:
        """Let time pass at once: all who are due wake in order, at the time it is then."""
        self._move_to(self._elapsed + _to_ns(seconds))

    async def advance(self, seconds: float) -> None:
        """Let time pass as it would: each sleeper wakes at his own time and gets to act.

        He has a number of turns of the event loop for it, the same in every run; work in threads
        is not waited for.
        """
        until = self._elapsed + _to_ns(seconds)
        # Who is about to lie down lies down first.
        await _settle()
        while (due := self._next_due()) is not None and due <= until:
            self._move_to(due)
            await _settle()
        self._move_to(until)

    async def drive(self, work: Awaitable[T]) -> T:
        """What ``work`` returns; while it can only sleep on this clock, time passes for it.

        Work in threads or on sockets is not seen: beside it time runs ahead of a sleeper.
        """
        task = asyncio.ensure_future(work)
        self._slept = slept = asyncio.Event()
        try:
            while not await _settle(task):
                if (due := self._next_due()) is not None:
                    self._move_to(due)
                    continue
                slept.clear()
                lain_down = asyncio.ensure_future(slept.wait())
                await asyncio.wait({task, lain_down}, return_when=asyncio.FIRST_COMPLETED)
                lain_down.cancel()
        finally:
            self._slept = None
            task.cancel()
        return await task

    def _next_due(self) -> int | None:
        """When the next sleeper wakes; None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def _move_to(self, elapsed: int) -> None:
        self._elapsed = elapsed
        while (due := self._next_due()) is not None and due <= elapsed:
            heapq.heappop(self._sleepers)[2].set_result(None)


def _to_ns(seconds: float) -> int:
    return round(seconds * _NS)


async def _settle(task: asyncio.Future[T] | None = None) -> bool:
    """Let the others act, until ``task`` is done if there is one; whether it is."""
    for _ in range(_TURNS):
        if task is not None and task.done():
            return True
        await asyncio.sleep(0)
    return task is not None and task.done()
