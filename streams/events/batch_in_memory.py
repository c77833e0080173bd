"""`batch_events` on the in-memory runner: the same sequencing, restarts included.

Where time does not pass by itself, no partition is said to be quiet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from streams.events.core.batching import Batch, Chunk
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.events.core.requests import answer, forgotten_record
from streams.events.core.sequencing import (
    EventTopics,
    Flush,
    ForgottenListener,
    HandOver,
    Refusal,
    Sequencer,
    resume,
)
from streams.kafka.log_reader import SPAN_RECORDS
from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryContext, MemoryLog
from topology.graph import dead_letter_name
from topology.topics.events import (
    FORGET_REQUESTS,
    FORGOTTEN_LISTENERS,
    USER_EVENT_BATCHES,
    USER_EVENTS,
)

TOPIC_ID = "in-memory"
"""Stands for the id that Kafka gives to a topic."""


def to_chunk(messages: Sequence[Message]) -> Chunk:
    """The messages of one partition, in their order, column by column."""
    return Chunk(
        [message.offset for message in messages],
        [message.timestamp_ms for message in messages],
        [message.value for message in messages],
        [message.headers for message in messages],
    )


class MemoryEventLogs:
    """`EventLogs` on a MemoryLog."""

    def __init__(self, log: MemoryLog):
        self._log = log
        self.bounds = log.bounds

    def offset_since(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset whose record has this log time or a later one; the end if none has."""
        first, end = self.bounds(topic, partition)
        later = (
            message.offset
            for message in self._log.read(topic, partition, first, end - first)
            if message.timestamp_ms >= timestamp_ms
        )
        return next(later, end)

    def messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """The records from ``start`` up to but without ``end``, many at a time."""
        if start < end:
            yield self._log.read(topic, partition, start, end - start)

    def chunks(self, topic: str, partition: int, start: int, end: int) -> Iterator[Chunk]:
        """The same, column by column."""
        return map(to_chunk, self.messages(topic, partition, start, end))


def register(context: MemoryContext) -> None:
    """The stage as a handler. Its one owner has every partition, from the first record of each."""
    graph, source = context.log.graph, USER_EVENTS.name
    places = Source.of(TOPIC_ID, graph.topics[source])
    dead = dead_letter_name(source, graph.version)
    target, forgotten = (graph.topic(t).name for t in (USER_EVENT_BATCHES, FORGOTTEN_LISTENERS))
    topics = EventTopics(source, target, dead, forgotten, places)
    logs = MemoryEventLogs(context.log)
    decoder = EventDecoder(source, context.registry)
    sequencer = Sequencer(decoder, to_chunk)

    async def own(partitions: Iterable[int]) -> None:
        for partition in partitions:
            if not sequencer.owns(partition):
                window = context.settings.dedup_window
                sequencer.own(resume(logs, topics, partition, window, decoder))
                # What was asked before comes before any batch of this owner.
                asked = FORGET_REQUESTS.name
                for messages in logs.messages(asked, partition, *logs.bounds(asked, partition)):
                    await answer_each(messages)

    async def send(batch: Batch) -> None:
        headers = batch.headers()
        await context.send(
            USER_EVENT_BATCHES, batch.events, partition=batch.partition, headers=headers
        )

    @context.agent(USER_EVENTS, max_batch=SPAN_RECORDS)
    async def handle_user_events(messages: list[Message]) -> None:
        groups: dict[int, list[Message]] = {}
        for message in messages:
            groups.setdefault(message.partition, []).append(message)
        await own(groups)
        for step in sequencer.steps(groups):
            if isinstance(step, Refusal):
                await context.dead_letter(step.record, step.error)
            elif isinstance(step, HandOver):
                if context.stage.hands_over:
                    await context.hand_over(
                        USER_EVENTS, step.value, step.key, step.partition, step.headers
                    )
            elif isinstance(step, Batch):
                await send(step)
            else:
                await context.flush()

    @context.agent(FORGET_REQUESTS)
    async def handle_forget_requests(messages: list[Message]) -> None:
        await own(message.partition for message in messages)
        await answer_each(messages)

    async def answer_each(messages: list[Message]) -> None:
        for message in messages:
            for step in answer(
                sequencer,
                message,
                message,
                context.decode,
                partial(logs.offset_since, source),
                places.partitions,
            ):
                if isinstance(step, Refusal):
                    await context.dead_letter(step.record, step.error)
                elif isinstance(step, ForgottenListener):
                    await remember(step)
                elif isinstance(step, Flush):
                    await context.flush()
                else:
                    await send(step)

    async def remember(step: ForgottenListener) -> None:
        if FORGOTTEN_LISTENERS.name in context.stage.produces:
            await context.send(
                FORGOTTEN_LISTENERS,
                forgotten_record(partition=step.partition, forgetting=step.forgetting),
                key=step.forgetting.user_id,
                partition=step.partition,
                headers=step.forgetting.headers(),
            )
