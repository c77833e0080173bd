"""Sends dead letters back to the topic they came from, each of them once.

What was sent is remembered in `redrive-progress` as soon as the log has taken it. A kill in between
makes the next run send some again, at most `SENT_AT_ONCE`: as after any crash, whoever reads them
tells repeats apart. A transaction would not help: it leaves marks in the source topic, which a
worker that watches for gaps takes for lost records, and most readers see what was aborted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka import clients as kafka
from streams.kafka import letters as dead_letters
from streams.kafka.dead_letters import Progress, read_letters
from streams.kafka.letters import Letter, Range
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from topology.graph import dead_letter_name
from topology.model import Topic
from topology.settings import Settings
from topology.topics.operations import REDRIVE_PROGRESS

GROUP = "podstream-dlq-redrive"
SENT_AT_ONCE = 200
BYTES_AT_ONCE = 32 * 1_048_576
TIMEOUT_S = 60.0
SESSION_S = 10.0
JOIN_S = 30.0
"""Longer than `SESSION_S`: by then a run that was killed is no longer in the group."""
ANY_PARTITION = -1

REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_TIMESTAMP,
    }
)
"""What is wrong with a record, not with the broker."""

Check = Callable[[], None]
"""Raises RedriveError once another run may send the same letters."""


class RedriveError(RuntimeError):
    """Letters cannot be sent back, or no more of them; the text says why."""


@dataclass(frozen=True)
class Plan:
    """What a run sends, the letter that died first first, and what it leaves."""

    letters: list[Letter]
    replaced: list[Letter]
    """Never sent: a newer record of their key is in the source topic, which is compacted."""
    left: int
    """How many wait and were not asked for."""
    done: list[Range]
    """Offsets of the letters that were settled before."""


@dataclass
class RedriveResult:
    """What came of a plan: the letters that are in the log again, and those that still wait."""

    sent: list[Letter] = field(default_factory=list)
    refused: list[tuple[Letter, str]] = field(default_factory=list)
    """Letters that the log did not take, and why. They still wait."""


def is_redrivable(topic: Topic) -> bool:
    """Whether a record of the topic means the same at the end of it.

    A batch of rows does not: the last one says where batching goes on, and readers skip old ones.
    """
    return topic.format != "arrow"


class Redriver:
    """Sends the dead letters of one topic back to it. RedriveError if that makes no sense."""

    def __init__(self, settings: Settings, source: Topic):
        if not is_redrivable(source):
            raise RedriveError(
                f"Records of {source.name} are batches of rows that Podstream makes itself, and "
                "say which offsets they account for: sent again they would be out of order. "
                "`podstream rebuild --check` makes the live tables anew from the events."
            )
        self._servers = settings.kafka_bootstrap_servers
        self._source = source
        self._dead = dead_letter_name(source.name)
        self._progress = Progress(settings)

    def plan(
        self,
        where: re.Pattern[str] | None = None,
        limit: int | None = None,
        check: Check = lambda: None,
    ) -> Plan:
        """What waits and has a reason in which ``where`` is found: ``limit`` letters at most."""
        done = self._progress.read().get(self._dead, [])
        letters = read_letters(self._servers, [self._dead], check)[self._dead]
        waiting = dead_letters.waiting(letters, done)
        asked = [one for one in waiting if where is None or where.search(one.reason)]
        old = self._replaced(asked, check)
        settled = {one.offsets for one in old}
        to_send = [one for one in asked if one.offsets not in settled][:limit]
        return Plan(to_send, old, len(waiting) - len(old) - len(to_send), done)

    def _replaced(self, letters: list[Letter], check: Check) -> list[Letter]:
        if self._source.cleanup != "compact" or not letters:
            return []
        wanted = {(one.source[0], one.key) for one in letters if one.source}
        newest: dict[tuple[int, bytes | None], int] = {}

        def apply(batch: list[Message]) -> None:
            check()
            for message in batch:
                if (place := (message.partition, message.key)) in wanted:
                    newest[place] = message.offset

        read_all(self._servers, [self._source.name], apply)
        return dead_letters.replaced(letters, newest)

    def run(
        self, where: re.Pattern[str] | None = None, limit: int | None = None
    ) -> tuple[Plan, RedriveResult]:
        """Send what `plan` gives, and remember it.

        RedriveError if another run is at it, or if the broker takes no more.
        """
        with _alone(self._servers, self._dead) as check:
            plan = self.plan(where, limit, check)
            sending = _Sending(self._servers, self._source, self._progress, plan, check)
            if plan.letters:
                read_all(self._servers, [self._dead], sending.take)
            sending.finish()
        return plan, sending.result


class _Sending:
    """One run: letters go out in batches, and each batch is remembered before the next one."""

    def __init__(self, servers: str, source: Topic, progress: Progress, plan: Plan, check: Check):
        self.result = RedriveResult()
        self._source = source
        self._dead = dead_letter_name(source.name)
        self._progress = progress
        self._check = check
        self._total = len(plan.letters)
        self._unread = {letter.offsets[0]: letter for letter in plan.letters}
        self._batch: list[tuple[Letter, Message]] = []
        self._done = dead_letters.with_letters(plan.done, plan.replaced)
        self._remembered = plan.done
        progress.encode(self._dead, plan.done)  # KeyError now rather than after the first letters
        self._producer = kafka.producer(
            servers, **{"message.timeout.ms": int(TIMEOUT_S * 1000), "log_level": 0}
        )
        metadata = self._producer.list_topics(source.name, timeout=TIMEOUT_S)
        self._partitions = len(metadata.topics[source.name].partitions)

    def take(self, messages: list[Message]) -> None:
        """Send those that the plan has."""
        self._check()
        for message in messages:
            letter = self._unread.pop(message.offset, None)
            if letter is not None:
                self._batch.append((letter, message))
                if self._is_full():
                    self._settle()

    def _is_full(self) -> bool:
        size = sum(letter.size for letter, _ in self._batch)
        return len(self._batch) >= SENT_AT_ONCE or size >= BYTES_AT_ONCE

    def finish(self) -> None:
        """Send the rest; what the dead-letter topic no longer has is told as refused."""
        self._settle()
        gone = f"is no longer in {self._dead}"
        self.result.refused += [(letter, gone) for letter in self._unread.values()]

    def _settle(self) -> None:
        batch, self._batch = self._batch, []
        self._check()
        errors = self._send(batch)
        for place, error in errors.items():
            if len(batch) > 1 and error is not None and error.code() in REFUSALS:
                # A broker refuses what was sent together for one record: alone, the others pass.
                errors[place] = self._send([batch[place]])[0]
        sent, failure = list[Letter](), None
        for (letter, _), error in zip(batch, errors.values(), strict=True):
            if error is None:
                sent.append(letter)
            elif error.code() in REFUSALS:
                self.result.refused.append((letter, error.str()))
            else:
                failure = error
        self._remember(sent)
        if failure is not None:
            raise RedriveError(
                f"{len(self.result.sent)} of {self._total} letters were sent to "
                f"{self._source.name}, then the broker took no more: {failure.str()}"
            )

    def _send(self, batch: list[tuple[Letter, Message]]) -> dict[int, KafkaError | None]:
        """Place in the batch -> why the log did not take it, None if it did."""
        errors: dict[int, KafkaError | None] = {
            place: KafkaError(KafkaError._MSG_TIMED_OUT) for place in range(len(batch))
        }
        for place, (letter, message) in enumerate(batch):
            headers: Any = dead_letters.headers_to_send(message, self._source.max_message_bytes)
            try:
                self._producer.produce(
                    self._source.name,
                    message.value,
                    message.key,
                    partition=self._partition_of(letter),
                    headers=headers,
                    on_delivery=partial(_note, errors, place),
                )
            except KafkaException as error:  # larger than any record may be
                errors[place] = error.args[0]
        self._producer.flush(TIMEOUT_S + 5)
        return errors

    def _partition_of(self, letter: Letter) -> int:
        """That of the source record, where its key's state is; by key if nobody knows it."""
        if letter.source is None or letter.source[0] >= self._partitions:
            return ANY_PARTITION
        return letter.source[0]

    def _remember(self, sent: list[Letter]) -> None:
        self.result.sent += sent
        self._done = dead_letters.with_letters(self._done, sent)
        if self._done == self._remembered:
            return
        failed: list[KafkaError] = []
        self._producer.produce(
            REDRIVE_PROGRESS.name,
            self._progress.encode(self._dead, self._done),
            self._dead,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
        if self._producer.flush(TIMEOUT_S + 5) or failed:
            raise RedriveError(
                f"{len(sent)} letters were sent to {self._source.name}, but that could not be "
                f"remembered: the next run sends them again"
            )
        self._remembered = self._done


def _note(
    errors: dict[int, KafkaError | None], place: int, error: KafkaError | None, _: Any
) -> None:
    errors[place] = error


@contextmanager
def _alone(servers: str, topic: str) -> Iterator[Check]:
    """Be the one member of the group that has the dead-letter topic; RedriveError if another is.

    Gives a function that raises RedriveError once that is over.
    """
    has_it: list[bool] = []

    def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        has_it.append(bool(partitions) or has_it[-1:] == [True])
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)

    def lost(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        has_it.append(False)
        consumer.incremental_unassign(partitions)

    def check() -> None:
        consumer.poll(0)
        if not has_it[-1]:
            raise RedriveError(f"another run has taken over the letters of {topic}")

    consumer = kafka.reader(
        servers,
        GROUP,
        **{
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(SESSION_S * 1000),
            "log_level": 0,
        },
    )
    try:
        consumer.subscribe([topic], on_assign=assigned, on_revoke=lost, on_lost=lost)
        until = time.monotonic() + JOIN_S
        while not has_it and time.monotonic() < until:
            consumer.poll(0.1)
        if has_it[-1:] != [True]:
            raise RedriveError(
                f"Another `podstream dlq redrive` is at work: {topic} waits until it ends."
            )
        yield check
    finally:
        consumer.close()
