"""Which polls are under way: several at once, few at one host, and nobody waits for the slowest."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from streams.http.rate_limits import host_of
from streams.http.time_limits import first_done
from streams.runtime.clock import Clock

POLLS_AT_ONCE = 32
POLLS_A_HOST = 2
"""Fewer than a host may be asked at once: those that wait for their turn hold their places."""
POLLS_A_TICK = 256
POLLS_A_HOST_AND_TICK = 32
LONGEST_TICK_S = 3.0
LOOK_EVERY_S = 1.0

FeedKey = tuple[int, str]
"""The partition that owns a feed, and the feed's URL."""


class PollScheduler:
    """The polls of one source. Those that take long go on from one `go_on` to the next."""

    def __init__(
        self,
        poll: Callable[[FeedKey], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """``poll(feed)`` polls one feed; ``close()`` gives back what polls share, and is called
        when none is under way."""
        self._poll = poll
        self._close = close
        self._clock = clock
        self._tasks: dict[FeedKey, asyncio.Task[None]] = {}
        self._attended = False
        """Whether a call of `go_on` is under way, which gives back what polls share."""

    async def go_on(self, due: Callable[[], Iterable[FeedKey]]) -> None:
        """Begin polls of what is due, the first ones first, and wait for their end, though not
        longer than a few seconds once something else is due. Raises what a poll raised."""
        patient_until = self._clock.monotonic() + LONGEST_TICK_S
        self._attended = True
        try:
            self._reap()
            waiting = self._next(due())
            while True:
                waiting = self._begin(waiting)
                if not self._tasks:
                    return await self._close()
                await first_done(self._clock, self._tasks.values(), LOOK_EVERY_S)
                self._reap()
                if self._clock.monotonic() >= patient_until and self._next(due()):
                    return None
        except BaseException:
            await self._stop()
            raise
        finally:
            self._attended = False

    def _next(self, due: Iterable[FeedKey]) -> list[FeedKey]:
        """What is to be polled now: of one host no more than leaves others theirs."""
        found: list[FeedKey] = []
        of_host: Counter[str] = Counter()
        for feed in due:
            host = _host_of(feed)
            if feed in self._tasks or of_host[host] >= POLLS_A_HOST_AND_TICK:
                continue
            of_host[host] += 1
            found.append(feed)
            if len(found) >= POLLS_A_TICK:
                break
        return found

    def _begin(self, waiting: list[FeedKey]) -> list[FeedKey]:
        """Begin what there is room for; the rest."""
        under_way = Counter(map(_host_of, self._tasks))
        rest: list[FeedKey] = []
        for feed in waiting:
            host = _host_of(feed)
            if len(self._tasks) >= POLLS_AT_ONCE or under_way[host] >= POLLS_A_HOST:
                rest.append(feed)
                continue
            under_way[host] += 1
            self._tasks[feed] = asyncio.create_task(self._run(feed))
        return rest

    async def _run(self, feed: FeedKey) -> None:
        try:
            await self._poll(feed)
        finally:
            # Between two calls nobody else does: what polls share must not outlive the loop.
            others = (task for other, task in self._tasks.items() if other != feed)
            if not self._attended and all(task.done() for task in others):
                await self._close()

    def _reap(self) -> None:
        """Forget what has ended; raises the error of one that failed."""
        ended = [feed for feed, task in self._tasks.items() if task.done()]
        for task in [self._tasks.pop(feed) for feed in ended]:
            if not task.cancelled():
                task.result()

    async def _stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        await self._close()


def _host_of(feed: FeedKey) -> str:
    """The host of a feed; for an index, which has none, the name of its subscription."""
    return host_of(feed[1]) or feed[1]
