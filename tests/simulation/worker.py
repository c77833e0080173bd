"""A Faust worker of one stage: the stage's module and the runner of production, on a simulated app.

The app and its consumer do what `streams.runtime.faust` counts on, in Faust's order: at a rebalance
records stop, what no handler has taken is dropped, what one has is waited for and committed, then
partitions go and come, and reading begins where the group has committed.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from faust.types import TP

from streams.kafka.message import Message
from streams.runtime.faust.consumer import Consumer
from streams.runtime.faust.runner import FaustContext
from streams.state import kafka_log
from streams.state.log import Headers
from streams.state.store import Fold
from tests.simulation.kafka import (
    Group,
    Logs,
    Member,
    Network,
    Place,
    Producer,
    graph,
    partitions_of,
    registry,
    wire,
)
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import Process, World
from topology.model import Stage, Table
from topology.settings import Settings

COMMIT_EVERY_S = 0.5
LOOK_EVERY_S = 0.05
BUFFER = 4
"""Records that wait for a handler: as few as let one be on its way while another is worked on."""


@dataclass(frozen=True, eq=False)
class TakenMessage:
    """A record as Faust's events have it."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    headers: list[tuple[str, bytes]]

    @property
    def tp(self) -> TP:
        return TP(self.topic, self.partition)


@dataclass(frozen=True)
class Event:
    """An event of Faust's."""

    key: bytes | None
    value: bytes | None
    message: TakenMessage


class Appender:
    """`streams.state.kafka_log.Appender` on a simulated producer."""

    def __init__(self, producer: Producer, loop: SimulatedLoop) -> None:
        self._producer = producer
        self._loop = loop

    def append(
        self,
        topic: str,
        partition: int | None,
        value: bytes | None,
        headers: Headers,
        key: bytes | None = None,
    ) -> asyncio.Future[int]:
        arrival: asyncio.Future[int] = self._loop.create_future()

        def settle(error: KafkaError | None, offset: int) -> None:
            if arrival.cancelled():
                return
            if error is None:
                arrival.set_result(offset)
            else:
                arrival.set_exception(KafkaException(error))

        def told(error: KafkaError | None, offset: int) -> None:
            self._loop.call_soon_threadsafe(settle, error, offset)

        self._producer.send(topic, partition, key, value, headers, told)
        return arrival

    def close(self) -> None:
        """Nothing: there is no thread."""


class SimulatedStateLog:
    """`streams.state.kafka_log.KafkaStateLog` on simulated logs; ``truncate_s``: how late a
    truncation comes, at most."""

    def __init__(
        self, name: str, logs: Logs, appender: Appender, process: Process, truncate_s: float
    ) -> None:
        self.name = name
        self._logs = logs
        self._appender = appender
        self._world = process.world
        self._slot = process.slot
        self._truncate_s = truncate_s
        # Of production's the calls are made by one thread.
        self._one_at_a_time = asyncio.Lock()

    def append(self, partition: int, value: bytes, headers: Headers) -> Awaitable[int]:
        return self._appender.append(self.name, partition, value, headers)

    async def end(self, partition: int) -> int:
        async with self._one_at_a_time:
            await self._wait()
            end = self._logs.bounds(self.name, partition)[1]
            await self._wait()
            return end

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        async with self._one_at_a_time:
            await self._wait()
            start, end = self._logs.bounds(self.name, partition)
            await self._wait()
            for record in self._logs.read(self.name, partition, start, end):
                into.apply(record)
            await self._wait()
            return start, end

    async def truncate(self, partition: int, offset: int) -> None:
        async with self._one_at_a_time:
            chance = self._world.chance(f"truncations of {self._slot}")
            late = chance.random() * self._truncate_s
            # The request is on its way, whatever becomes of who sent it.
            self._world.after(late, lambda: self._logs.truncate(self.name, partition, offset))
            await asyncio.sleep(late)
            if chance.random() < 0.1:
                raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))

    async def close(self) -> None:
        """Nothing: there is no reader."""

    async def _wait(self) -> None:
        await asyncio.sleep(self._world.delay(f"reads of {self._slot}"))


class SimulatedContext(FaustContext):
    """The runner of production; what it asks of Kafka's clients, it asks of the simulation."""

    def __init__(self, worker: Worker, stage: Stage, settings: Settings) -> None:
        app: Any = worker.app
        super().__init__(app, stage, settings, graph(), registry())
        self.wire = wire()
        self.clock = LoopClock(worker.loop, worker.wall_s)
        self._snapshot_bytes = worker.rules.snapshot_bytes
        self._worker = worker
        appender: Any = worker.appender
        self._appender = appender

    def _state_log(self, topic: str) -> Any:
        worker = self._worker
        found: Any = SimulatedStateLog(
            topic, worker.logs, worker.appender, worker, worker.rules.truncate_s
        )
        self._state_logs.append(found)
        return found

    def _origin(self, table: Table) -> Any:
        return None

    async def _watch(self) -> None:
        """Nothing: nobody sleeps here who should not."""

    async def _start_references(self) -> None:
        if not self._broadcasts:
            self._references_ready.set()
            return
        read: dict[Place, int] = defaultdict(int)
        places = [(topic, n) for topic in self._broadcasts for n in partitions_of(topic)]
        logs, come = self._worker.logs, asyncio.Event()
        for place in places:
            logs.watchers[place].append(come.set)
        while True:
            come.clear()
            for place in places:
                end = logs.bounds(*place)[1]
                if messages := logs.read(*place, read[place], end):
                    self._apply_references(messages)
                read[place] = end
            self._references_ready.set()
            await come.wait()
            await asyncio.sleep(self._worker.world.delay(f"references of {self._worker.slot}"))


class LoopClock:
    """The time as a stage asks for it."""

    def __init__(self, loop: SimulatedLoop, wall_s: Callable[[], float]) -> None:
        self.now = wall_s
        self.monotonic = loop.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))


class Stream:
    """The records of one topic, as Faust's agent has them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.waiting: deque[Event] = deque()
        self.come = asyncio.Event()

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Event]:
        while True:
            while not self.waiting:
                self.come.clear()
                await self.come.wait()
            event = self.waiting.popleft()
            self._worker.unacked.add(event.message)
            self._worker.refill()
            yield event

    async def ack(self, event: Event) -> None:
        self._worker.ack(event.message)


class Signal:
    """A signal of Faust's."""

    def __init__(self) -> None:
        self._receivers: list[Callable[..., Awaitable[None]]] = []

    def connect(self, receiver: Callable[..., Awaitable[None]]) -> None:
        self._receivers.append(receiver)

    async def send(self, *args: Any) -> None:
        for receiver in self._receivers:
            await receiver(self, *args)


class App:
    """What the runner asks of a `faust.App`, and that it skips no record."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.on_partitions_assigned = Signal()
        self.on_partitions_revoked = Signal()
        self.on_before_shutdown = Signal()
        self.tasks: list[Callable[[], Awaitable[None]]] = []
        self.agents: dict[str, Callable[[Any], Awaitable[None]]] = {}
        self.consumer = self
        self._next: dict[TP, int] = {}

    delivered = Consumer.delivered

    def topic(self, name: str, **_: Any) -> str:
        return name

    def task(self, body: Callable[[], Awaitable[None]]) -> None:
        self.tasks.append(body)

    def agent(self, topic: str, name: str) -> Callable[[Any], Any]:
        def decorate(receive: Any) -> Any:
            self.agents[topic] = receive
            return receive

        return decorate

    def add_future(self, body: Any) -> None:
        self._worker.loop.create_task(body)

    def assignment(self) -> set[TP]:
        return set(self._worker.positions)

    def goes_on_at(self, positions: dict[TP, int]) -> None:
        """As after `Consumer.seek_to_committed`."""
        self._next = dict(positions)


@dataclass(frozen=True)
class Rules:
    """How large and how late things are in a schedule."""

    snapshot_bytes: int = 3_000
    truncate_s: float = 1.0
    fetched_at_once: int = 2


class Worker(Process, Member):
    """One life of a worker of one stage."""

    def __init__(
        self,
        slot: str,
        stage: Stage,
        group: Group,
        network: Network,
        settings: Settings,
        rules: Rules,
        wall_s: Callable[[], float],
    ) -> None:
        world: World = network.world
        super().__init__(world, slot)
        self.logs, self.rules, self.wall_s = network.logs, rules, wall_s
        self.group = group
        self.loop = SimulatedLoop(self)
        gapless = bool(kafka_log.APPENDING.get("enable.gapless.guarantee"))
        self.producer = Producer(network, self, gapless=gapless)
        self.appender = Appender(self.producer, self.loop)
        self.unacked: set[TakenMessage] = set()
        self.positions: dict[TP, int] = {}
        """The offset to be read next of each partition that is owned."""
        self._stage = stage
        self._settings = settings
        self._generation = 0
        self._flowing = False
        self._acked: defaultdict[TP, list[int]] = defaultdict(list)
        self._committed: dict[TP, int | None] = {}
        self._fetching: set[TP] = set()
        self._commit_due = False
        self._commit_arrives = 0.0
        self._chance = world.chance(f"fetches of {slot}")
        self.app = App(self)
        self._streams = {topic: Stream(self) for topic in stage.consumes}
        self._in_turn = asyncio.Lock()
        """One rebalance after the other."""
        for topic in stage.consumes:
            for number in partitions_of(topic):
                self.logs.watchers[topic, number].append(self.refill)

    def start(self) -> None:
        """Register the stage and let it run."""
        with self.loop.running():
            context = SimulatedContext(self, self._stage, self._settings)
            importlib.import_module(self._stage.entry_point).register(context)
            for body in self.app.tasks:
                self.loop.create_task(body())
            for topic, receive in self.app.agents.items():
                self.loop.create_task(receive(self._streams[topic]))
        self.group.join(self)

    def bury(self) -> None:
        """Let go of what was never finished."""
        self.loop.bury()

    # -- reading ---------------------------------------------------------------------------------

    def refill(self) -> None:
        """Fetch what has come for the handlers, a while from now."""
        if not (self.alive and self._flowing):
            return
        for tp in self.positions:
            if tp not in self._fetching and self.logs.bounds(*tp)[1] > self.positions[tp]:
                self._fetching.add(tp)
                delay = self.world.delay(f"fetches of {self.slot}")
                self.world.after(delay, partial(self._fetch, tp))

    def _fetch(self, tp: TP) -> None:
        self._fetching.discard(tp)
        if not (self.alive and self._flowing) or tp not in self.positions:
            return
        if self.frozen_until > self.world.now:
            self.world.after(self.frozen_until - self.world.now, self.refill)
            return
        stream = self._streams[tp.topic]
        if len(stream.waiting) < BUFFER:
            start = self.positions[tp]
            number = self._chance.randint(1, self.rules.fetched_at_once)
            for record in self.logs.read(*tp, start, start + number):
                stream.waiting.append(_event(record))
                self.positions[tp] = record.offset + 1
            self.loop.call_soon(stream.come.set)
            self.refill()

    def ack(self, message: TakenMessage) -> None:
        """A message may be committed."""
        committed = self._committed.get(message.tp)
        self.unacked.discard(message)
        if committed is None or message.offset >= committed:
            self._acked[message.tp].append(message.offset)
        if not self._commit_due:
            self._commit_due = True
            self.world.after(self._chance.random() * COMMIT_EVERY_S, self._commit_soon)

    def _commit_soon(self) -> None:
        self._commit_due = False
        if self.alive and self.frozen_until <= self.world.now:
            self._commit()

    def _commit(self) -> None:
        offsets = {tp: offset for tp in self.positions if (offset := self._committable(tp))}
        self._committed.update(offsets)
        if offsets:
            generation = self._generation
            places = {(tp.topic, tp.partition): offset for tp, offset in offsets.items()}
            delay = self.world.delay(f"commits of {self.slot}")
            # A connection keeps their order.
            self._commit_arrives = max(self._commit_arrives, self.world.now + delay)
            self.world.after(
                self._commit_arrives - self.world.now,
                lambda: self.group.commit(self, generation, places),
            )

    def _committable(self, tp: TP) -> int | None:
        """As Faust's consumer works it out: the end of the first run of acknowledged offsets."""
        acked = sorted(self._acked[tp])
        committed = self._committed.get(tp)
        if not acked or (committed and acked[0] - committed > 1):
            return None
        _, run = next(groupby(enumerate(acked), lambda place: place[1] - place[0]))
        batch = [offset for _, offset in run]
        self._acked[tp] = acked[len(batch) :]
        return batch[-1] + 1

    # -- as a member of its group ------------------------------------------------------------------

    def let_go(self, generation: int) -> None:
        if self.alive:
            self.loop.create_task(self._let_go(generation))

    async def _let_go(self, generation: int) -> None:
        async with self._in_turn:
            self._flowing = False
            for stream in self._streams.values():
                stream.waiting.clear()
            while self.unacked:
                self._commit()
                await asyncio.sleep(LOOK_EVERY_S)
            self._commit()
            await asyncio.sleep(self.world.delay(f"commits of {self.slot}"))
            await self.app.on_partitions_revoked.send({*self.positions})
        self.group.ready(self, generation)

    def expelled(self) -> None:
        if self.alive:
            self.loop.create_task(self._come_back())

    async def _come_back(self) -> None:
        await self._let_go(0)
        self.group.join(self)

    def assign(self, generation: int, partitions: set[int]) -> None:
        if self.alive:
            self.loop.create_task(self._assign(generation, partitions))

    async def _assign(self, generation: int, partitions: set[int]) -> None:
        async with self._in_turn:
            self._generation = generation
            owned = {
                TP(t, n) for t in self._stage.consumes for n in partitions if n in partitions_of(t)
            }
            self.positions = {}
            await self.app.on_partitions_assigned.send(owned)
            await asyncio.sleep(self.world.delay(f"commits of {self.slot}"))
            # A set of names has another order in each process.
            committed = {
                tp: self.group.committed.get((tp.topic, tp.partition)) for tp in sorted(owned)
            }
            self._committed = dict(committed)
            self._acked.clear()
            self.positions = {tp: offset or 0 for tp, offset in committed.items()}
            self.app.goes_on_at(self.positions)
            self._flowing = True
        self.refill()


def _event(record: Message) -> Event:
    place = record.topic, record.partition, record.offset
    message = TakenMessage(*place, record.timestamp_ms / 1000, list(record.headers))
    return Event(record.key, record.value, message)
