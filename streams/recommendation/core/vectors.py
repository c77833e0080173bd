"""Vectors of episodes, in the rows that the recommender gives these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.recommendation.core.foldin import Floats


class Vectors:
    """One float32 vector a row, for those rows that have one."""

    def __init__(self, dimension: int):
        self._matrix = np.zeros((0, dimension), dtype=np.float32)
        self._present = np.zeros(0, dtype=bool)
        self.count = 0

    def put(self, row: int, vector: Floats) -> None:
        """Set the vector of a row; ValueError if its length is another."""
        if vector.shape != (self._matrix.shape[1],):
            raise ValueError(f"expected {self._matrix.shape[1]} components, got {vector.shape}")
        self._reserve(row + 1)
        self.count += not self._present[row]
        self._matrix[row] = vector
        self._present[row] = True

    def drop(self, row: int) -> None:
        """Forget the vector of a row; nothing happens where it has none."""
        if row < len(self._present) and self._present[row]:
            self._matrix[row] = 0.0
            self._present[row] = False
            self.count -= 1

    def first(self, rows: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Matrix (rows, dimension), zeros where there is no vector, and which rows have one."""
        self._reserve(rows)
        return self._matrix[:rows], self._present[:rows]

    def _reserve(self, rows: int) -> None:
        missing = rows - len(self._present)
        if missing > 0:
            grow = max(missing, len(self._present), 256)
            self._matrix = np.vstack(
                [self._matrix, np.zeros((grow, self._matrix.shape[1]), dtype=np.float32)]
            )
            self._present = np.concatenate([self._present, np.zeros(grow, dtype=bool)])
