"""Places of polls, with polls that last as long as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from streams.ingest import poll_scheduler
from streams.ingest.poll_scheduler import POLLS_A_HOST, POLLS_AT_ONCE, FeedKey, PollScheduler


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
        self.polls = PollScheduler(self.poll, self.close)

    def due(self) -> Iterator[FeedKey]:
        return iter(self.waiting)

    async def poll(self, place: FeedKey) -> None:
        self.begun.append(place)
        self.under_way.append(place)
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        try:
            await asyncio.sleep(0.01)
            while any(f"//{host}." in place[1] for host in self.slow):
                await asyncio.sleep(0.01)
            if place in self.broken:
                raise RuntimeError("a bug")
            self.waiting.remove(place)
        except asyncio.CancelledError:
            self.cancelled.append(place)
            raise
        finally:
            self.under_way.remove(place)

    async def close(self) -> None:
        self.closed_with.append(len(self.under_way))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_scheduler, "LONGEST_TICK_S", 0.3)
    monkeypatch.setattr(poll_scheduler, "LOOK_EVERY_S", 0.1)


async def test_all_that_is_due_is_polled_once_and_then_connections_are_given_back() -> None:
    feeds = Feeds(**{f"host{n}": 4 for n in range(40)})
    everything = list(feeds.waiting)
    await feeds.polls.go_on(feeds.due)
    assert sorted(feeds.begun) == sorted(everything)
    assert POLLS_AT_ONCE // 2 < feeds.most_at_once <= POLLS_AT_ONCE
    assert feeds.closed_with == [0]


async def test_a_slow_host_keeps_its_few_places_and_nobody_waits_for_it() -> None:
    feeds = Feeds(slow=400, quick=10, other=10)
    slow = [place for place in feeds.waiting if "slow" in place[1]]
    async with asyncio.timeout(2):
        await feeds.polls.go_on(feeds.due)
    assert [place for place in feeds.waiting if "slow" not in place[1]] == []
    assert feeds.under_way == slow[:POLLS_A_HOST]
    assert feeds.closed_with == []
    # The slow ones go on, others come in between, and nothing is begun twice.
    late = (1, "https://late.example/")
    feeds.waiting.append(late)
    await feeds.polls.go_on(feeds.due)
    assert feeds.begun[-1] == late
    assert feeds.under_way == slow[:POLLS_A_HOST]
    feeds.slow.clear()
    while feeds.waiting:
        await feeds.polls.go_on(feeds.due)
    assert len(feeds.begun) == len(set(feeds.begun)) == 421
    assert feeds.closed_with[-1] == 0


async def test_what_a_poll_raises_ends_all_of_them() -> None:
    feeds = Feeds(slow=1, quick=1)
    feeds.broken = {(0, "https://quick.example/0")}
    with pytest.raises(RuntimeError, match="a bug"):
        await feeds.polls.go_on(feeds.due)
    assert feeds.cancelled == [(0, "https://slow.example/0")]
    assert feeds.closed_with[-1] == 0


async def test_what_a_poll_raises_between_two_calls_is_raised_by_the_next() -> None:
    feeds = Feeds(slow=3)
    feeds.broken = {(0, "https://slow.example/0")}
    await feeds.polls.go_on(feeds.due)
    feeds.slow.clear()
    await asyncio.sleep(0.05)
    with pytest.raises(RuntimeError, match="a bug"):
        await feeds.polls.go_on(feeds.due)


async def test_a_shutdown_ends_them_and_gives_connections_back() -> None:
    feeds = Feeds(slow=2)
    task = asyncio.create_task(feeds.polls.go_on(feeds.due))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(feeds.cancelled) == 2
    assert feeds.closed_with[-1] == 0


def test_the_end_of_the_loop_ends_them_as_well_and_another_loop_begins_anew() -> None:
    feeds = Feeds(slow=3)
    asyncio.run(feeds.polls.go_on(feeds.due))
    assert len(feeds.cancelled) == POLLS_A_HOST
    assert len(feeds.closed_with) == 1
    feeds.slow.clear()
    asyncio.run(feeds.polls.go_on(feeds.due))
    assert feeds.waiting == []
