"""When a partition in which nothing happens is said to be quiet."""

from __future__ import annotations

from collections.abc import Iterable

FIRST_AFTER_S, LONGEST_S = 60.0, 3600.0
"""It is said a minute after the last record, then less and less often, at last every hour."""


class QuietPartitions:
    """The partitions of one owner, and when each of them is to be looked at next.

    Times are seconds of a clock that never goes back.
    """

    def __init__(self) -> None:
        self._looked: dict[int, tuple[float, float]] = {}
        """When a partition was looked at last, or had a record, and how long that is to do."""

    def heard(self, partitions: Iterable[int], now: float) -> None:
        """Something has come in these partitions, or they are owned from now on."""
        self._looked |= dict.fromkeys(partitions, (now, FIRST_AFTER_S))

    def forget(self, partition: int) -> None:
        """A partition is another's from now on."""
        self._looked.pop(partition, None)

    def due(self, now: float) -> list[int]:
        """The partitions in which nothing has come for long enough; each once."""
        found = [p for p, (since, wait) in self._looked.items() if now - since >= wait]
        for partition in found:
            wait = self._looked[partition][1]
            self._looked[partition] = (now, min(2 * wait, LONGEST_S))
        return found
