"""Listener-episode pairs as arrays, and their split in time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streams.recommendation.core.confidence import strength

TEST_SHARE = 0.2
FEWEST_TO_SPLIT = 3
"""A listener who liked fewer episodes than this is trained on, but not evaluated."""


@dataclass(frozen=True)
class Interactions:
    """Pairs in the order of (user_id, episode_id).

    ``users`` and ``items`` are the sorted ids of listeners and episodes. The other arrays have one
    entry a pair: ``user`` and ``item`` index into the ids; ``strength`` is what
    `streams.recommendation.core.confidence` makes of the pair, below 0 for a dislike and never 0;
    ``at`` is the time of its last event, milliseconds since 1970.
    """

    users: NDArray[np.object_]
    items: NDArray[np.object_]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    strength: NDArray[np.float32]
    at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def where(self, mask: NDArray[np.bool_]) -> Interactions:
        """The pairs where ``mask``, one entry a pair, is true; the ids stay, used or not."""
        chosen = {name: getattr(self, name)[mask] for name in ("user", "item", "strength", "at")}
        return replace(self, **chosen)


def from_totals(totals: pl.DataFrame) -> Interactions:
    """The pairs of a frame with one row each, by user_id and episode_id.

    Its other columns are heard_ms, plays, completes, likes, dislikes and last_at (a time). Pairs
    that say nothing (shown or opened, but neither heard nor judged) are left out.
    """
    columns = (totals[name] for name in ("heard_ms", "plays", "completes", "likes", "dislikes"))
    weighed = totals.with_columns(strength=strength(*columns)).filter(pl.col("strength") != 0)
    weighed = weighed.sort("user_id", "episode_id")
    users, user = _numbered(weighed["user_id"])
    items, item = _numbered(weighed["episode_id"])
    return Interactions(
        users,
        items,
        user,
        item,
        weighed["strength"].to_numpy(),
        weighed["last_at"].dt.epoch("ms").to_numpy(),
    )


def _numbered(ids: pl.Series) -> tuple[NDArray[np.object_], NDArray[np.int32]]:
    """The sorted ids, each once, and where each row's stands among them.

    NumPy's own text is no place for ids: it cuts NULs off, and makes all as wide as the longest.
    """
    names = ids.unique().sort()
    return names.to_numpy(), ids.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int32)


def trainable(pairs: Interactions) -> Interactions:
    """The pairs whose listener and episode both have a positive pair among those returned.

    Spark scales regularisation by the number of positive pairs: without one the equations of a
    listener or an episode are singular, and one such row fails the whole training.
    """
    while True:
        positive = pairs.strength > 0
        users = np.bincount(pairs.user[positive], minlength=len(pairs.users)) > 0
        items = np.bincount(pairs.item[positive], minlength=len(pairs.items)) > 0
        kept = users[pairs.user] & items[pairs.item]
        if kept.all():
            return pairs
        pairs = pairs.where(kept)


def time_split(pairs: Interactions) -> tuple[Interactions, Interactions]:
    """(train, test): of what each listener liked, the last fifth by time is the test.

    Liked are positive pairs that are at least as strong as the listener's mean: lists shall hold
    what is heard with pleasure, and not what somebody only tried. Split by listener, not at one
    moment for all: after such a moment most of a young catalogue's listeners are new, and what
    would be measured is how a model treats strangers, whom the factors do not serve here. Ties are
    broken by episode. All other pairs stay in the training.
    """
    liked = np.flatnonzero(_liked(pairs))
    order = liked[np.lexsort((pairs.item[liked], pairs.at[liked], pairs.user[liked]))]
    counts = np.bincount(pairs.user[order], minlength=len(pairs.users))
    starts = np.cumsum(counts) - counts
    place = np.arange(len(order)) - starts[pairs.user[order]]
    held = np.where(
        counts >= FEWEST_TO_SPLIT, np.maximum(1, (counts * TEST_SHARE).astype(np.int64)), 0
    )
    test = np.zeros(len(pairs), dtype=bool)
    test[order[place >= (counts - held)[pairs.user[order]]]] = True
    return pairs.where(~test), pairs.where(test)


def _liked(pairs: Interactions) -> NDArray[np.bool_]:
    """Which pairs are positive, and not weaker than the mean of the listener's positive ones."""
    positive = pairs.strength > 0
    user, strength_of = pairs.user[positive], pairs.strength[positive]
    counts = np.bincount(user, minlength=len(pairs.users))
    means = np.bincount(user, strength_of, len(pairs.users)) / np.maximum(counts, 1)
    result: NDArray[np.bool_] = positive & (pairs.strength >= means[pairs.user] * (1 - 1e-6))
    return result
