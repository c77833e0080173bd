"""What lies in dead-letter topics, and which of it was settled by sending it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from schemas.codec import RecordCodec
from streams.kafka import letters as dead_letters
from streams.kafka.letters import Letter, Range
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from topology.settings import Settings
from topology.topics.operations import REDRIVE_PROGRESS


class Progress:
    """Which letters are settled, in a topic of its own.

    Committed offsets would not do: a broker forgets those of a group that nobody has been in for
    a week, and then everything would be sent again.
    """

    def __init__(self, settings: Settings):
        self._servers = settings.kafka_bootstrap_servers
        self._codec = RecordCodec(
            REDRIVE_PROGRESS.name, "redrive_progress", open_registry(settings)
        )

    def read(self) -> dict[str, list[Range]]:
        """Dead-letter topic -> offsets of the letters that are settled."""
        found: dict[str, list[Range]] = {}

        def apply(batch: list[Message]) -> None:
            for message in batch:
                record = self._codec.decode(message.value)
                found[record["topic"]] = [(one["first"], one["last"]) for one in record["done"]]

        read_all(self._servers, [REDRIVE_PROGRESS.name], apply)
        return found

    def encode(self, topic: str, done: Sequence[Range]) -> bytes:
        """The record that says which offsets of a dead-letter topic have been redriven, as Avro."""
        ranges = [{"first": first, "last": last} for first, last in done]
        return self._codec.encode({"topic": topic, "done": ranges, "at": datetime.now(UTC)})


def read_letters(
    bootstrap_servers: str, topics: Sequence[str], check: Callable[[], None] = lambda: None
) -> dict[str, list[Letter]]:
    """The distinct letters of dead-letter topics, newest last, without their values.

    ``check`` is called now and then, and may raise.
    """
    found: dict[str, list[Letter]] = {topic: [] for topic in topics}

    def keep(batch: list[Message]) -> None:
        check()
        for message in batch:
            found[message.topic].append(dead_letters.letter_of(message))

    read_all(bootstrap_servers, topics, keep)
    return {topic: dead_letters.distinct(letters) for topic, letters in found.items()}


def read_messages(bootstrap_servers: str, topic: str, offsets: Sequence[int]) -> dict[int, Message]:
    """The records at these offsets of a dead-letter topic, as far as they are still there."""
    wanted, found = set(offsets), dict[int, Message]()

    def keep(batch: list[Message]) -> None:
        found.update((m.offset, m) for m in batch if m.offset in wanted)

    read_all(bootstrap_servers, [topic], keep)
    return found
