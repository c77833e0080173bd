"""Rolling windows: the last minutes and hours of every episode, show and category.

A window is looked up in the state of a source partition, at a minute that several partitions
share, so that their parts add up: counts are sums of minutes, and since a partition has its
listeners for itself, distinct listeners add up too. Within a partition listeners are exact: a
pair's newest minute says in which windows it is, and a listener's newest over the episodes of a
show in which windows of the show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.metrics import ADDITIVE_METRICS, AUDIENCE_METRICS
from schemas.units import MINUTE_MS
from streams.engagement.core.engagement import (
    COUNTS,
    HOUR_MINUTES,
    Engagement,
    episode_of,
    pair_episodes,
    pair_users,
    time_of,
)
from streams.state.arrays import spread, starts
from streams.state.hash_table import ColumnarHashTable

WINDOWS = (1, 5, 15, 60, 1440)
"""Lengths in minutes. The longest moves by the hour: this hour so far and the 23 before it."""

MOST_ROWS = 120_000
"""Rows of one message; those with the fewest listeners are left out first."""

_DAY_HOURS = 24
_OUTSIDE = len(WINDOWS)


@dataclass(frozen=True, slots=True)
class Show:
    """The show and the categories of an episode."""

    show_id: str
    categories: tuple[str, ...]


Catalogue = Mapping[str, Show]
"""Episode id -> its show."""


@dataclass(frozen=True, slots=True)
class EpisodeScopes:
    """The shows and categories that episodes belong to.

    ``kinds`` and ``names`` by scope; ``first`` and ``count`` say by episode number which entries
    of ``of`` are its scopes.
    """

    kinds: list[str]
    names: list[str]
    first: np.ndarray
    count: np.ndarray
    of: np.ndarray

    def spread(self, episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A row for each scope of each of these episodes: the episode's place, and the scope."""
        each, following = spread(self.count[episodes])
        return each, self.of[self.first[episodes][each] + following]


def scopes_of(episodes: Sequence[str], catalogue: Catalogue) -> EpisodeScopes:
    """The scopes of these episodes, as far as the catalogue knows them."""
    numbers: dict[tuple[str, str], int] = {}
    of: list[int] = []
    count = np.zeros(len(episodes), np.int64)
    for number, episode in enumerate(episodes):
        if (show := catalogue.get(episode)) is not None:
            scopes = [("show", show.show_id), *(("category", c) for c in show.categories)]
            of += [numbers.setdefault(scope, len(numbers)) for scope in scopes]
            count[number] = len(scopes)
    return EpisodeScopes(
        kinds=[kind for kind, _ in numbers],
        names=[name for _, name in numbers],
        first=np.cumsum(count) - count,
        count=count,
        of=np.array(of, np.int64),
    )


def rolling_rows(state: Engagement, partition: int, at: int, scopes: EpisodeScopes) -> pl.DataFrame:
    """Rows of `rolling_window` at the minute ``at`` (since 1970), not before the state's own."""
    first = _first_minute(at)
    sums = _episode_sums(state, at, first)
    audience = _episode_audience(state, at, first)
    frames = [_frame("episode", state.episodes.all(), sums, audience)]
    if scopes.names:
        scope_sums = np.zeros((len(scopes.names), *sums.shape[1:]), np.int64)
        episodes = np.repeat(np.arange(len(scopes.count)), scopes.count)
        np.add.at(scope_sums, scopes.of, sums[episodes])
        frames.append(_scope_frame(scopes, scope_sums, _scope_audience(state, at, first, scopes)))
    rows = pl.concat(frames)
    if rows.height > MOST_ROWS:
        rows = rows.top_k(MOST_ROWS, by=["listeners", "impressions"])
    return rows.with_columns(
        at=pl.lit(at * MINUTE_MS).cast(pl.Datetime("ms", "UTC")),
        source_partition=pl.lit(partition, pl.Int32),
        offset=pl.lit(state.applied, pl.Int64),
    )


def _first_minute(at: int) -> int:
    """The first minute of the longest window."""
    return (at // HOUR_MINUTES - (_DAY_HOURS - 1)) * HOUR_MINUTES


def _bands(minutes: np.ndarray, at: int, first: int) -> np.ndarray:
    """The shortest window that each minute is in, by number; `_OUTSIDE` if in none."""
    bands = np.searchsorted(WINDOWS[:-1], at - minutes, side="right")
    bands[(minutes < first) | (minutes > at)] = _OUTSIDE
    return bands


def _in_windows(by_band: np.ndarray) -> np.ndarray:
    """What is in each window, of what is in it and in no shorter one; bands are axis 1."""
    return np.cumsum(by_band[:, :_OUTSIDE], axis=1)


def _episode_sums(state: Engagement, at: int, first: int) -> np.ndarray:
    """Counts by episode, window and ADDITIVE_METRICS."""
    size, shape = len(state.episodes), len(WINDOWS) + 1
    minutes, hours = time_of(state.minutes), time_of(state.hours)
    place = episode_of(state.minutes) * shape + _bands(minutes, at, first)
    # The longest window is made of hours, and of the minutes that are in no hour yet.
    is_open = (minutes > state.closed) & (minutes >= first) & (minutes <= at)
    whole = (hours * HOUR_MINUTES >= first) & (hours * HOUR_MINUTES <= at)
    opened, done = episode_of(state.minutes)[is_open], episode_of(state.hours)[whole]
    sums = np.zeros((size, len(WINDOWS), len(ADDITIVE_METRICS)), np.int64)
    for number, name in enumerate(ADDITIVE_METRICS):
        by_minute, by_hour = _column(state.minutes, name), _column(state.hours, name)
        by_band = np.bincount(place, by_minute, size * shape).reshape(size, shape)
        sums[:, :-1, number] = _in_windows(by_band)[:, :-1]
        sums[:, -1, number] = np.bincount(opened, by_minute[is_open], size)
        sums[:, -1, number] += np.bincount(done, by_hour[whole], size).astype(np.int64)
    return sums


def _column(table: ColumnarHashTable, name: str) -> np.ndarray:
    if name == "heard_ms":
        return table["heard_ms"]
    return table["counts"][:, COUNTS.index(name)]


def _episode_audience(state: Engagement, at: int, first: int) -> np.ndarray:
    """Distinct listeners by episode, window and AUDIENCE_METRICS."""
    newest = (state.pairs["last"] // MINUTE_MS, state.pairs["engaged_minute"])
    return _audience(pair_episodes(state.pairs), newest, len(state.episodes), at, first)


def _audience(
    groups: np.ndarray, newest: tuple[np.ndarray, np.ndarray], size: int, at: int, first: int
) -> np.ndarray:
    shape = len(WINDOWS) + 1
    found = np.zeros((size, len(WINDOWS), len(AUDIENCE_METRICS)), np.int64)
    for number, minutes in enumerate(newest):
        places = groups * shape + _bands(minutes, at, first)
        by_band = np.bincount(places, minlength=size * shape).reshape(size, shape)
        found[:, :, number] = _in_windows(by_band)
    return found


def _scope_audience(state: Engagement, at: int, first: int, scopes: EpisodeScopes) -> np.ndarray:
    """Distinct listeners by scope, window and AUDIENCE_METRICS, over all episodes of the scope."""
    last = state.pairs["last"] // MINUTE_MS
    recent = np.flatnonzero(last >= first)
    each, scope = scopes.spread(pair_episodes(state.pairs)[recent])
    size = len(scopes.names)
    keys = pair_users(state.pairs)[recent][each] * size + scope
    order = np.argsort(keys)
    keys = keys[order]
    begin = np.flatnonzero(starts(keys))
    if not len(begin):
        return np.zeros((size, len(WINDOWS), len(AUDIENCE_METRICS)), np.int64)
    pairs = recent[each][order]
    newest = (
        np.maximum.reduceat(last[pairs], begin),
        np.maximum.reduceat(state.pairs["engaged_minute"][pairs], begin),
    )
    return _audience(keys[begin] % size, newest, size, at, first)


def _scope_frame(scopes: EpisodeScopes, sums: np.ndarray, audience: np.ndarray) -> pl.DataFrame:
    kinds = np.array(scopes.kinds)
    frames = []
    for kind in ("show", "category"):
        here = np.flatnonzero(kinds == kind)
        names = [scopes.names[number] for number in here.tolist()]
        frames.append(_frame(kind, names, sums[here], audience[here]))
    return pl.concat(frames)


def _frame(kind: str, names: Sequence[str], sums: np.ndarray, audience: np.ndarray) -> pl.DataFrame:
    """A row for each scope and window in which anything happened."""
    scope, window = np.nonzero(sums.any(axis=2) | audience.any(axis=2))
    columns = {name: sums[scope, window, number] for number, name in enumerate(ADDITIVE_METRICS)}
    columns |= {
        name: audience[scope, window, number] for number, name in enumerate(AUDIENCE_METRICS)
    }
    return pl.DataFrame(
        {
            "kind": pl.repeat(kind, len(scope), dtype=pl.String, eager=True),
            "scope": pl.Series(names, dtype=pl.String).gather(scope),
            "minutes": np.array(WINDOWS, np.int32)[window],
            **columns,
        }
    )
