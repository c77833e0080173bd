"""Which generations there are to be served, by the records of the log: a fold in any order.

A generation lies in a slot, where the next one of the slot takes its place in the topics. Of each
slot the newest counts that is not refused; of those, the newest is served, unless somebody chose
another one. So many as are kept are out of reach of the next generation: it lies in one slot more.
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
    may come in any order and any number of times; of `served-generation`, whose last record counts.
    """

    def __init__(self) -> None:
        self.newest = ""
        """The newest generation that is published."""
        self.chosen = ""
        """The generation that was chosen to serve; empty: the newest."""
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

    def choose(self, record: Mapping[str, Any]) -> None:
        """A `served_generation` record."""
        if record["model"] == MODEL:
            self.chosen = record["generation"]

    def candidates(self) -> list[str]:
        """What may be served, as far as it is whole, best first: what was chosen, then the newest;
        last what has lost its slot to one that is refused."""
        counted = self._counted()
        found = (name for names in self.by_slot().values() for name in names)
        return sorted(
            found,
            key=lambda name: (name == self.chosen and name in counted, name in counted, name),
            reverse=True,
        )

    def usable(self) -> list[str]:
        """What the topics hold that may be served, the one in service first; if that is nothing,
        what served last."""
        counted, found = self._counted(), self.candidates()
        return [name for name in found if name in counted] or found[:1]

    def _counted(self) -> set[str]:
        """The newest generation of each slot, unless it is refused."""
        return {names[0] for names in self._slots.values()} - self._refused

    def free_slot(self, kept: int) -> int:
        """Where the next generation goes, which is none of the ``kept`` best."""
        taken = {*self.usable()[:kept]}
        used = {slot for slot, names in self.by_slot().items() if taken & {*names[:1]}}
        return next(slot for slot in range(kept + 1) if slot not in used)

    def by_slot(self) -> dict[int, list[str]]:
        """The latest generations of each slot that are not refused, newest first: while the first
        is not whole, those after it still may be."""
        return {
            slot: [name for name in there if name not in self._refused]
            for slot, there in self._slots.items()
        }
