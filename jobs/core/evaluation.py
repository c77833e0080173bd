"""Figures of a ranking on held-out pairs: full ranking, what was trained on removed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from jobs.core.interactions import Interactions

TOP = 10
MOST_LISTENERS = 10_000
"""Of more listeners than this, evenly spaced ones are evaluated."""

_CHUNK = 512

Scores = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""Scores of every item for some listeners: (n,) indices -> (n, items); NaN: cannot be scored."""


def evaluate(score: Scores, train: Interactions, test: Interactions) -> dict[str, float]:
    """Means over listeners with held-out pairs, by metric name; empty if there are none.

    ``recall_at_10`` divides hits by the held-out pairs, ``ndcg_at_10`` and ``map_at_10`` by the
    best that ten places can hold. ``coverage_at_10`` is the share of all items in any list.
    """
    listeners = np.unique(test.user).astype(np.int64)
    if not len(listeners):
        return {}
    listeners = listeners[:: -(-len(listeners) // MOST_LISTENERS)]
    sums = np.zeros(3)
    shown: set[int] = set()
    for start in range(0, len(listeners), _CHUNK):
        chunk = listeners[start : start + _CHUNK]
        scores = np.array(score(chunk), dtype=np.float64)
        scores[np.isnan(scores)] = -np.inf
        scores[_mask(train, chunk, len(train.users))] = -np.inf
        relevant = _mask(test, chunk, len(test.users))
        top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        valid = np.isfinite(np.take_along_axis(scores, top, axis=1))
        hits = np.take_along_axis(relevant, top, axis=1) & valid
        sums += _sums(hits, relevant.sum(axis=1))
        shown |= set(top[valid].tolist())
    recall, ndcg, average = (sums / len(listeners)).tolist()
    return {
        f"recall_at_{TOP}": recall,
        f"ndcg_at_{TOP}": ndcg,
        f"map_at_{TOP}": average,
        f"coverage_at_{TOP}": len(shown) / len(train.items),
    }


def _mask(pairs: Interactions, chunk: NDArray[np.int64], listeners: int) -> NDArray[np.bool_]:
    """(len(chunk), items): where a listener of the chunk has a pair."""
    row_of = np.full(listeners, -1)
    row_of[chunk] = np.arange(len(chunk))
    mine = row_of[pairs.user] >= 0
    mask = np.zeros((len(chunk), len(pairs.items)), dtype=bool)
    mask[row_of[pairs.user[mine]], pairs.item[mine]] = True
    return mask


def _sums(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over listeners of recall, nDCG and average precision; ``hits`` is (n, ≤ TOP)."""
    places = np.arange(1, hits.shape[1] + 1)
    gains = 1.0 / np.log2(places + 1)
    best = np.minimum(relevant, hits.shape[1])
    ideal = np.cumsum(gains)[best - 1]
    precision = np.cumsum(hits, axis=1) / places
    return np.array(
        [
            (hits.sum(axis=1) / relevant).sum(),
            (hits @ gains / ideal).sum(),
            ((hits * precision).sum(axis=1) / best).sum(),
        ]
    )


def popularity(train: Interactions) -> Scores:
    """The same ranking for everyone: by the number of listeners."""
    counts = np.bincount(train.item[train.strength > 0], minlength=len(train.items))
    return lambda listeners: np.tile(counts, (len(listeners), 1))


def factors(users: NDArray[np.float32], items: NDArray[np.float32]) -> Scores:
    """Inner products of (users, rank) and (items, rank); a row of NaN has no factors."""
    return lambda listeners: users[listeners] @ items.T
