"""Anomalies told in plain Python from what the events mean, as their document says.

Every source partition must have events, and none may have been quiet while another went on for a
day of event time: what a live table then does not wait for, this one does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BIN = 5
WARM_UP = 12
SILENT_BINS = 12
DAY = 288

Found = dict[tuple[str, datetime], dict[str, Any]]
"""Episode and beginning of the bin -> direction, plays, expected, score."""


@dataclass
class Usual:
    """An episode's mean and squared error, each fading, and what they are made of."""

    mean: float
    last_heard: int
    error: float = 1.0
    bins: int = 1

    def score(self, y: float) -> float:
        return (y - self.mean) / sqrt(max(self.error, 1.0))

    def learn(self, y: float) -> None:
        squared = min((y - self.mean) ** 2, 25 * self.error)
        self.error = 0.02 * squared + 0.98 * self.error
        self.mean = 0.2 * y + 0.8 * self.mean
        self.bins += 1


@dataclass
class Watcher:
    """The episodes of one partition of `engagement-windows`."""

    plays: dict[int, dict[str, int]] = field(default_factory=dict)
    """Bin with any event -> episode -> plays of all source partitions."""
    usual: dict[str, Usual] = field(default_factory=dict)
    found: Found = field(default_factory=dict)
    following: int = -SILENT_BINS
    """The first bin that has not been judged."""

    def judge(self, end: int) -> None:
        """Go through the bins before ``end``, those that were judged left out."""
        for number in sorted(n for n in self.plays if self.following <= n < end):
            if number - self.following <= SILENT_BINS:
                for quiet in range(self.following, number):
                    self._learn(quiet, {})
            self._learn(number, self.plays[number])
            self.following = number + 1

    def _learn(self, number: int, plays: Mapping[str, int]) -> None:
        self.usual = {e: u for e, u in self.usual.items() if number - u.last_heard <= DAY}
        for episode in {*self.usual, *(name for name, count in plays.items() if count)}:
            count = plays.get(episode, 0)
            y = 2 * sqrt(count + 3 / 8)
            if episode not in self.usual:
                self.usual[episode] = Usual(y, number)
                continue
            usual = self.usual[episode]
            expected, score = max(usual.mean**2 / 4 - 1 / 8, 0.0), usual.score(y)
            if usual.bins >= WARM_UP and abs(score) >= 5 and abs(count - expected) >= 10:
                self.found[episode, EPOCH + number * BIN * MINUTE] = {
                    "direction": "rise" if score > 0 else "fall",
                    "plays": count,
                    "expected": expected,
                    "score": score,
                }
            usual.learn(y)
            if count:
                usual.last_heard = number


def anomalies(
    windows: Mapping[int, Mapping[tuple[str, datetime], Mapping[str, Any]]],
    over: Mapping[int, datetime],
    target: Callable[[str], int],
) -> Found:
    """What is to be found in the minutes of each source partition: (episode, minute) -> counts.

    ``over``: by source partition, the time before which nothing can change. ``target`` gives the
    partition of `engagement-windows` of an episode.
    """
    end = min((time - EPOCH) // (BIN * MINUTE) for time in over.values())
    watchers: dict[int, Watcher] = defaultdict(Watcher)
    for counted in windows.values():
        for (episode, minute), row in counted.items():
            bins = watchers[target(episode)].plays
            plays = bins.setdefault((minute - EPOCH) // (BIN * MINUTE), defaultdict(int))
            plays[episode] += row["plays"]
    for watcher in watchers.values():
        watcher.judge(end)
    return {place: row for watcher in watchers.values() for place, row in watcher.found.items()}
