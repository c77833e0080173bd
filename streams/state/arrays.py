"""Groups of rows in numpy: where they start, and rows that stand for several."""

from __future__ import annotations

import numpy as np


def starts(sorted_values: np.ndarray) -> np.ndarray:
    """Where a run of equal values starts: a mask, (n,), over n sorted values."""
    first = np.ones(len(sorted_values), bool)
    first[1:] = sorted_values[1:] != sorted_values[:-1]
    return first


def spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place i ``counts[i]`` times, in order, and beside it 0, 1, 2 … within each place.

    ``spread([2, 0, 3])`` is [0, 0, 2, 2, 2] and [0, 1, 0, 1, 2]. Both are as long as the sum.
    """
    each = np.repeat(np.arange(len(counts)), counts)
    return each, np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts)
