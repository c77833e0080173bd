"""What an event costs the folds of the live tables as their state grows, in processor time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from live_path.cluster import say

from schemas import columnar
from streams.engagement.core.engagement import Engagement
from streams.engagement.core.listening import added_by
from streams.engagement.core.listening_state import Listening
from streams.engagement.core.windows import minutes_of, window_rows
from streams.events.core.event_rows import event_rows

PAIRS = 20_000
"""Listener-episode pairs in the state of one source partition at 1x."""

SCALES = (1, 10, 100)
EPISODES_A_LISTENER = 20
EPISODES = 20_000
BATCH = 5_000
BATCHES = 40
LATENESS_MS = 900_000
START_MS = 1_767_225_600_000
SEED = 5


class Feed:
    """Batches of one partition in which listeners hear some of an episode, all in one hour."""

    def __init__(self) -> None:
        self._offset = 0

    def batch(self, pairs: np.ndarray) -> pl.DataFrame:
        """One event for each of these pairs, given by number."""
        listeners, nth = pairs // EPISODES_A_LISTENER, pairs % EPISODES_A_LISTENER
        episodes = (listeners * 31 + nth * 997) % EPISODES
        n = len(pairs)
        offsets = self._offset + np.arange(n)
        self._offset += n
        times = pl.Series(START_MS + offsets // 1000)
        columns = {
            "partition": np.zeros(n, np.int32),
            "offset": offsets,
            "logged_at": times,
            "event_id": offsets.astype(str),
            "user_id": [f"listener-{number}" for number in listeners.tolist()],
            "episode_id": [f"pi:{number}" for number in episodes.tolist()],
            "kind": ["progress"] * n,
            "occurred_at": times,
            "heard_ms": np.full(n, 20_000),
            "position_ms": np.full(n, 600_000),
            "duration_ms": np.full(n, 1_800_000),
        }
        schema = columnar.columns("user_event")
        missing = {name: [None] * n for name in schema if name not in columns}
        return pl.DataFrame({**columns, **missing}).select(schema.names()).cast(dict(schema))


def engagement() -> Callable[[pl.DataFrame], Any]:
    """What `track_engagement` does with a batch, without its topics."""
    state = Engagement(LATENESS_MS)

    def take(events: pl.DataFrame) -> None:
        state.apply(event_rows([events], state.applied))
        window_rows([minutes_of(state, 0, state.minutes.changed())])
        state.close_minutes()
        state.changes()

    return take


def listening() -> Callable[[pl.DataFrame], Any]:
    """What `track_listening` does with a batch, without its topics."""
    state = Listening(0, LATENESS_MS)

    def take(events: pl.DataFrame) -> None:
        added_by(events, state.applied)
        state.apply(event_rows([events], state.applied))
        state.changes()

    return take


def measure() -> dict[str, Any]:
    """CPU microseconds an event, for each number of pairs that the state holds."""
    figures: dict[str, Any] = {"batch": BATCH}
    for name, fold in (("track_engagement", engagement), ("track_listening", listening)):
        costs = {}
        for scale in SCALES:
            say(f"folds: {name} with {PAIRS * scale} pairs")
            costs[f"{scale}x"] = _cost(fold(), PAIRS * scale)
        figures[name] = {
            "us_per_event": costs,
            "growth": round(costs[f"{SCALES[-1]}x"] / costs[f"{SCALES[0]}x"], 2),
        }
    return figures


def _cost(take: Callable[[pl.DataFrame], Any], pairs: int) -> float:
    feed, random = Feed(), np.random.default_rng(SEED)
    for first in range(0, pairs, BATCH):
        take(feed.batch(np.arange(first, min(first + BATCH, pairs))))
    seconds = 0.0
    for _ in range(BATCHES):
        events = feed.batch(random.integers(0, pairs, BATCH))
        started = time.process_time()
        take(events)
        seconds += time.process_time() - started
    return round(seconds / (BATCH * BATCHES) * 1e6, 2)
