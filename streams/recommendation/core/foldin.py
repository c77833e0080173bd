"""Fold-in: the factors of a listener from those of the items, without training.

The same normal equations as a user half-step of Spark's implicit ALS (see `core.confidence`), so
that a listener folded in on a finished model gets the vector that training gave, and a listener
whom training never saw gets the one it would have given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def gram(factors: Floats) -> Doubles:
    """YᵀY of the item factors, (rank, rank), in double precision."""
    wide = factors.astype(np.float64)
    return wide.T @ wide


def fold_in(
    gram_matrix: Doubles,
    histories: Sequence[tuple[Floats, Floats]],
    *,
    alpha: float,
    regularization: float,
) -> Floats:
    """The factors of each listener, (listeners, rank).

    ``histories`` holds, for each listener, the factors of the episodes that count, (n, rank), and
    their strengths, (n,). A listener without a positive strength gets zeros, as in training.
    """
    rank = len(gram_matrix)
    vectors = np.zeros((len(histories), rank), dtype=np.float32)
    solvable = [i for i, (_, strengths) in enumerate(histories) if np.any(strengths > 0)]
    if not solvable:
        return vectors
    left = np.empty((len(solvable), rank, rank))
    right = np.empty((len(solvable), rank, 1))
    diagonal = np.arange(rank)
    for place, i in enumerate(solvable):
        factors = histories[i][0].astype(np.float64)
        strengths = histories[i][1].astype(np.float64)
        extra = alpha * np.abs(strengths)
        positive = strengths > 0
        left[place] = gram_matrix + (factors.T * extra) @ factors
        left[place, diagonal, diagonal] += regularization * np.count_nonzero(positive)
        right[place, :, 0] = factors.T @ np.where(positive, 1.0 + extra, 0.0)
    vectors[solvable] = np.linalg.solve(left, right)[:, :, 0]
    return vectors
