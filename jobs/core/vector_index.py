"""The vectors of all episodes so far, in the rows of one matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class VectorIndex:
    """Unit vectors (n, d) by one model, n ids in the order of the rows, and hashes of their texts.

    A row keeps its number until an episode is dropped: the last row then takes its place.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._hashes: list[str] = []
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self._row: dict[str, int] = {}

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._row

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32, shape (episodes, d), in the order of ``ids``."""
        return self._vectors[: len(self.ids)]

    def has(self, episode_id: str, text_hash: str) -> bool:
        """Whether the episode's vector is of this text."""
        row = self._row.get(episode_id)
        return row is not None and self._hashes[row] == text_hash

    def row(self, episode_id: str) -> int:
        """The row of an episode; KeyError if it has none."""
        return self._row[episode_id]

    def put(self, episode_id: str, vector: NDArray[np.float32], text_hash: str) -> None:
        """Add or replace the unit vector (d,) of an episode and the hash of its text.

        The matrix is doubled when it is full.
        """
        row = self._row.setdefault(episode_id, len(self.ids))
        if row == len(self.ids):
            self.ids.append(episode_id)
            self._hashes.append(text_hash)
        if row >= len(self._vectors):
            room = np.zeros((max(256, 2 * row), len(vector)), dtype=np.float32)
            room[: len(self._vectors)] = self._vectors.reshape(-1, len(vector))
            self._vectors = room
        self._hashes[row] = text_hash
        self._vectors[row] = vector

    def drop(self, episode_id: str) -> None:
        """Remove an episode; nothing happens if it is not known."""
        row = self._row.pop(episode_id, None)
        if row is None:
            return
        last, text_hash = self.ids.pop(), self._hashes.pop()
        if row < len(self.ids):
            self.ids[row], self._hashes[row] = last, text_hash
            self._vectors[row] = self._vectors[len(self.ids)]
            self._row[last] = row
