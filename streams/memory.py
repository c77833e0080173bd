"""Stages in memory: a log, tables and a driver that runs the whole graph without a broker.

Records keep their order within a partition, offsets count up, and the log's clock is moved by
hand. ``crash(stage)`` forgets what a process would lose at kill -9: the handlers are registered
anew on the tables as logged and on the offsets as acknowledged.
"""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import polars as pl

from schemas.registry import FixedRegistry
from streams.context import Apply, Context, Handler, Message
from streams.wire import Wire, dead_letter_headers, error_headers, key_bytes
from topology.graph import Graph, UndeclaredError, check_reads, check_writes, dead_letter_name
from topology.model import Stage
from topology.settings import Settings


class MemoryLog:
    """Every topic of a graph as lists of records."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.registry = FixedRegistry(graph)
        self.wire = Wire(graph, self.registry)
        self.now_ms = 0
        self._records: dict[str, list[list[Message]]] = {
            name: [[] for _ in range(topic.partitions)] for name, topic in graph.topics.items()
        }

    def append(
        self,
        topic: str,
        value: bytes | dict[str, Any] | pl.DataFrame | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Message:
        """Write one record; without a partition, the key chooses it."""
        partitions = self._records[topic]
        raw_key = key_bytes(key)
        if partition is None:
            partition = zlib.crc32(raw_key or b"") % len(partitions)
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

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Message]:
        return self._records[topic][partition][offset : offset + limit]

    def records(self, topic: str) -> list[Message]:
        """Everything in a topic, partition by partition."""
        return [message for partition in self._records[topic] for message in partition]

    def decoded(self, topic: str) -> list[Any]:
        """What is in every record of a topic."""
        return [self.wire.decode(topic, message.value) for message in self.records(topic)]


class MemoryTable:
    """A table whose changelog is a dict that outlives the stage."""

    def __init__(self, logged: dict[tuple[int, bytes], bytes], partitions: int):
        self._logged = logged
        self._partitions = partitions

    def get(self, partition: int, key: bytes = b"") -> bytes | None:
        return self._logged.get((partition, key))

    def put(self, partition: int, key: bytes, value: bytes) -> None:
        self._logged[partition, key] = value

    def delete(self, partition: int, key: bytes) -> None:
        self._logged.pop((partition, key), None)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        for (owner, key), value in list(self._logged.items()):
            if owner == partition:
                yield key, value

    def partitions(self) -> set[int]:
        return set(range(self._partitions))


class MemoryContext(Context):
    """One stage in memory."""

    def __init__(self, log: MemoryLog, stage: Stage, settings: Settings, tables: dict[str, dict]):
        self.stage = stage
        self.settings = settings
        self.registry = log.registry
        self._log = log
        self._tables = tables
        self.handlers: dict[str, tuple[Handler, int]] = {}
        self.timers: list[Callable[[], Awaitable[None]]] = []
        self.broadcasts: dict[str, Apply] = {}

    def agent(
        self,
        topic: str,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        check_reads(self.stage, topic)

        def decorate(handler: Handler) -> Handler:
            async def confirmed(messages: list[Message]) -> None:
                await handler(messages)
                if confirm is not None:
                    await confirm(messages)

            self.handlers[topic] = (confirmed, max_batch)
            return handler

        return decorate

    def timer(self, seconds: float) -> Callable[[Callable[[], Awaitable[None]]], Any]:
        def decorate(coroutine: Callable[[], Awaitable[None]]) -> Any:
            self.timers.append(coroutine)
            return coroutine

        return decorate

    def broadcast(self, topic: str, apply: Apply) -> None:
        check_reads(self.stage, topic)
        self.broadcasts[topic] = apply

    def table(self, name: str) -> MemoryTable:
        declared = next((table for table in self.stage.tables if table.name == name), None)
        if declared is None:
            raise UndeclaredError(f"Stage {self.stage.name} declares no table {name!r}")
        return MemoryTable(self._tables.setdefault(name, {}), declared.partitions)

    def on_rebalance(self, callback: Callable[[], None]) -> None:
        """Nothing is ever rebalanced in memory."""

    async def send(
        self,
        topic: str,
        value: bytes | dict[str, Any] | pl.DataFrame | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        check_writes(self.stage, topic)
        pairs = tuple((headers or {}).items())
        self._log.append(topic, value, key=key, partition=partition, headers=pairs)

    async def delivered(self) -> None:
        """What was sent is in the log at once."""

    def decode(self, message: Message) -> Any:
        return self._log.wire.decode(message.topic, message.value)

    async def dead_letter(self, message: Message, error: BaseException) -> None:
        errors = error_headers(
            message.topic, message.partition, message.offset, self.stage.name, error
        )
        headers = tuple(dead_letter_headers(message.headers, errors))
        topic = dead_letter_name(message.topic)
        check_writes(self.stage, topic)
        self._log.append(topic, message.value, key=message.key, partition=0, headers=headers)


class MemoryRuntime:
    """Runs stages of a graph over a MemoryLog until nothing is left to read."""

    def __init__(self, graph: Graph, settings: Settings):
        self.log = MemoryLog(graph)
        self._graph = graph
        self._settings = settings
        self._contexts: dict[str, MemoryContext] = {}
        self._positions: dict[str, dict[tuple[str, int], int]] = {}
        self._reference_positions: dict[str, dict[tuple[str, int], int]] = {}
        self.tables: dict[str, dict[str, dict]] = defaultdict(dict)

    def start(self, stage_name: str) -> MemoryContext:
        """Register a stage's handlers, on what it had logged before if it ran already."""
        stage = self._graph.stages[stage_name]
        context = MemoryContext(self.log, stage, self._settings, self.tables[stage_name])
        importlib.import_module(stage.entry_point).register(context)
        self._contexts[stage_name] = context
        self._positions.setdefault(stage_name, defaultdict(int))
        self._reference_positions[stage_name] = defaultdict(int)
        return context

    def crash(self, stage_name: str, *, redeliver: int = 0) -> None:
        """Restart a stage as after kill -9; the last ``redeliver`` messages come again."""
        positions = self._positions[stage_name]
        for place in positions:
            positions[place] = max(0, positions[place] - redeliver)
        self.start(stage_name)

    def run(self, *, max_batch: int | None = None, timers: bool = True) -> None:
        """Deliver until every stage has read everything; then run timers until they add nothing."""
        asyncio.run(self._run(max_batch, timers))

    async def _run(self, max_batch: int | None, timers: bool) -> None:
        while True:
            while await self._pass(max_batch):
                pass
            if not timers:
                return
            for context in self._contexts.values():
                for timer in context.timers:
                    await timer()
            if not await self._pass(max_batch):
                return

    async def _pass(self, max_batch: int | None) -> bool:
        progressed = False
        for name, context in self._contexts.items():
            self._read_references(name, context)
            for topic, (handler, limit) in context.handlers.items():
                for partition in range(self._graph.topics[topic].partitions):
                    place = (topic, partition)
                    offset = self._positions[name][place]
                    batch = self.log.read(topic, partition, offset, max_batch or limit)
                    if batch:
                        await handler(batch)
                        self._positions[name][place] += len(batch)
                        progressed = True
        return progressed

    def _read_references(self, name: str, context: MemoryContext) -> None:
        positions = self._reference_positions[name]
        for topic, apply in context.broadcasts.items():
            for partition in range(self._graph.topics[topic].partitions):
                place = (topic, partition)
                batch = self.log.read(topic, partition, positions[place], 1_000_000)
                if batch:
                    apply(batch)
                    positions[place] += len(batch)
