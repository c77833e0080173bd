"""Ways to cut interactions into what is learned from and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.core.interactions import Interactions, from_totals
from streams.operations.core.movielens import DURATION_S, events_of_ratings
from streams.operations.importing import read_movielens
from streams.recommendation.core.confidence import strength

QUARTER, FIFTH = 0.25, 0.2
STARS = 5.0


class Cut(NamedTuple):
    """What is learned from, and what is asked; of the same listeners and items."""

    train: Interactions
    test: Interactions


CutAgain = Callable[[Interactions, int], Cut]
"""Cuts pairs by a seed; a model tunes itself on a cut of its training data by the same way."""


@dataclass(frozen=True)
class Protocol:
    """How to cut, and whether strengths are those of imported events (``graded``) or simply the
    stars, so that every rating is positive."""

    cut: CutAgain
    graded: bool = False


def read_pairs(wheel: Path, *, graded: bool) -> Interactions:
    """MovieLens-100K as pairs; see `Protocol.graded`."""
    _, ratings = read_movielens(wheel)
    kinds = {"plays": "play", "completes": "complete", "likes": "like", "dislikes": "dislike"}
    wanted = ("user_id", "episode_id", "kind", "heard_ms", "occurred_at")
    events = events_of_ratings(ratings)
    totals = (
        pl.DataFrame({name: [event[name] for event in events] for name in wanted})
        .group_by("user_id", "episode_id")
        .agg(
            pl.col("heard_ms").sum(),
            pl.col("occurred_at").max().alias("last_at"),
            *((pl.col("kind") == kind).sum().alias(name) for name, kind in kinds.items()),
        )
    )
    pairs = from_totals(totals)
    if graded:
        return pairs
    stars = {(r["user_id"], f"ml:{r['item_id']}"): float(r["rating"]) / STARS for r in ratings}
    named = zip(pairs.users[pairs.user], pairs.items[pairs.item], strict=True)
    plain = np.array([stars[str(user), str(item)] for user, item in named], dtype=np.float32)
    return replace(pairs, strength=plain)


def cut_random(pairs: Interactions, seed: int) -> Cut:
    """A quarter of each listener's pairs, at random."""
    return _last(pairs, np.random.default_rng(seed).random(len(pairs)), QUARTER)


def cut_chronological(pairs: Interactions, seed: int) -> Cut:
    """The last quarter of each listener's pairs."""
    return _last(pairs, pairs.at.astype(np.float64), QUARTER)


def cut_last_fifth(pairs: Interactions, seed: int) -> Cut:
    """The last fifth of what each listener heard to the end."""
    finished = strength(DURATION_S * 1000, 0, 1, 0)
    return _last(pairs, pairs.at.astype(np.float64), FIFTH, pairs.strength >= finished)


def cut_global(pairs: Interactions, seed: int) -> Cut:
    """The last quarter of all pairs, of listeners with an earlier one."""
    late = pairs.at > np.quantile(pairs.at, 1 - QUARTER)
    known = np.zeros(len(pairs.users), dtype=bool)
    known[pairs.user[~late]] = True
    return Cut(pairs.where(~late), pairs.where(late & known[pairs.user]))


def cut_cold(first: int) -> CutAgain:
    """All but the first pairs of a fifth of the listeners, drawn by the seed from those who have
    more than that."""

    def cut(pairs: Interactions, seed: int) -> Cut:
        counts = np.bincount(pairs.user, minlength=len(pairs.users))
        able = np.flatnonzero(counts > first)
        chosen = np.random.default_rng(seed).permutation(able)[: int(len(able) * FIFTH)]
        place = _places(pairs, pairs.at.astype(np.float64))
        held = np.isin(pairs.user, chosen) & (place >= first)
        return Cut(pairs.where(~held), pairs.where(held))

    return cut


def _last(
    pairs: Interactions,
    by: NDArray[np.float64],
    share: float,
    among: NDArray[np.bool_] | None = None,
) -> Cut:
    """The last share of each listener's pairs in the order of ``by``, of those ``among``."""
    asked = np.ones(len(pairs), dtype=bool) if among is None else among
    chosen = np.flatnonzero(asked)
    some = pairs.where(asked)
    counts = np.bincount(some.user, minlength=len(pairs.users))[some.user]
    last = (_places(some, by[chosen]) + 1) / counts > 1 - share
    held = np.zeros(len(pairs), dtype=bool)
    held[chosen[last]] = True
    return Cut(pairs.where(~held), pairs.where(held))


def _places(pairs: Interactions, by: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each pair among those of its listener, from 0, in the order of ``by``."""
    order = np.lexsort((pairs.item, by, pairs.user))
    counts = np.bincount(pairs.user, minlength=len(pairs.users))
    places = np.empty(len(pairs), dtype=np.int64)
    places[order] = np.arange(len(pairs)) - (np.cumsum(counts) - counts)[pairs.user[order]]
    return places


PROTOCOLS = {
    "random": Protocol(cut_random),
    "chronological": Protocol(cut_chronological),
    "global": Protocol(cut_global),
    "last_fifth": Protocol(cut_last_fifth, graded=True),
    **{f"cold_{first}": Protocol(cut_cold(first)) for first in (1, 3, 5)},
}
