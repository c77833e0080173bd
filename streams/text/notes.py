"""What was dropped, guessed or mended while something was read: said once, and not without end."""

from __future__ import annotations

from collections.abc import Iterable

MAX_NOTES = 10
"""Notes of a record."""
MAX_NOTE = 200
"""Characters of a note."""


class Notes:
    """Notes in the order in which they were made, each once; what is beyond the tenth is left out.

    Notes are told by whoever reads them, people and counters alike, so that they hold no more of
    the input than is needed to find the place.
    """

    def __init__(self, notes: Iterable[str] = ()) -> None:
        self._notes: dict[str, None] = {}
        self.add(*notes)

    def add(self, *notes: str) -> None:
        """Make notes; one that was made before, or is empty, adds nothing."""
        for note in notes:
            if note and len(self._notes) < MAX_NOTES:
                # Surrogates, which markup may spell, fit into no record.
                fitting = note[:MAX_NOTE].encode("utf-8", "replace").decode()
                self._notes.setdefault("".join(c if c.isprintable() else " " for c in fitting))

    def listed(self) -> list[str]:
        """The notes."""
        return list(self._notes)
