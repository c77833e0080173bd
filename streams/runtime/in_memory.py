"""Stages in memory: a log, tables and a driver that runs the whole graph without a broker.

Records keep their order within a partition, offsets count up, and the log's clock is moved by
hand. ``crash(stage)`` forgets what a process would lose at kill -9: the handlers are registered
anew on the tables as logged and on the offsets as acknowledged. So it goes with a stage that
raises, before the next run. ``rebalance(stage)`` takes its partitions away and gives them back.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.registry import FixedRegistry
from streams.kafka.message import Message
from streams.kafka.placement import partition_of
from streams.kafka.wire import Wire, key_bytes
from streams.runtime.clock import Clock, ManualClock
from streams.runtime.context import Apply, Context, Handler
from streams.state.keyed_table import StateTable
from streams.state.log import Headers, S
from streams.state.store import SNAPSHOT_BYTES, Fold, LogStates, Origin
from topology.graph import check_reads, declared_subjects
from topology.model import Graph, Stage, Table, Topic
from topology.settings import Settings


class MemoryLog:
    """Every topic of a graph as lists of records."""

    def __init__(self, graph: Graph, clock: Clock | None = None):
        self.graph = graph
        self.clock = clock or ManualClock()
        self.registry = FixedRegistry(declared_subjects(graph))
        self.wire = Wire(graph, self.registry)
        self._records: dict[str, list[list[Message]]] = {
            name: [[] for _ in range(topic.partitions)] for name, topic in graph.topics.items()
        }
        self._starts: defaultdict[tuple[str, int], int] = defaultdict(int)

    def append(
        self,
        topic: str,
        value: bytes | dict[str, Any] | pl.DataFrame | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Message:
        """Write one record; without a partition, the key chooses it, as Kafka's default does."""
        partitions = self._records[topic]
        raw_key = key_bytes(key)
        if partition is None:
            partition = partition_of(raw_key, len(partitions)) if raw_key is not None else 0
        message = Message(
            topic=topic,
            partition=partition,
            offset=len(partitions[partition]),
            key=raw_key,
            value=self.wire.encode(topic, value),
            timestamp_ms=self.now_ms,
            headers=headers,
        )
        partitions[partition].append(message)
        return message

    @property
    def now_ms(self) -> int:
        """The clock's wall time, as it is written on records."""
        return round(self.clock.now() * 1000)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Message]:
        return self._records[topic][partition][offset : offset + limit]

    def records(self, topic: str) -> list[Message]:
        """Everything in a topic, partition by partition."""
        return [message for partition in self._records[topic] for message in partition]

    def decoded(self, topic: str) -> list[Any]:
        """What is in every record of a topic."""
        return [self.wire.decode(topic, message.value) for message in self.records(topic)]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The offsets of the first record that is left and after the last one."""
        return self._starts[topic, partition], len(self._records[topic][partition])

    def truncate(self, topic: str, partition: int, offset: int) -> None:
        """Forget the records before an offset."""
        self._starts[topic, partition] = max(offset, self._starts[topic, partition])


class MemoryStateLog:
    """`StateLog` on a topic of a MemoryLog."""

    def __init__(self, log: MemoryLog, topic: str):
        self.name = topic
        self._log = log

    def append(self, partition: int, value: bytes, headers: Headers) -> Awaitable[int]:
        arrival: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        record = self._log.append(self.name, value, partition=partition, headers=tuple(headers))
        arrival.set_result(record.offset)
        return arrival

    async def end(self, partition: int) -> int:
        return self._log.bounds(self.name, partition)[1]

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        start, end = self._log.bounds(self.name, partition)
        for record in self._log.read(self.name, partition, start, end - start):
            into.apply(record)
        return start, end

    async def truncate(self, partition: int, offset: int) -> None:
        self._log.truncate(self.name, partition, offset)


Work = Coroutine[Any, Any, None]
"""What a handler or a timer has begun, for a loop to run."""

_TICK_S = 1e-6
"""Least that time passes by, so that what is left of a wait by rounding comes to an end."""

Place = tuple[str, int]
"""A topic and a partition of it."""


@dataclass(frozen=True)
class Agent:
    """A handler of one topic, and how much it wants to get at once."""

    handle: Callable[[list[Message]], Work]
    max_batch: int
    linger_s: float


class MemoryContext(Context):
    """One stage in memory, owner of every partition."""

    def __init__(
        self,
        log: MemoryLog,
        stage: Stage,
        settings: Settings,
        snapshot_bytes: int = SNAPSHOT_BYTES,
    ):
        super().__init__(stage, settings, log.registry, log.wire, log.clock, snapshot_bytes)
        self.log = log
        self.agents: dict[str, Agent] = {}
        self.timers: list[Callable[[], Work]] = []
        self.broadcasts: dict[str, Apply] = {}
        self._rebalance_callbacks: list[Callable[[], None]] = []

    def agent(
        self,
        topic: Topic,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        name = self.wire.graph.topic(topic).name
        check_reads(self.stage, name)

        def decorate(handler: Handler) -> Handler:
            async def confirmed(messages: list[Message]) -> None:
                await self._handle(handler, messages)
                if confirm is not None:
                    await confirm(messages)

            self.agents[name] = Agent(confirmed, max_batch, linger_s)
            return handler

        return decorate

    def timer(self, seconds: float) -> Callable[[Callable[[], Awaitable[None]]], Any]:
        def decorate(coroutine: Callable[[], Awaitable[None]]) -> Any:
            async def tick() -> None:
                await coroutine()
                await self.flush()

            self.timers.append(tick)
            return coroutine

        return decorate

    def broadcast(self, topic: Topic, apply: Apply) -> None:
        name = self.wire.graph.topic(topic).name
        check_reads(self.stage, name)
        self.broadcasts[name] = apply

    def _open(
        self, table: Table, make: Callable[[int], S], origin: Origin[S] | None = None
    ) -> LogStates[S]:
        states = super()._open(table, make, origin)
        states.assign(range(table.partitions))
        return states

    def table(self, table: Table) -> StateTable:
        opened = super().table(table)
        # The log is there without waiting, so the table is whole before anything runs.
        _without_waiting(opened.restore(range(self._declared(table, "keyed").partitions)))
        return opened

    def _state_log(self, topic: str) -> MemoryStateLog:
        return MemoryStateLog(self.log, topic)

    async def restore(self) -> None:
        """Restore the states from what was logged."""
        for states in self._states.values():
            await states.restore()

    def owned_fraction(self) -> float:
        return 1.0

    def on_rebalance(self, callback: Callable[[], None]) -> None:
        self._rebalance_callbacks.append(callback)

    def rebalance(self) -> None:
        """Lose every partition, and get it back; what was logged is restored at once."""
        for states in self._states.values():
            states.revoke()
        self.rebalanced()
        for table in self.stage.tables:
            if table.name in self._states:
                self._states[table.name].assign(range(table.partitions))
                _without_waiting(self._states[table.name].restore())
        self.rebalanced()

    def rebalanced(self) -> None:
        """Tell the stage that partitions have moved."""
        for callback in self._rebalance_callbacks:
            callback()

    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        self.log.append(topic, value, key=key, partition=partition, headers=tuple(headers))


class MemoryRuntime:
    """Runs stages of a graph over a MemoryLog until nothing is left to read.

    ``snapshot_bytes``: how much of changes a log of states holds before a snapshot is due.
    The ``clock`` of all of it is moved by hand, from 1970 on; while `run` waits for a stage that
    sleeps, it passes by itself. A stage that asks real servers gets a `SystemClock`.
    """

    def __init__(
        self,
        graph: Graph,
        settings: Settings,
        snapshot_bytes: int = SNAPSHOT_BYTES,
        clock: Clock | None = None,
    ):
        self.log = MemoryLog(graph, clock)
        self._graph = graph
        self._settings = settings
        self._snapshot_bytes = snapshot_bytes
        self._contexts: dict[str, MemoryContext] = {}
        self._ended: set[str] = set()
        """Stages that have raised, and begin anew with the next run."""
        self._positions: dict[str, dict[Place, int]] = {}
        self._reference_positions: dict[str, dict[Place, int]] = {}
        self._lingering: dict[tuple[str, Place], float] = {}
        """Until when a handler waits for more, by the clock's monotonic time."""

    @property
    def clock(self) -> ManualClock:
        """The clock, to be moved; TypeError where another one was given."""
        if not isinstance(self.log.clock, ManualClock):
            raise TypeError(f"a {type(self.log.clock).__name__} moves by itself")
        return self.log.clock

    def start(self, stage_name: str) -> MemoryContext:
        """Register a stage's handlers, on what it had logged before if it ran already."""
        stage = self._graph.stages[stage_name]
        context = MemoryContext(self.log, stage, self._settings, self._snapshot_bytes)
        importlib.import_module(stage.entry_point).register(context)
        context.rebalanced()
        self._contexts[stage_name] = context
        self._ended.discard(stage_name)
        for waiting in [one for one in self._lingering if one[0] == stage_name]:
            del self._lingering[waiting]
        self._positions.setdefault(stage_name, defaultdict(int))
        self._reference_positions[stage_name] = defaultdict(int)
        return context

    def crash(self, stage_name: str, *, redeliver: int = 0) -> None:
        """Restart a stage as after kill -9; the last ``redeliver`` messages come again."""
        positions = self._positions[stage_name]
        for place in positions:
            positions[place] = max(0, positions[place] - redeliver)
        self.start(stage_name)

    def rebalance(self, stage_name: str) -> None:
        """Take the partitions of a stage away, as when another worker comes, and give them back."""
        self._contexts[stage_name].rebalance()

    def rows(self, stage_name: str, table: Table) -> dict[tuple[int, bytes], bytes]:
        """What a keyed table of a started stage holds, by partition and key."""
        found = self._contexts[stage_name].table(table)
        return {(p, key): value for p in found.partitions() for key, value in found.items(p)}

    def put_rows(
        self, stage_name: str, table: Table, rows: Mapping[tuple[int, bytes], bytes]
    ) -> None:
        """Have a keyed table of a started stage hold these rows as well, in its log too."""
        context = self._contexts[stage_name]
        for (partition, key), value in rows.items():
            context.table(table).put(partition, key, value)
        asyncio.run(context.flush())

    def run(self, *, max_batch: int | None = None, timers: bool = True) -> None:
        """Deliver until every stage has read everything; then run timers until they add nothing."""
        asyncio.run(self._run(max_batch, timers))

    async def _run(self, max_batch: int | None, timers: bool) -> None:
        for name in sorted(self._ended):
            self.start(name)
        for context in self._contexts.values():
            await context.restore()
        while True:
            while await self._pass(max_batch):
                pass
            if not timers:
                return
            for name, context in self._contexts.items():
                for timer in context.timers:
                    await self._drive(name, timer())
            if not await self._pass(max_batch):
                return

    async def _drive(self, stage_name: str, work: Awaitable[None]) -> None:
        """Do a stage's work; if it raises, its process has ended, and what it held is gone."""
        try:
            await self._wait_for(work)
        except BaseException:
            self._ended.add(stage_name)
            raise

    async def _wait_for(self, work: Awaitable[None]) -> None:
        clock = self.log.clock
        await (clock.drive(work) if isinstance(clock, ManualClock) else work)

    async def _pass(self, max_batch: int | None) -> bool:
        """Give every handler what has come for it; whether anything happened."""
        progressed = False
        for name, context in self._contexts.items():
            self._read_references(name, context)
            for topic, agent in context.agents.items():
                for partition in range(self._graph.topics[topic].partitions):
                    batch = self._arrived(name, agent, (topic, partition), max_batch)
                    if batch:
                        await self._drive(name, agent.handle(batch))
                        self._positions[name][topic, partition] += len(batch)
                        progressed = True
        if not progressed and self._lingering:
            # Nothing more comes: time passes until the first of those who wait has waited enough.
            left_s = min(self._lingering.values()) - self.log.clock.monotonic()
            await self._wait_for(self.log.clock.sleep(max(left_s, _TICK_S)))
            return True
        return progressed

    def _arrived(
        self, name: str, agent: Agent, place: Place, max_batch: int | None
    ) -> list[Message]:
        """What a handler gets now: nothing while it waits for more."""
        limit = max_batch or agent.max_batch
        batch = self.log.read(*place, self._positions[name][place], limit)
        if agent.linger_s > 0 and 0 < len(batch) < limit:
            now = self.log.clock.monotonic()
            if now < self._lingering.setdefault((name, place), now + agent.linger_s):
                return []
        self._lingering.pop((name, place), None)
        return batch

    def _read_references(self, name: str, context: MemoryContext) -> None:
        positions = self._reference_positions[name]
        for topic, apply in context.broadcasts.items():
            for partition in range(self._graph.topics[topic].partitions):
                place = (topic, partition)
                batch = self.log.read(topic, partition, positions[place], 1_000_000)
                if batch:
                    apply(batch)
                    positions[place] += len(batch)


def _without_waiting(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end what never has to wait."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError(f"{work} waits")
