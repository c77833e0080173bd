"""Brings the events of a file into the log: once, however often the command is run or killed.

A file is known by the hash of its bytes. Its events are sent in the order of its lines, each with
the hash and its line in a header, so that `batch_events` tells by the highest line of a partition
which of them came before. How far the file is in the log stands in a topic: the next run goes on
from there, and one after the last adds nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message

from schemas.codec import RecordCodec, Registry, subject_of
from streams.events.core.origins import import_sender
from streams.kafka.clients import producer, topic_id
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message as LogMessage
from streams.kafka.registry import open_registry
from streams.kafka.wire import ORIGIN
from streams.operations.event_reading import Encoded, Read, few_collections, reading
from streams.operations.reports import Advance, ImportFailedError, Refuse, Report
from topology.settings import Settings
from topology.topics.events import USER_EVENTS
from topology.topics.operations import IMPORT_PROGRESS

FLUSH_S = 60.0
NOTED_EVERY = 100_000
"""Events between two notes of how far an import is: what is sent again at most."""

_ID_DIGITS = 24


def import_events(path: Path, settings: Settings, refuse: Refuse, advance: Advance) -> Report:
    """Send what is not in the log yet of the events of a file.

    ``refuse`` gets the line and the reason of each bad row. Raises ImportFailedError and FileError.
    """
    with reading(path) as read:
        return import_rows(path.name, file_id(path), read, settings, refuse, advance)


def import_rows(
    name: str, import_id: str, read: Read, settings: Settings, refuse: Refuse, advance: Advance
) -> Report:
    """Send what is not in the log yet of the events that are always read alike under this id."""
    registry = open_registry(settings)
    progress = Progress(settings, registry, name, import_id)
    report, done = Report(), progress.read()
    if done is not None:
        report.known, report.finished_at = done["events"], done["at"] if done["finished"] else None
        if done["finished"]:
            return report
        report.begun_after = done["lines"]
    sender = EventSender(settings, progress.sender)
    line, noted, refused_before = report.begun_after, 0, done["refused"] if done else 0
    with few_collections():
        for some in read(report.begun_after, schema_id(registry)):
            for at, reason in some.refused:
                report.refused += 1
                refuse(at, reason)
            sender.send(some)
            line = some.line
            advance(some.share)
            if sender.sent - noted >= NOTED_EVERY:
                sender.flush()
                noted = sender.sent
                progress.write(line, report.known + noted, refused_before + report.refused, False)
        sender.flush()
    report.delivered[USER_EVENTS.name] = sender.sent
    if report.known + sender.sent:
        progress.write(line, report.known + sender.sent, refused_before + report.refused, True)
    return report


def schema_id(registry: Registry) -> int:
    """Under which id the registry has the schema of events. ImportFailedError if it has none."""
    try:
        return registry.id_of(subject_of(USER_EVENTS.name))
    except KeyError as error:  # there is no such subject, and it says what to do
        raise ImportFailedError(str(error.args[0])) from error


def file_id(path: Path) -> str:
    """What a file is known by: the hash of its bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_ID_DIGITS]


class EventSender:
    """Sends events in their order, each numbered by its line."""

    def __init__(self, settings: Settings, sender: str):
        self._sender = sender
        self._failure: KafkaError | None = None
        self.sent = 0
        """Events so far."""
        self._producer: Any = producer(
            settings.kafka_bootstrap_servers,
            **{
                # After a failure nothing later may get into the log: it would hide the gap.
                "enable.gapless.guarantee": True,
                "message.timeout.ms": 0,
                "log_level": 3,
                "delivery.report.only.error": True,
                "on_delivery": self._note_failure,
                "queue.buffering.max.messages": 400_000,
                "queue.buffering.max.kbytes": 262_144,
                "batch.size": 1_048_576,
                "linger.ms": 20,
            },
        )

    def send(self, some: Encoded) -> None:
        """Send the events of some rows."""
        produce, prefix = self._producer.produce, f"{self._sender}:".encode()
        messages, users = some.messages.to_pylist(), some.users.to_pylist()
        for value, key, line in zip(messages, users, some.lines.tolist(), strict=True):
            while True:
                try:
                    produce(USER_EVENTS.name, value, key, headers={ORIGIN: prefix + b"%d" % line})
                    break
                except BufferError:
                    self._producer.poll(0.1)
                    self._raise_failure()
        self.sent += len(messages)
        self._producer.poll(0)
        self._raise_failure()

    def flush(self) -> None:
        """Return when everything sent is in the log. ImportFailedError if something cannot be."""
        waiting = self._producer.flush(FLUSH_S)
        self._raise_failure()
        if waiting:
            raise ImportFailedError(
                f"{waiting} events could not be delivered within {FLUSH_S:.0f} s: is the broker "
                "up? The same command goes on from here."
            )

    def _note_failure(self, error: KafkaError | None, _: Message) -> None:
        self._failure = error or self._failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise ImportFailedError(
                f"The broker did not take an event ({self._failure.str()}). The same command goes "
                "on from what it took."
            )


class Progress:
    """How far one file is in the log, as a topic has it."""

    def __init__(self, settings: Settings, registry: Registry, name: str, import_id: str):
        self.import_id = import_id
        self._name = name
        self._servers = settings.kafka_bootstrap_servers
        self._topic_id = topic_id(self._servers, USER_EVENTS.name)
        self._codec = RecordCodec(IMPORT_PROGRESS.name, str(IMPORT_PROGRESS.schema), registry)
        self._producer = producer(self._servers)

    @property
    def sender(self) -> str:
        """By what name its events say where they come from."""
        return import_sender(self._topic_id, self.import_id)

    def read(self) -> dict[str, Any] | None:
        """The newest note of this file; None if there is none, or its events are gone."""
        found: list[dict[str, Any]] = []

        def apply(messages: list[LogMessage]) -> None:
            for message in messages:
                if message.key_text == self.import_id:
                    found.append(self._codec.decode(message.value))

        try:
            read_all(self._servers, [IMPORT_PROGRESS.name], apply)
        except KeyError as error:  # there is no such topic, and it says what to do
            raise ImportFailedError(str(error.args[0])) from error
        return found[-1] if found and found[-1]["topic_id"] == self._topic_id else None

    def write(self, lines: int, events: int, refused: int, finished: bool) -> None:
        """Note that all is in the log up to a line."""
        record = {
            "import_id": self.import_id,
            "file": self._name,
            "topic_id": self._topic_id,
            "lines": lines,
            "events": events,
            "refused": refused,
            "finished": finished,
            "at": datetime.now(UTC),
        }
        failed: list[KafkaError] = []

        def noted(error: KafkaError | None, _: Message) -> None:
            failed.extend([error] if error else [])

        self._producer.produce(
            IMPORT_PROGRESS.name, self._codec.encode(record), self.import_id, on_delivery=noted
        )
        if self._producer.flush(FLUSH_S) or failed:
            raise ImportFailedError("How far the import is could not be noted: is the broker up?")
