"""Which polls go on side by side, with polls that last as long as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from streams.ingest.poll_scheduler import (
    LONGEST_TICK_S,
    POLLS_A_HOST,
    POLLS_AT_ONCE,
    FeedKey,
    PollScheduler,
)
from streams.runtime.clock import ManualClock


class Feeds:
    """Feeds that are due until they have been polled; those of the hosts in ``slow`` hang."""

    def __init__(self, **hosts: int) -> None:
        self.waiting = [
            (0, f"https://{host}.example/{number}")
            for host, count in hosts.items()
            for number in range(count)
        ]
        self.slow = {"slow"}
        self.broken: set[FeedKey] = set()
        self.under_way: list[FeedKey] = []
        self.most_at_once = 0
        self.begun: list[FeedKey] = []
        self.cancelled: list[FeedKey] = []
        self.closed_with: list[int] = []
        self.clock = ManualClock()
        self.polls = PollScheduler(self.poll, self.close, self.clock)

    async def go_on(self) -> None:
        """One call, for which time passes as it waits."""
        await self.clock.drive(self.polls.go_on(self.due))

    def due(self) -> Iterator[FeedKey]:
        return iter(self.waiting)

    async def poll(self, feed: FeedKey) -> None:
        self.begun.append(feed)
        self.under_way.append(feed)
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        try:
            await self.clock.sleep(0.1)
            while any(f"//{host}." in feed[1] for host in self.slow):
                await self.clock.sleep(0.1)
            if feed in self.broken:
                raise RuntimeError("a bug")
            self.waiting.remove(feed)
        except asyncio.CancelledError:
            self.cancelled.append(feed)
            raise
        finally:
            self.under_way.remove(feed)

    async def close(self) -> None:
        self.closed_with.append(len(self.under_way))


async def test_all_that_is_due_is_polled_once_and_then_connections_are_given_back() -> None:
    feeds = Feeds(**{f"host{n}": 4 for n in range(40)})
    everything = list(feeds.waiting)
    await feeds.go_on()
    assert sorted(feeds.begun) == sorted(everything)
    assert POLLS_AT_ONCE // 2 < feeds.most_at_once <= POLLS_AT_ONCE
    assert feeds.closed_with == [0]


async def test_a_slow_host_keeps_its_few_places_and_nobody_waits_for_it() -> None:
    feeds = Feeds(slow=400, quick=10, other=10)
    slow = [feed for feed in feeds.waiting if "slow" in feed[1]]
    await feeds.go_on()
    assert feeds.clock.monotonic() < LONGEST_TICK_S + 2
    assert [feed for feed in feeds.waiting if "slow" not in feed[1]] == []
    assert feeds.under_way == slow[:POLLS_A_HOST]
    assert feeds.closed_with == []
    # The slow ones go on, others come in between, and nothing is begun twice.
    late = (1, "https://late.example/")
    feeds.waiting.append(late)
    await feeds.go_on()
    assert feeds.begun[-1] == late
    assert feeds.under_way == slow[:POLLS_A_HOST]
    feeds.slow.clear()
    while feeds.waiting:
        await feeds.go_on()
    assert len(feeds.begun) == len(set(feeds.begun)) == 421
    assert feeds.closed_with[-1] == 0


async def test_what_a_poll_raises_ends_all_of_them() -> None:
    feeds = Feeds(slow=1, quick=1)
    feeds.broken = {(0, "https://quick.example/0")}
    with pytest.raises(RuntimeError, match="a bug"):
        await feeds.go_on()
    assert feeds.cancelled == [(0, "https://slow.example/0")]
    assert feeds.closed_with[-1] == 0


async def test_what_a_poll_raises_between_two_calls_is_raised_by_the_next() -> None:
    feeds = Feeds(slow=3)
    feeds.broken = {(0, "https://slow.example/0")}
    await feeds.go_on()
    feeds.slow.clear()
    await feeds.clock.advance(1)
    with pytest.raises(RuntimeError, match="a bug"):
        await feeds.go_on()


async def test_a_shutdown_ends_them_and_gives_connections_back() -> None:
    feeds = Feeds(slow=2)
    task = asyncio.create_task(feeds.polls.go_on(feeds.due))
    await feeds.clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(feeds.cancelled) == 2
    assert feeds.closed_with[-1] == 0


async def test_the_last_poll_to_end_between_two_calls_gives_connections_back() -> None:
    feeds = Feeds(slow=3)
    await feeds.go_on()
    assert feeds.closed_with == []
    feeds.slow.clear()
    await feeds.clock.advance(1)
    assert feeds.under_way == []
    assert feeds.closed_with == [0]


def test_the_end_of_the_loop_ends_them_as_well_and_another_loop_begins_anew() -> None:
    feeds = Feeds(slow=3)
    asyncio.run(feeds.go_on())
    assert len(feeds.cancelled) == POLLS_A_HOST
    assert len(feeds.closed_with) == 1
    feeds.slow.clear()
    asyncio.run(feeds.go_on())
    assert feeds.waiting == []
