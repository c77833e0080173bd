"""What must hold at every moment: whatever is acknowledged, the log of a state can give back.

Logs of states are followed by their headers alone, by the rule of ADR 13: an entry counts if it is
whole and names the entry that counted last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from streams.kafka.message import Message
from tests.simulation.kafka import Group, Logs, Place, wire
from topology.graph import state_topic
from topology.model import Stage

BATCHES = "user-event-batches"


class LostError(AssertionError):
    """Something that was acknowledged is nowhere any more."""


@dataclass
class Chain:
    """The entries of a partition of a state's log that count."""

    head: str | None = ""
    applied: int = -1
    _pieces: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[Message]) -> Chain:
        """What a log that may have been truncated says."""
        chain = None
        for record in records:
            chain = chain or cls("" if record.offset == 0 else None)
            chain.add(record)
        return chain or cls()

    def add(self, record: Message) -> None:
        """Take in the next record."""
        told = {name: value.decode() for name, value in record.headers}
        number, count = int(told["piece"]), int(told["pieces"])
        if number == 0:
            self._pieces = []
        if number != len(self._pieces) or set(self._pieces) - {told["id"]}:
            self._pieces = []
            return
        self._pieces.append(told["id"])
        if number == count - 1:
            known = told["after"] == self.head
            if known or (self.head is None and told["kind"] == "snapshot"):
                self.head, self.applied = told["id"], int(told["applied"])
            self._pieces = []


class Watch:
    """Follows the states of one stage, and looks at each commit of its group."""

    def __init__(self, stage: Stage, group: Group, logs: Logs) -> None:
        self.losses: list[LostError] = []
        self._logs = logs
        self.stage = stage.name
        self._topics = [
            state_topic(stage, table).name for table in stage.tables if table.form == "log"
        ]
        self._sources = stage.consumes
        self.reached: defaultdict[Place, list[int]] = defaultdict(list)
        """By the offset of a record that is read: what a state that has counted it has applied."""
        self._chains: defaultdict[Place, Chain] = defaultdict(Chain)
        if self._topics:
            logs.written.append(self._follow)
            logs.truncated.append(self._compare)
            group.commits.append(self._look)

    def _follow(self, record: Message) -> None:
        place = (record.topic, record.partition)
        if record.topic in self._topics:
            self._chains[place].add(record)
        elif record.topic in self._sources:
            reached = self.reached[place]
            last = reached[-1] if reached else -1
            if record.topic == BATCHES:
                rows = wire().decode(BATCHES, record.value, ("offset",))["offset"]
                reached.append(max(last, *rows) if len(rows) else last)
            else:
                reached.append(record.offset)

    def _compare(self, place: Place) -> None:
        """What is left says what the whole said."""
        if place[0] in self._topics:
            left, whole = (
                Chain.of(self._logs.read(*place, 0, self._logs.bounds(*place)[1])),
                self._chains[place],
            )
            if (left.head, left.applied) != (whole.head, whole.applied):
                self.losses.append(LostError(f"{place} is truncated to {left}, it was {whole}"))

    def _look(self, place: Place, offset: int) -> None:
        """Whatever comes before an offset that is committed is in the state."""
        counted = self.reached[place][offset - 1] if offset else -1
        for topic in self._topics:
            applied = self._chains[topic, place[1]].applied
            if applied < counted:
                self.losses.append(
                    LostError(
                        f"{self.stage} has acknowledged {place[0]}[{place[1]}]@{offset - 1}, "
                        f"which goes up to {counted}; {topic} has {applied}"
                    )
                )
