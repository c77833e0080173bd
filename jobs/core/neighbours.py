"""Which episodes are near to which, by cosine of unit vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_pool(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The unit vector (d,) in the direction of the mean of unit vectors (n, d); n ≥ 1."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    norm = np.linalg.norm(mean)
    return np.asarray(mean / norm if norm > 0 else mean, dtype=np.float32)


def nearest(
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    wanted: Sequence[int],
    count: int,
) -> list[list[tuple[str, float]]]:
    """For each wanted row the ``count`` nearest others: (id, cosine), nearest first.

    ``vectors`` are unit vectors, (len(ids), d). Equal cosines are ordered by id.
    """
    found = []
    order = np.argsort(np.asarray(ids))  # so that a stable sort puts equal cosines in order of id
    for row in wanted:
        cosine = (vectors @ vectors[row])[order]
        best = order[np.argsort(-cosine, kind="stable")[: count + 1]]
        near = [index for index in best.tolist() if index != row][:count]
        found.append([(ids[index], float(vectors[index] @ vectors[row])) for index in near])
    return found
