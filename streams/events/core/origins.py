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

from streams.kafka.sizes import record_bytes
from streams.kafka.wire import ORIGIN
from topology.model import Topic

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

Header = tuple[str, bytes]
Headers = Sequence[Header] | None


@dataclass(frozen=True)
class Source:
    """The topic of events: Kafka's id of it, how many partitions its keys lie in, and how many
    bytes it takes of a record."""

    topic_id: str
    partitions: int
    max_bytes: int

    @classmethod
    def of(cls, topic_id: str, topic: Topic) -> Source:
        """What is declared of the topic, which Kafka calls ``topic_id``."""
        return cls(topic_id, topic.partitions, topic.max_message_bytes)

    def lay_in(self, sender: str) -> str | None:
        """The partition, as text, that an event was handed over from; None for another sender."""
        # Kafka's ids of topics may have slashes of their own.
        topic_id, _, partition = sender.rpartition("/")
        if topic_id != self.topic_id or not _is_number(partition):
            return None
        return partition if int(partition) < self.partitions else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18 and text == str(int(text))


def import_sender(topic_id: str, import_id: str) -> str:
    """The name of an import as a sender: what it brought into a topic that was deleted since is
    not in the one that was made anew."""
    return f"{IMPORT}{topic_id}/{import_id}"


def origin(sender: str, number: int) -> Header:
    """The header of a sender's record."""
    return ORIGIN, f"{sender}:{number}".encode()


def handed_over(
    source: Source,
    partition: int,
    offset: int,
    key: bytes,
    value: bytes | None,
    headers: Headers = None,
) -> list[Header] | None:
    """The headers of an event that is handed over from this place: its own, and where it lay.

    Its own are left out where the record would not fit its topic with them; None if it does not
    fit without them either.
    """
    place = origin(f"{source.topic_id}/{partition}", offset)
    own = [(name, value) for name, value in headers or () if name != ORIGIN]
    for kept in ([*own, place], [place]):
        if record_bytes(key, value, kept) <= source.max_bytes:
            return kept
    return None


def was_handed_over(headers: Headers, source: Source) -> bool:
    """Whether an event lies where it does because it was handed over, within this topic."""
    return place_before(headers, source) is not None


def place_before(headers: Headers, source: Source) -> tuple[int, int] | None:
    """Partition and offset of an event before it was handed over within this topic, if it was."""
    told = _origin_of(headers)
    partition = source.lay_in(told[0]) if told is not None else None
    return (int(partition), told[1]) if told is not None and partition is not None else None


def _origin_of(headers: Headers) -> tuple[str, int] | None:
    """Sender and number of a record, None where it has none that make sense."""
    told = next((value for name, value in headers or () if name == ORIGIN), None)
    if told is None:
        return None
    sender, _, number = told.decode(errors="replace").rpartition(":")
    return (sender, int(number)) if _is_number(number) else None


def client_of(headers: Headers) -> str:
    """Who produced a record, `UNKNOWN` where it does not say."""
    told = next((value for name, value in headers or () if name == CLIENT_ID), None)
    return (told or b"").decode(errors="replace")[:_LONGEST_NAME] or UNKNOWN


_TOLD = ("repeated", "moved", "clients", "marks", "strays_below", "forgotten", "requests")


@dataclass
class Tally:
    """What became of a partition's records so far, beside those that went into batches."""

    repeated: int = 0
    """Valid events that came before."""
    moved: int = 0
    """Valid events that were handed over to the partition of their listener."""
    clients: dict[str, int] = field(default_factory=dict)
    """How many of the latter by who produced them."""
    marks: dict[str, int] = field(default_factory=dict)
    """The highest number of each sender: a source partition's, or that of a recent import, the
    most recent last."""
    strays_below: int = 0
    """Offset below which events count in this partition whomever they are of: a release that
    handed none over counted them here. Told by `podstream replay`."""
    forgotten: int = 0
    """Valid events that were left out because their listener had asked to be forgotten."""
    requests: int = 0
    """Offset of `forget-requests` below which all requests of the partition are answered."""

    def again(self, headers: Headers, source: Source) -> bool:
        """Whether a record came before, by its origin, which is noted.

        What was handed over or imported in another topic, and copied here with its headers, is an
        event like any other.
        """
        told = _origin_of(headers)
        if told is None:
            return False
        sender, mark = told
        if sender.startswith(import_sender(source.topic_id, "")):
            sender = sender[:_LONGEST_NAME]
        elif (partition := source.lay_in(sender)) is not None:
            sender = partition
        else:
            return False
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
        told = {name: value for name in _TOLD if (value := getattr(self, name))}
        return json.dumps(told, separators=(",", ":")).encode() if told else b""


def tally_of(headers: Headers) -> Tally:
    """What a batch says by its headers, nothing where it has no tally."""
    told = next((value for name, value in headers or () if name == TALLY), None)
    return Tally(**json.loads(told)) if told else Tally()
