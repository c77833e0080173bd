"""What a stage may ask of a keyed table, and what a state must give to be kept in a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class StateTable(Protocol):
    """Keyed state of a stage, owned by partitions and logged to the table's changelog topic."""

    def get(self, partition: int, key: bytes = b"") -> bytes | None:
        """The value of a key in a partition that this worker owns, None if there is none."""

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        """Keep a value under a key."""

    def delete(self, partition: int, key: bytes) -> None:
        """Forget a key and its value."""

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of everything that a partition owns."""

    def partitions(self) -> set[int]:
        """The partitions that this worker owns now, none while they are being recovered."""


class PartitionState(Protocol):
    """State of one source partition: a function of its log up to the offset ``applied``.

    Changes hold absolute values, so that one may be loaded over a state that has some of it
    already: whoever folds the same log writes the same values.
    """

    applied: int
    """The last source offset that is in the state; -1 before the first."""

    def changes(self) -> bytes:
        """Every row that has changed since the last call, as it is now."""

    def snapshot(self) -> Iterable[bytes]:
        """All of it, in pieces of a few megabytes; forgets what has changed."""

    def load_changes(self, value: bytes) -> None:
        """Take over rows that `changes` gave."""

    def load_snapshot(self, pieces: Sequence[bytes]) -> None:
        """Become what `snapshot` gave; called on a new state only."""
