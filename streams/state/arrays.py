"""Groups of rows in numpy: where they start, and rows that stand for several."""

from __future__ import annotations

import numpy as np


def starts(sorted_values: np.ndarray) -> np.ndarray:
    """Where a run of equal values starts, as a mask."""
    first = np.ones(len(sorted_values), bool)
    first[1:] = sorted_values[1:] != sorted_values[:-1]
    return first


def spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each place as often as its count says, and 0, 1, 2 … among those of one place."""
    each = np.repeat(np.arange(len(counts)), counts)
    return each, np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts)
