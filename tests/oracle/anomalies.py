"""Anomalies told in plain Python from the log of `engagement-windows`, as its document says.

Unlike the other tables these follow from what the live tables told, in the order in which they
told it: how many plays were known of a bin when it was closed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BIN = 5
GRACE = 2
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
    """One partition of `engagement-windows`."""

    newest: int = 0
    closed: int = 0
    plays: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    """Episode, minute and source partition -> source offset and plays, while its bin is open."""
    usual: dict[str, Usual] = field(default_factory=dict)
    found: Found = field(default_factory=dict)

    def read(self, log_ms: int, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            minute = (row["bucket"] - EPOCH) // MINUTE
            if row["bucket"] <= EPOCH + timedelta(milliseconds=log_ms):
                self.newest = max(self.newest, minute)
            place = (row["episode_id"], minute, row["source_partition"])
            known = self.plays.get(place, (-1, 0))
            if minute >= self.closed * BIN and row["plays"] and row["offset"] > known[0]:
                self.plays[place] = (row["offset"], row["plays"])
        end = (self.newest - GRACE) // BIN
        if end > self.closed:
            self._close(end)

    def _close(self, end: int) -> None:
        bins: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for (episode, minute, _), (_, plays) in self.plays.items():
            if minute // BIN < end:
                bins[minute // BIN][episode] += plays
        quiet_from = self.closed
        for number in [*sorted(bins), end]:
            if number - quiet_from <= SILENT_BINS:
                for quiet in range(quiet_from, number):
                    self._learn(quiet, {})
            if number < end:
                self._learn(number, bins[number])
            quiet_from = number + 1
        self.closed = end
        self.plays = {place: row for place, row in self.plays.items() if place[1] >= end * BIN}
        self.usual = {e: u for e, u in self.usual.items() if u.last_heard >= end - DAY}

    def _learn(self, number: int, plays: Mapping[str, int]) -> None:
        for episode in {*self.usual, *plays}:
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


def anomalies(log: Iterable[tuple[int, int, Iterable[Mapping[str, Any]]]]) -> Found:
    """What is to be found in messages, each its partition, log time and rows, in their order."""
    watchers: dict[int, Watcher] = defaultdict(Watcher)
    for partition, log_ms, rows in log:
        watchers[partition].read(log_ms, rows)
    return {place: row for watcher in watchers.values() for place, row in watcher.found.items()}
