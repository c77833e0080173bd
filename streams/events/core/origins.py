"""Where a record of the events came from, as its sender numbers it, and what that tells.

Two senders may have to send again what is in the log already, because a kill came in between: this
stage, which hands an event over to the partition of its listener, and an import. Both send their
records to a partition in ascending order and number them, in the header `ORIGIN`. So the highest
number of each sender tells which of its records came before, however long ago.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

ORIGIN = "podstream.origin"
"""Header: the sender, a colon, and the number of the record among those that it sends."""

CLIENT_ID = "client.id"
"""Header by which a producer may say who it is: Kafka itself keeps no such thing."""

TALLY = "tally"
"""Header of a batch: what `Tally` holds, up to the batch's last offset."""

IMPORT = "import/"
"""What the names of imports begin with."""

UNKNOWN, OTHERS = "unknown", "others"

_IMPORTS_KEPT = 16
_CLIENTS_KEPT = 20
_LONGEST_NAME = 64
_KEPT_HEADER_BYTES = 32_768

Header = tuple[str, bytes]
Headers = Sequence[Header] | None


def origin(sender: str, number: int) -> Header:
    """The header of a sender's record."""
    return ORIGIN, f"{sender}:{number}".encode()


def handed_over(headers: Headers, topic_id: str, partition: int, offset: int) -> list[Header]:
    """The headers of an event that is handed over from this place: its own, and where it lay.

    Its own are left out where they are so many that the record might not fit its topic.
    """
    own = [(name, value) for name, value in headers or () if name != ORIGIN]
    if sum(len(name) + len(value or b"") for name, value in own) > _KEPT_HEADER_BYTES:
        own = []
    return [*own, origin(f"{topic_id}/{partition}", offset)]


def client_of(headers: Headers) -> str:
    """Who produced a record, `UNKNOWN` where it does not say."""
    told = next((value for name, value in headers or () if name == CLIENT_ID), None)
    return (told or b"").decode(errors="replace")[:_LONGEST_NAME] or UNKNOWN


@dataclass
class Tally:
    """What became of a partition's records so far, beside those that went into batches."""

    topic_id: str
    """Kafka's id of the topic: what was handed over in another one, and copied here with its
    headers, is an event like any other."""
    repeated: int = 0
    """Valid events that came before."""
    moved: int = 0
    """Valid events that were handed over to the partition of their listener."""
    clients: dict[str, int] = field(default_factory=dict)
    """How many of the latter by who produced them."""
    marks: dict[str, int] = field(default_factory=dict)
    """The highest number of each sender: a source partition's, or that of a recent import, the
    most recent last."""

    def again(self, headers: Headers) -> bool:
        """Whether a record came before, by its origin, which is noted."""
        told = next((value for name, value in headers or () if name == ORIGIN), None)
        if told is None:
            return False
        sender, _, number = told.decode(errors="replace").rpartition(":")
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            return False
        if sender.startswith(f"{self.topic_id}/"):
            sender = sender.removeprefix(f"{self.topic_id}/")
        elif not sender.startswith(IMPORT):
            return False
        sender, mark = sender[:_LONGEST_NAME], int(number)
        before = self.marks.pop(sender, None)
        self.marks[sender] = mark if before is None else max(before, mark)
        if before is None:
            imports = [name for name in self.marks if name.startswith(IMPORT)]
            for name in imports[:-_IMPORTS_KEPT]:
                del self.marks[name]
        return before is not None and mark <= before

    def note_moved(self, client: str) -> None:
        """Count an event that is handed over."""
        self.moved += 1
        known = client in self.clients or len(self.clients) < _CLIENTS_KEPT
        name = client if known else OTHERS
        self.clients[name] = self.clients.get(name, 0) + 1

    def header(self) -> bytes:
        """This as the value of `TALLY`; empty where there is nothing to tell."""
        told = {
            name: value
            for name in ("repeated", "moved", "clients", "marks")
            if (value := getattr(self, name))
        }
        return json.dumps(told, separators=(",", ":")).encode() if told else b""


def tally_of(headers: Headers, topic_id: str) -> Tally:
    """What a batch says by its headers, nothing where it has no tally."""
    told = next((value for name, value in headers or () if name == TALLY), None)
    return Tally(topic_id, **json.loads(told)) if told else Tally(topic_id)
