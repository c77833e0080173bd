"""How a message says that a listener is forgotten: by headers that every reader understands.

`batch_events` puts them on a message of `user-event-batches` without rows, in its place among the
events, and on a record of `forgotten-listeners`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from streams.kafka.message import Message

FORGOTTEN = "forgotten"
BATCHED_TO = "batched_to"
UP_TO = "up_to"
REQUESTED_MS = "requested_ms"


@dataclass(frozen=True)
class Forgetting:
    """A listener's events at or below the offset ``up_to`` of its partition count no more.

    Those before ``batched_to`` had been in batches when it was said; those from there on never are.
    ``requested_ms`` is the log's own time of the request, milliseconds since 1970.
    """

    user_id: str
    batched_to: int
    up_to: int
    requested_ms: int

    def headers(self) -> dict[str, bytes]:
        """This as the headers of a message."""
        return {
            FORGOTTEN: self.user_id.encode(),
            BATCHED_TO: str(self.batched_to).encode(),
            UP_TO: str(self.up_to).encode(),
            REQUESTED_MS: str(self.requested_ms).encode(),
        }


def forgetting_of(headers: Iterable[tuple[str, bytes]] | None) -> Forgetting | None:
    """What the headers of a message say; None for a message like any other."""
    told = dict(headers or ())
    if FORGOTTEN not in told:
        return None
    batched_to, up_to, requested_ms = (int(told[n]) for n in (BATCHED_TO, UP_TO, REQUESTED_MS))
    return Forgetting(told[FORGOTTEN].decode(), batched_to, up_to, requested_ms)


@dataclass
class Stretch:
    """Messages of a stage in their order, and who is forgotten after them, before any other."""

    messages: list[Message]
    forgotten: list[tuple[Message, Forgetting]]


def stretches(messages: Sequence[Message]) -> Iterator[Stretch]:
    """The messages in stretches, each with what is said after it about who is forgotten."""
    stretch = Stretch([], [])
    for message in messages:
        forgetting = forgetting_of(message.headers)
        if forgetting is not None:
            stretch.forgotten.append((message, forgetting))
            continue
        if stretch.forgotten:
            yield stretch
            stretch = Stretch([], [])
        stretch.messages.append(message)
    yield stretch
