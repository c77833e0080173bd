"""A process of `batch_events`: the module of production on simulated clients of Kafka.

It blocks where it waits, so it has a thread; but only one of the threads and the world runs at any
time. It may be killed at each call of a client.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from streams.events import batch_clients, batch_events
from streams.events.batch_in_memory import to_chunk
from streams.events.core.batching import Chunk
from streams.events.core.origins import Source
from streams.kafka.message import Message
from tests.simulation.kafka import (
    EventLogs,
    Group,
    Member,
    Network,
    Producer,
    graph,
    partitions_of,
    registry,
)
from tests.simulation.world import Killed, Process, World
from topology.model import Stage
from topology.settings import Settings

TOPIC_ID = "simulated"
"""Stands for the id that Kafka gives to the topic of events."""

FLUSH_LOOK_S = 0.02
LONGEST_IDLE_S = 2.0

SOURCE = "user-events"
REQUESTS = "forget-requests"
FORGOTTEN = "forgotten-listeners"


class Batcher(Process, Member):
    """One life of a process of `batch_events`."""

    def __init__(
        self, slot: str, stage: Stage, group: Group, network: Network, settings: Settings, most: int
    ) -> None:
        super().__init__(network.world, slot)
        self.group, self.network, self.most = group, network, most
        self._stage = stage
        self._settings = settings
        self._mine, self._worlds = threading.Lock(), threading.Lock()
        self._mine.acquire()
        self._worlds.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._waits: object = None
        """What it waits for, another object each time."""
        self._idle = False
        self.client = SimulatedConsumer(self)
        self._ended = False
        self._failure: BaseException | None = None
        for number in partitions_of(SOURCE):
            network.logs.watchers[SOURCE, number].append(self.look)
            network.logs.watchers[REQUESTS, number].append(self.look)

    def start(self) -> None:
        self._thread.start()
        self.world.after(0.0, lambda: self._turn(None))

    # -- one of both runs --------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let the world go on for so long."""
        self.step()
        waits = self._waits = object()
        self.world.after(seconds, lambda: self._turn(waits))
        self._worlds.release()
        self._mine.acquire()
        if not self.alive:
            raise Killed

    def idle(self) -> None:
        """Let the world go on until there is something to look at."""
        self._idle = True
        self.pause(LONGEST_IDLE_S)
        self._idle = False

    def look(self) -> None:
        """There is something to look at."""
        if self.alive and self._idle:
            self._idle = False
            waits = self._waits
            self.world.after(self.world.delay(f"fetches of {self.slot}"), lambda: self._turn(waits))

    def step(self) -> None:
        """A place at which it may be killed."""
        if not self.alive or self.is_killed_here():
            raise Killed

    def _turn(self, waits: object) -> None:
        """Let the thread run until it waits again, if it still waits for this."""
        if self._ended or waits is not self._waits:
            return
        if self.alive and self.frozen_until > self.world.now:
            self.world.after(self.frozen_until - self.world.now, lambda: self._turn(waits))
            return
        self.world.running = self
        self._mine.release()
        self._worlds.acquire()
        self.world.running = None
        if self._ended:
            self._thread.join()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                self.world.tell(f"{self.slot} ends: {failure!r}")
                self.die()
                self.at_end(failure)

    def bury(self) -> None:
        """End its thread, when the world is over."""
        if self._thread.is_alive() and not self._ended:
            self._mine.release()
            self._worlds.acquire()
        self._thread.join()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            if self.alive:
                made = batch_events.BatchEvents(self._stage, self._settings, graph(), registry())
                made.run(threading.Event())
        except Killed:
            pass
        except BaseException as error:
            self._failure = error
        finally:
            self._ended = True
            self._worlds.release()

    # -- as a member of its group ------------------------------------------------------------------

    @property
    def owned(self) -> set[int]:
        return set(self.client.positions)

    def let_go(self, generation: int) -> None:
        # Whoever cooperates keeps what he has until it is given to somebody else.
        self.group.ready(self, generation)

    def assign(self, generation: int, partitions: set[int]) -> None:
        self.client.told.append((generation, partitions))
        self.look()

    def expelled(self) -> None:
        self.client.told.append((0, set()))
        self.look()


class SimulatedConsumer:
    """What `batch_events` asks of a `confluent_kafka.Consumer`."""

    def __init__(self, process: Batcher) -> None:
        self._process = process
        self.positions: dict[int, int] = {}
        self.told: deque[tuple[int, set[int]]] = deque()
        self._generation = 0
        self._chance = process.world.chance(f"fetches of {process.slot}")

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._process.group.join(self._process)

    def consume(self, limit: int, timeout: float) -> list[KafkaMessage]:
        process = self._process
        process.pause(process.world.delay(f"fetches of {process.slot}"))
        while self.told:
            self._rebalanced(*self.told.popleft())
        records: list[Message] = []
        for partition, position in sorted(self.positions.items()):
            number = self._chance.randint(0, min(limit, process.most))
            logs = process.network.logs
            found = logs.read(SOURCE, partition, position, position + number)
            records += found
            self.positions[partition] = position + len(found)
        if not records:
            process.idle()
        return [_record(message) for message in records]

    def _rebalanced(self, generation: int, partitions: set[int]) -> None:
        own = set(self.positions)
        if not generation:
            self._on_lost(self, [TopicPartition(SOURCE, n) for n in sorted(own)])
            self._process.group.join(self._process)
            return
        self._generation = generation
        if left := sorted(own - partitions):
            self._on_revoke(self, [TopicPartition(SOURCE, n) for n in left])
        if come := sorted(partitions - own):
            self._on_assign(self, [TopicPartition(SOURCE, n) for n in come])
        if left:
            self._process.group.rebalance()

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        process = self._process
        process.pause(process.world.delay(f"reads of {process.slot}"))
        bounds = process.network.logs.bounds(SOURCE, place.partition)
        process.pause(process.world.delay(f"reads of {process.slot}"))
        return bounds

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        self._process.step()
        self.positions |= {place.partition: place.offset for place in places}

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            self.positions.pop(place.partition, None)

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        self._process.step()
        places = {(place.topic, place.partition): place.offset for place in offsets}
        if not self._process.group.commit(self._process, self._generation, places):
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID))

    def close(self) -> None:
        """Nothing: whoever closes is gone."""


class SimulatedRequests:
    """What `batch_events` asks of the consumer of the requests to forget listeners."""

    def __init__(self, process: Batcher) -> None:
        self._process = process
        self._positions: dict[int, int] = {}

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._positions = {place.partition: place.offset for place in places}

    def consume(self, limit: int, timeout: float) -> list[KafkaMessage]:
        records: list[Message] = []
        for partition, position in sorted(self._positions.items()):
            end = position + min(limit, self._process.most)
            found = self._process.network.logs.read(REQUESTS, partition, position, end)
            records += found
            self._positions[partition] = position + len(found)
        return [_record(message) for message in records]

    def close(self) -> None:
        """Nothing: whoever closes is gone."""


class SimulatedProducer:
    """What `batch_events` asks of a `confluent_kafka.Producer`."""

    def __init__(self, process: Batcher, *, gapless: bool) -> None:
        self._process = process
        self._producer = Producer(process.network, process, gapless=gapless)
        self._answers: deque[Callable[[], None]] = deque()
        self._unanswered = 0

    def produce(
        self,
        topic: str,
        value: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]],
        on_delivery: Callable[[KafkaError | None, Any], None],
        key: bytes | None = None,
    ) -> None:
        self._process.step()
        self._unanswered += 1

        def told(error: KafkaError | None, offset: int) -> None:
            self._answers.append(partial(on_delivery, error, None))

        self._producer.send(topic, partition, key, value, headers, told)

    def poll(self, timeout: float) -> int:
        self._process.step()
        served = len(self._answers)
        while self._answers:
            self._unanswered -= 1
            self._answers.popleft()()
        return served

    def flush(self, timeout: float) -> int:
        self.poll(0)
        ends = self._process.world.now + timeout
        while self._unanswered and self._process.world.now < ends:
            self._process.pause(FLUSH_LOOK_S)
            self.poll(0)
        return self._unanswered


class BatcherLogs(EventLogs):
    """`KafkaEventLogs` of a process: others go on between two of its questions."""

    def __init__(self, process: Batcher) -> None:
        super().__init__(process.network.logs)
        self._process = process

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        if topic not in (REQUESTS, FORGOTTEN):
            self._process.pause(self._process.world.delay(f"reads of {self._process.slot}"))
        return super().bounds(topic, partition)

    def span(
        self, topic: str, partition: int, start: int, end: int, limit: int = 0
    ) -> Iterator[list[KafkaMessage]]:
        for messages in self.messages(topic, partition, start, end):
            yield [_record(message) for message in messages]

    def chunks(self, topic: str, partition: int, start: int, end: int) -> Iterator[Chunk]:
        return map(to_chunk, self.messages(topic, partition, start, end))


def _record(message: Message) -> KafkaMessage:
    return KafkaMessage(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=list(message.headers) or None,
        timestamp=(TIMESTAMP_CREATE_TIME, message.timestamp_ms),
    )


@contextmanager
def simulated_clients(
    world: World, wall_s: Callable[[], float], monotonic_s: Callable[[], float]
) -> Iterator[None]:
    """Let `batch_events` have simulated clients, each of the process that asks for it, and these
    clocks."""

    def running() -> Batcher:
        process = world.running
        assert isinstance(process, Batcher)
        return process

    def producer(_: str, **options: Any) -> SimulatedProducer:
        return SimulatedProducer(running(), gapless=options.get("enable.gapless.guarantee", False))

    def reader(_: str, group: str = "", **__: Any) -> SimulatedConsumer | SimulatedRequests:
        return running().client if group else SimulatedRequests(running())

    clients = SimpleNamespace(producer=producer, reader=reader)
    clock = SimpleNamespace(monotonic=monotonic_s, time=wall_s)
    source = Source.of(TOPIC_ID, graph().topics[SOURCE])
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(batch_clients, "kafka", clients))
        for name, found in (
            ("time", clock),
            ("event_source", lambda *_: source),
            ("KafkaEventLogs", lambda *_: nullcontext(BatcherLogs(running()))),
        ):
            stack.enter_context(mock.patch.object(batch_events, name, found))
        yield
