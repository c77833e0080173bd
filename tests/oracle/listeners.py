"""Listeners as bad as real ones: repeats, disorder, wrong clocks, bots, garbage; all seeded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from streams.kafka.placement import partition_of

KINDS = ("impression", "click", "play", "progress", "progress", "complete", "pause", "like")
RARE_KINDS = ("dislike", "follow", "unfollow", "skip", "skip")
BROWSER = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleCoreMedia/1.0.0"
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
DURATIONS_MS = (None, None, 0, 150_000, 1_800_000, 5_400_000)
UNDECODABLE = (None, b"", b"garbage", b"\x00\x00\x00\x27\x0f of no known schema")


EPISODES: dict[str, dict[str, Any]] = {
    f"pi:{number}": {
        "episode_id": f"pi:{number}",
        "title": f"Episode {number}",
        "show_id": f"pi:show{number % 4}",
        "show_title": "Show",
        "categories": ["News", "Tv"][: number % 3],
        "language": ("en", "de", "")[number % 3],
        "source": "import",
    }
    for number in range(100, 109)
}
"""What the metadata say; one episode more is heard, of which they say nothing."""


@dataclass(frozen=True)
class Delivery:
    """What a client sends: an event, or bytes that hold none; perhaps cut short on the way."""

    key: str
    event: dict[str, Any] | None
    garbage: bytes | None = None
    cut: bool = False

    @property
    def readable(self) -> dict[str, Any] | None:
        """The event that arrives, if one does."""
        return None if self.cut else self.event

    def value(self, encode: Callable[[dict[str, Any]], bytes]) -> bytes | None:
        """What is sent."""
        if self.event is None:
            return self.garbage
        return encode(self.event)[:-3] if self.cut else encode(self.event)


def last_event(partition: int, partitions: int, at: datetime) -> Delivery:
    """What ends a test in each partition, so that the clocks of all of them agree."""
    users = (f"last {number}" for number in count())
    user = next(user for user in users if partition_of(user.encode(), partitions) == partition)
    event = {"event_id": f"last {partition}", "user_id": user, "kind": "play"}
    return Delivery(user, {**event, "episode_id": "pi:100", "occurred_at": at})


class Listeners:
    """A seeded crowd. Ask for its deliveries stretch by stretch, as event time goes on."""

    def __init__(self, seed: int, listeners: int, lateness: timedelta) -> None:
        self._random = random.Random(seed)
        self._users = [f"u{number}" for number in range(listeners)]
        self._bots = set(self._users[:: max(7, listeners // 20)])
        self._episodes = [*EPISODES, "pi:unknown"]
        self._lateness = lateness
        self._made = 0
        self._waiting: list[Delivery] = []

    def deliveries(
        self, number: int, start: datetime, end: datetime, *, fast: timedelta
    ) -> Iterator[Delivery]:
        """About ``number`` new events between two times, in the order of arrival.

        Some come again at once, some much later, also in a later stretch. A fast clock is up to
        ``fast`` ahead.
        """
        chance = self._random
        for place in range(number):
            event = self._event(start + (end - start) * (place / number), fast)
            delivery = Delivery(event["user_id"], event)
            again = [delivery] * chance.choice((0, 0, 0, 1, 2))
            if chance.random() < 0.02:
                yield self._garbage(event)
            yield delivery
            if again and chance.random() < 0.3:
                yield again.pop()
            self._waiting += again
            while self._waiting and chance.random() < len(self._waiting) / 200:
                yield self._waiting.pop(chance.randrange(len(self._waiting)))

    def rush(self, number: int, at: datetime) -> Iterator[Delivery]:
        """So many plays of one episode at once."""
        episode, at = self._random.choice(list(EPISODES)), whole_ms(at)
        for _ in range(number):
            event = self._event(at, timedelta())
            changed = {"episode_id": episode, "kind": "play", "occurred_at": at, "heard_ms": 0}
            yield Delivery(event["user_id"], {**event, **changed})

    def rest(self) -> Iterator[Delivery]:
        """The repeats that have not come yet."""
        while self._waiting:
            yield self._waiting.pop()

    def _event(self, now: datetime, fast: timedelta) -> dict[str, Any]:
        chance = self._random
        self._made += 1
        user = chance.choice(self._users)
        kind = chance.choice(RARE_KINDS if chance.random() < 0.05 else KINDS)
        heard_ms = chance.choice((5_000, 20_000, 30_000, 60_000, 600_000))
        position_ms = chance.choice((0, 60_000, chance.randrange(4_000_000), 20_000_000))
        return {
            "event_id": f"e{self._made}",
            "user_id": user,
            # A few episodes are heard by many, as everywhere.
            "episode_id": self._episodes[int(len(self._episodes) * chance.random() ** 2)],
            "kind": kind,
            "occurred_at": whole_ms(now + self._clock_error(fast)),
            "heard_ms": heard_ms if kind in ("progress", "pause", "complete") else 0,
            "position_ms": position_ms,
            "duration_ms": chance.choice(DURATIONS_MS),
            "user_agent": BOT if user in self._bots else chance.choice((BROWSER, None)),
        }

    def _clock_error(self, fast: timedelta) -> timedelta:
        """Mostly disorder within the lateness; sometimes a slow clock, seldom a fast one."""
        chance = self._random
        draw = chance.random()
        if draw < 0.7:
            return -self._lateness * chance.random() * 0.5
        if draw < 0.9:
            return timedelta()
        if draw < 0.995:
            return -chance.choice((self._lateness, timedelta(hours=7))) * chance.random() * 1.2
        return fast * chance.random()

    def _garbage(self, event: dict[str, Any]) -> Delivery:
        """A record that nobody can use, in place of an event."""
        chance = self._random
        key, at = event["user_id"], event["occurred_at"]
        spoilt = chance.choice(
            (
                {"heard_ms": -1},
                {"position_ms": 86_400_001},
                {"duration_ms": -5},
                {"event_id": ""},
                {"user_id": ""},
                {"session_id": "s" * 1025},
                {"rank": 0},
                {"occurred_at": at.replace(year=1989)},
                {"occurred_at": at + timedelta(days=90)},
                None,
                None,
                None,
                None,
            )
        )
        if spoilt is not None:
            return Delivery(key, {**event, **spoilt})
        if chance.random() < 0.3:
            return Delivery(key, event, cut=True)
        return Delivery(key, None, chance.choice(UNDECODABLE))


def whole_ms(at: datetime) -> datetime:
    """A time as the log holds it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
