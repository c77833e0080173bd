"""Figures of a ranking on held-out pairs: full ranking, what was trained on removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.core.interactions import Interactions

TOP = 10
FAR = 20
MOST_LISTENERS = 10_000
"""Of more listeners than this, evenly spaced ones are evaluated."""

_CHUNK = 512

Scores = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""Scores of every item for some listeners: (n,) indices -> (n, items); NaN: cannot be scored."""


@dataclass(frozen=True)
class Judged:
    """What lists were worth, listener by listener.

    ``by_listener`` has one array, a number for each listener with held-out pairs, for each metric:
    `recall_at_10` and `recall_at_20` divide hits by the held-out pairs, `ndcg_at_10` and
    `map_at_10` by the best that ten places can hold; `novelty_at_10` is the mean of -log2 of the
    share of listeners who had heard an episode, in bits. ``shown`` counts by item in how many
    lists of ten it is.
    """

    by_listener: dict[str, NDArray[np.float64]]
    shown: NDArray[np.int64]

    @property
    def coverage(self) -> float:
        """The share of all items that are in any list."""
        return float(np.count_nonzero(self.shown) / len(self.shown))

    @property
    def gini(self) -> float:
        """How unequally the places of the lists are shared by the items: 0 evenly, towards 1 the
        fewer have them all; 0 if there are no lists."""
        counts = np.sort(self.shown).astype(np.float64)
        total, number = counts.sum(), len(counts)
        if not total:
            return 0.0
        places = 2.0 * np.arange(1, number + 1) - number - 1
        return float((places * counts).sum() / (number * total))


def judge(score: Scores, train: Interactions, test: Interactions) -> Judged:
    """Lists by ``score`` against the held-out pairs, what was trained on left out."""
    listeners = np.unique(test.user).astype(np.int64)
    if len(listeners):
        listeners = listeners[:: -(-len(listeners) // MOST_LISTENERS)]
    surprise = _surprise(train)
    shown = np.zeros(len(train.items), dtype=np.int64)
    parts = [_figures(np.zeros((0, FAR), bool), np.zeros(0, np.int64), np.zeros(0))]
    for start in range(0, len(listeners), _CHUNK):
        chunk = listeners[start : start + _CHUNK]
        scores = np.array(score(chunk), dtype=np.float64)
        scores[np.isnan(scores)] = -np.inf
        scores[_mask(train, chunk, len(train.users))] = -np.inf
        relevant = _mask(test, chunk, len(test.users))
        top = np.argsort(-scores, axis=1, kind="stable")[:, :FAR]
        valid = np.isfinite(np.take_along_axis(scores, top, axis=1))
        hits = np.take_along_axis(relevant, top, axis=1) & valid
        listed = valid[:, :TOP]
        novelty = (surprise[top[:, :TOP]] * listed).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
        parts.append(_figures(hits, relevant.sum(axis=1), novelty))
        shown += np.bincount(top[:, :TOP][listed], minlength=len(shown))
    return Judged(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, shown
    )


def evaluate(score: Scores, train: Interactions, test: Interactions) -> dict[str, float]:
    """Means over listeners with held-out pairs, by metric name; empty if there are none.

    The metrics of `Judged` that a generation is published with, `coverage_at_10`, and how sure
    nDCG is: `ndcg_at_10_error`, the standard error of its mean, over so many `listeners`.
    """
    judged = judge(score, train, test)
    names = (f"recall_at_{TOP}", f"ndcg_at_{TOP}", f"map_at_{TOP}")
    if not len(judged.by_listener[names[0]]):
        return {}
    means = {name: float(judged.by_listener[name].mean()) for name in names}
    gains = judged.by_listener[f"ndcg_at_{TOP}"]
    return {
        **means,
        f"coverage_at_{TOP}": judged.coverage,
        f"ndcg_at_{TOP}_error": float(gains.std() / np.sqrt(len(gains))),
        "listeners": float(len(gains)),
    }


def _surprise(train: Interactions) -> NDArray[np.float64]:
    """Bits by item: -log2 of the share of listeners who heard it, as if one more person had."""
    heard = np.bincount(train.item[train.strength > 0], minlength=len(train.items))
    result: NDArray[np.float64] = -np.log2((heard + 1.0) / (len(train.users) + 1.0))
    return result


def _mask(pairs: Interactions, chunk: NDArray[np.int64], listeners: int) -> NDArray[np.bool_]:
    """(len(chunk), items): where a listener of the chunk has a pair."""
    row_of = np.full(listeners, -1)
    row_of[chunk] = np.arange(len(chunk))
    mine = row_of[pairs.user] >= 0
    mask = np.zeros((len(chunk), len(pairs.items)), dtype=bool)
    mask[row_of[pairs.user[mine]], pairs.item[mine]] = True
    return mask


def _figures(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64], novelty: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """The metrics of `Judged` for some listeners; ``hits`` is (n, ≤ FAR)."""
    near = hits[:, :TOP]
    places = np.arange(1, near.shape[1] + 1)
    gains = 1.0 / np.log2(places + 1)
    best = np.minimum(relevant, near.shape[1])
    ideal = np.cumsum(gains)[best - 1]
    precision = np.cumsum(near, axis=1) / places
    return {
        f"recall_at_{TOP}": near.sum(axis=1) / relevant,
        f"recall_at_{FAR}": hits.sum(axis=1) / relevant,
        f"ndcg_at_{TOP}": near @ gains / ideal,
        f"map_at_{TOP}": (near * precision).sum(axis=1) / best,
        f"novelty_at_{TOP}": novelty,
    }


def popularity(train: Interactions) -> Scores:
    """The same ranking for everyone: by the number of listeners."""
    counts = np.bincount(train.item[train.strength > 0], minlength=len(train.items))
    return lambda listeners: np.tile(counts, (len(listeners), 1))


def factors(users: NDArray[np.float32], items: NDArray[np.float32]) -> Scores:
    """Inner products of (users, rank) and (items, rank); a row of NaN has no factors."""
    return lambda listeners: users[listeners] @ items.T
