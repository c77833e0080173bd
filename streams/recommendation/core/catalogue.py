"""Which generations there are to be served, by the records of the log: a fold in any order.

A generation lies in a slot, where the next one of the slot takes its place in the topics. Of each
slot the newest counts that is not refused; of those, the newest is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL = "als"
"""What trains the generations that lists are made with."""

_REMEMBERED = 3
"""Generations of a slot: those of which the last is refused may still be whole."""


class Catalogue:
    """The generations that are published and not refused, by their slots.

    A fold over the records of `model-generations` and the refusals of `generation-refusals`, which
    may come in any order and any number of times.
    """

    def __init__(self) -> None:
        self.newest = ""
        """The newest generation that is published."""
        self._slots: dict[int, list[str]] = {}
        self._refused: set[str] = set()

    def announce(self, record: Mapping[str, Any]) -> None:
        """A `model_generation` record; one that its trainer refused is not published."""
        name, slot = record["generation"], record.get("slot", 0)
        if record["model"] != MODEL or record.get("refused_because"):
            return
        self.newest = max(self.newest, name)
        there = {*self._slots.get(slot, ()), name}
        self._slots[slot] = sorted(there, reverse=True)[:_REMEMBERED]

    def refuse(self, generation: str) -> None:
        """Somebody who read the generation refuses it."""
        self._refused.add(generation)

    def candidates(self) -> list[str]:
        """What may be served, as far as it is whole, best first."""
        return sorted((name for names in self.by_slot().values() for name in names), reverse=True)

    def usable(self) -> list[str]:
        """The one generation of each slot that counts, the one in service first."""
        counted = {names[0] for names in self.by_slot().values() if names}
        return [name for name in self.candidates() if name in counted]

    def by_slot(self) -> dict[int, list[str]]:
        """The latest generations of each slot that are not refused, newest first: while the first
        is not whole, those after it still may be."""
        return {
            slot: [name for name in there if name not in self._refused]
            for slot, there in self._slots.items()
        }
