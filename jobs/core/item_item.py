"""Learning the neighbours of episodes from pairs: EASE on the head, what goes together on the rest.

Nothing here is as large as the catalogue squared: EASE inverts a matrix of the episodes with most
listeners, at most ``head`` of them; the other two tables are sparse and gone through row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.core.interactions import Interactions
from streams.recommendation.core.foldin import Floats
from streams.recommendation.core.item_model import (
    NO_EPISODE,
    TABLES,
    Factors,
    ItemModel,
    most_heard,
)

HEAD = 4_000
KEPT = 100
EASE_REGULARIZATION = 300.0
POPULARITY_EXPONENT = 0.6
"""How much the popularity of an episode counts against it where both were heard together."""

NEAR_HALF_LIFE = 5.0
MOST_STEPS = 20
"""Episodes heard so many steps apart are no longer near."""

MOST_OF_A_LISTENER = 1_000
"""Episodes of a listener, the latest ones, that count in what goes together: pairs grow with the
square of it."""

_BLOCK = 512


@dataclass(frozen=True)
class _Head:
    """EASE among the episodes with most listeners: ``place`` of each episode there, or -1, their
    indices ``items`` (m,), and the weights (m, m), from the row to the column."""

    place: NDArray[np.int64]
    items: NDArray[np.int64]
    weights: Floats


def learn_items(
    pairs: Interactions,
    factors: Factors | None = None,
    *,
    regularization: float = EASE_REGULARIZATION,
    head: int = HEAD,
    kept: int = KEPT,
) -> ItemModel:
    """The model of all episodes of ``pairs``, by their index, with ``kept`` neighbours each.

    An episode that nobody heard has no neighbours. ``regularization`` is that of EASE.
    """
    count = len(pairs.items)
    heard = pairs.where(pairs.strength > 0)
    order = np.lexsort((heard.item, heard.at, heard.user))
    user, item = heard.user[order], heard.item[order]
    listeners = np.bincount(item, minlength=count).astype(np.float64)
    top = _ease(user, item, listeners, len(pairs.users), regularization, head)
    together = _together(user, item, listeners, len(pairs.users))
    near = _near(user, item, listeners)
    neighbours = np.full((count, kept), NO_EPISODE, dtype=np.int32)
    weights = np.zeros((count, kept, len(TABLES)), dtype=np.float32)
    scratch = np.zeros((count, len(TABLES)), dtype=np.float32)
    for row, tables in _rows(top, together, near, listeners):
        for number, (columns, values) in enumerate(tables):
            scratch[columns, number] = values
        support = np.unique(np.concatenate([columns for columns, _ in tables]))
        support = support[scratch[support].any(axis=1)]
        found = np.abs(scratch[support])
        share = (found / np.maximum(found.max(axis=0, initial=0.0), 1e-30)).sum(axis=1)
        best = support[np.argsort(-share, kind="stable")[:kept]]
        neighbours[row, : len(best)] = best
        weights[row, : len(best)] = scratch[best]
        scratch[support] = 0.0
    sums = np.bincount(item, heard.strength[order], minlength=count).astype(np.float64)
    first_at = np.full(count, np.iinfo(np.int64).max)
    last_at = np.zeros(count, dtype=np.int64)
    np.minimum.at(first_at, heard.item, heard.at)
    np.maximum.at(last_at, heard.item, heard.at)
    return ItemModel(
        neighbours=neighbours,
        weights=weights,
        listeners=listeners.astype(np.float32),
        liking=_shrunk(sums, listeners),
        first_at=np.where(listeners > 0, first_at, 0),
        last_at=last_at,
        popular=most_heard(listeners.astype(np.float32)),
        factors=factors,
    )


_Row = tuple[NDArray[np.int64], Floats]


def _rows(
    head: _Head,
    together: sparse.csr_matrix,
    near: sparse.csr_matrix,
    listeners: NDArray[np.float64],
) -> Iterator[tuple[int, list[_Row]]]:
    """Each episode that was heard: columns and weights of its row in each of `TABLES`."""
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    left = together.T.tocsr()
    for start in range(0, together.shape[1], _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, together.shape[1]))
        block = (left[rows] @ together).tocsr()
        for number, row in enumerate(rows.tolist()):
            if not listeners[row]:
                continue
            place = head.place[row]
            ease = nothing if place < 0 else (head.items, head.weights[place])
            columns, values = _row(block, number)
            popularity = np.maximum(listeners[columns], 1.0) ** POPULARITY_EXPONENT
            scaled = (values / listeners[row] / popularity).astype(np.float32)
            kept = columns != row
            yield row, [ease, (columns[kept], scaled[kept]), _row(near, row)]


def _row(matrix: sparse.csr_matrix, row: int) -> _Row:
    start, end = matrix.indptr[row], matrix.indptr[row + 1]
    return matrix.indices[start:end].astype(np.int64), matrix.data[start:end].astype(np.float32)


def ease_weights(gram: NDArray[np.float64], regularization: float) -> Floats:
    """EASE's weights (m, m), zero on the diagonal, from the counts XᵀX of m episodes."""
    diagonal = np.arange(len(gram))
    wide = gram.copy()
    wide[diagonal, diagonal] += regularization
    inverse = np.linalg.inv(wide)
    weights = (-inverse / np.diag(inverse)).astype(np.float32)
    weights[diagonal, diagonal] = 0.0
    return weights


def _ease(
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    listeners: NDArray[np.float64],
    users: int,
    regularization: float,
    most: int,
) -> _Head:
    items = np.sort(np.argsort(-listeners, kind="stable")[: min(most, np.count_nonzero(listeners))])
    place = np.full(len(listeners), -1, dtype=np.int64)
    place[items] = np.arange(len(items))
    inside = place[item] >= 0
    shape = (users, len(items))
    ones = np.ones(np.count_nonzero(inside))
    heard = sparse.csr_matrix((ones, (user[inside], place[item[inside]])), shape=shape)
    gram = np.asarray((heard.T @ heard).todense(), dtype=np.float64)
    return _Head(place, items, ease_weights(gram, regularization))


def _together(
    user: NDArray[np.int32], item: NDArray[np.int32], listeners: NDArray[np.float64], users: int
) -> sparse.csr_matrix:
    """(users, items): the latest episodes of each, weighing the less the more there are; its
    square is the sum over listeners of one divided by what they heard."""
    counts = np.bincount(user, minlength=users)
    from_end = np.cumsum(counts)[user] - np.arange(len(user))
    latest = from_end <= MOST_OF_A_LISTENER
    user, item = user[latest], item[latest]
    weight = 1.0 / np.sqrt(np.minimum(counts[user], MOST_OF_A_LISTENER))
    return sparse.csr_matrix((weight, (user, item)), shape=(users, len(listeners)))


def _near(
    user: NDArray[np.int32], item: NDArray[np.int32], listeners: NDArray[np.float64]
) -> sparse.csr_matrix:
    """(items, items): how often two were heard few steps apart, divided by what is to be expected
    of their popularity."""
    shape = (len(listeners), len(listeners))
    found = sparse.csr_matrix(shape)
    for step in range(1, MOST_STEPS + 1):
        same = user[step:] == user[:-step]
        before, after = item[:-step][same], item[step:][same]
        weight = np.full(len(before), 2.0 ** (-(step - 1) / NEAR_HALF_LIFE))
        found = found + sparse.csr_matrix((weight, (before, after)), shape=shape)
    scale = sparse.diags(1.0 / np.sqrt(np.maximum(listeners, 1.0)))
    return (scale @ (found + found.T) @ scale).tocsr()


def _shrunk(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> Floats:
    """Means that lean towards the mean of all where there are few: as if by five more."""
    total = counts.sum()
    usual = sums.sum() / total if total else 0.0
    result: Floats = ((sums + 5.0 * usual) / (counts + 5.0)).astype(np.float32)
    return result
