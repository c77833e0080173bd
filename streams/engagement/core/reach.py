"""Distinct listeners over any number of days: sketches that unite.

Within a day listeners are counted exactly. Over a week or a month that would take remembering who
listened when; a HyperLogLog sketch of each day takes 2 KB at most, and the union of sketches is
the sketch of the union. Up to about a hundred listeners a sketch is a list of their hashes and
its count exact; beyond, the standard error of a union is about 1.6 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from datasketches import hll_sketch, hll_union, tgt_hll_type

from streams.engagement.core.engagement import Engagement
from streams.engagement.core.rolling import EpisodeScopes
from streams.state.arrays import starts

REGISTERS_LOG2 = 12
TWO_STANDARD_ERRORS = 2


@dataclass(frozen=True, slots=True)
class Reach:
    """An estimate of distinct listeners, and the bounds it is within 95 times of 100."""

    listeners: int
    least: int
    most: int


def sketch(listeners: Iterable[str]) -> bytes:
    """The sketch of these listeners."""
    made = hll_sketch(REGISTERS_LOG2, tgt_hll_type.HLL_4)
    for listener in listeners:
        made.update(listener)
    data: bytes = made.serialize_compact()
    return data


def reach(sketches: Iterable[bytes]) -> Reach:
    """The distinct listeners of all sketches together."""
    union = hll_union(REGISTERS_LOG2)
    for one in sketches:
        union.update(hll_sketch.deserialize(one))
    return Reach(
        round(union.get_estimate()),
        round(union.get_lower_bound(TWO_STANDARD_ERRORS)),
        round(union.get_upper_bound(TWO_STANDARD_ERRORS)),
    )


def audience_rows(
    state: Engagement, partition: int, days: np.ndarray, scopes: EpisodeScopes
) -> pl.DataFrame:
    """Rows of `audience_day` for these finished days, in ascending order of days."""
    frames = [_day_rows(state, day, scopes) for day in np.sort(days).tolist()]
    return pl.concat(frames).with_columns(
        source_partition=pl.lit(partition, pl.Int32), offset=pl.lit(state.applied, pl.Int64)
    )


def _day_rows(state: Engagement, day: int, scopes: EpisodeScopes) -> pl.DataFrame:
    episodes, heard_days = state.heard_keys()
    here = heard_days == day
    users, episodes = state.heard_users()[here], episodes[here]
    each, scope = scopes.spread(episodes)
    parts = [
        _sketched(state, users, episodes, ["episode"] * len(scopes.count), state.episodes.all()),
        _sketched(state, users[each], scope, scopes.kinds, scopes.names),
        _sketched(state, users, np.zeros(len(users), np.int64), ["all"], [""]),
    ]
    return pl.concat(parts).with_columns(day=pl.lit(day, pl.Int32).cast(pl.Date))


def _sketched(
    state: Engagement,
    users: np.ndarray,
    scopes: np.ndarray,
    kinds: Sequence[str],
    names: Sequence[str],
) -> pl.DataFrame:
    """A row for each scope that has a listener."""
    pairs = np.unique((scopes << 32) | users)
    users, scopes = pairs & 0xFFFFFFFF, pairs >> 32
    begin = np.flatnonzero(starts(scopes))
    ends = np.append(begin[1:], len(pairs))
    rows = [
        (kinds[scope], names[scope], end - first, sketch(state.users.of(users[first:end])))
        for scope, first, end in zip(
            scopes[begin].tolist(), begin.tolist(), ends[: len(begin)].tolist(), strict=True
        )
    ]
    schema = {"kind": pl.String, "scope": pl.String, "listeners": pl.Int64, "sketch": pl.Binary}
    return pl.DataFrame(rows, schema=schema, orient="row")
