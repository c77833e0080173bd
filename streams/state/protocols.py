"""What the store asks of a state that it keeps in a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class PartitionState(Protocol):
    """State of one source partition. Changes hold absolute values."""

    applied: int
    """How far the state is, -1 at first: the last source offset that is in it, or how often it
    has changed. It has changed since it was saved where this is another number."""

    def changes(self) -> bytes:
        """Every row that has changed since the last call, as it is now."""

    def snapshot(self) -> Iterable[bytes]:
        """All of it, in pieces of a few megabytes; forgets what has changed."""

    def load_changes(self, value: bytes) -> None:
        """Take over rows that `changes` gave."""

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Become what `snapshot` gave; called on a new state only."""
