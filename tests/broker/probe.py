"""A stage that does what its records say and tells what it was given: for tests of the runners.

Its topics are named after it, so that several may live on one broker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from streams.kafka.message import Message
from streams.runtime.context import Context
from topology.graph import dead_letter_topic, state_topic
from topology.model import Graph, RawTopic, Stage, Table, declare_stage

PARTITIONS = 2
MAX_BATCH = 8
LINGER_S = 3.0


class TrippedError(RuntimeError):
    """What a record has told the stage to raise."""


@dataclass(frozen=True)
class Declared:
    """The parts of a stage of this name."""

    stage: Stage
    orders: RawTopic
    letters: RawTopic
    known: RawTopic
    told: RawTopic
    counts: Table

    @property
    def graph(self) -> Graph:
        """A graph of nothing else."""
        topics = (
            self.orders,
            self.letters,
            self.known,
            self.told,
            dead_letter_topic(self.orders),
            dead_letter_topic(self.letters),
            dead_letter_topic(self.told),
            state_topic(self.stage, self.counts),
        )
        return Graph({topic.name: topic for topic in topics}, stages={self.stage.name: self.stage})


def declared(name: str) -> Declared:
    """The stage of a name, with its topics."""
    orders = RawTopic(f"{name}-orders", "what to do", "none", partitions=PARTITIONS)
    letters = RawTopic(f"{name}-letters", "what can wait", "none", partitions=PARTITIONS)
    known = RawTopic(f"{name}-known", "what every worker knows", "none")
    told = RawTopic(f"{name}-told", "what was seen", "none", partitions=PARTITIONS)
    counts = Table("counts", "sums", key="`sum` or `next`", value="digits", partitions=PARTITIONS)
    stage = declare_stage(
        name,
        "tells what it is given",
        runner="faust",
        entry_point=__name__,
        worker=name,
        consumes=(orders, letters),
        broadcast=(known,),
        produces=(told,),
        tables=(counts,),
    )
    return Declared(stage, orders, letters, known, told, counts)


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    Probe(context)


class Probe:
    """The stage on one context."""

    def __init__(self, context: Context):
        self._context = context
        self._declared = parts = declared(context.stage.name)
        self._table = context.table(parts.counts)
        self._known = 0
        self._ticked = False
        self._moves = 0
        context.on_rebalance(self._count_move)
        context.broadcast(parts.known, self._learn)
        context.agent(parts.orders, max_batch=MAX_BATCH, confirm=self._confirm)(self._handle_orders)
        context.agent(parts.letters, linger_s=LINGER_S)(self._handle_letters)
        context.timer(0.2)(self._tick)

    def _learn(self, messages: Sequence[Message]) -> None:
        self._known += len(messages)

    def _count_move(self) -> None:
        self._moves += 1

    async def _handle_letters(self, messages: list[Message]) -> None:
        await self._tell(0, letters=len(messages))

    async def _tick(self) -> None:
        if not self._ticked:
            self._ticked = True
            await self._tell(0, tick=True)

    async def _handle_orders(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                order = json.loads(message.value or b"")
            except ValueError as error:
                await self._context.dead_letter(message, error)
                continue
            partition = message.partition
            if message.offset >= self._number(partition, b"next"):
                self._put(partition, b"sum", self._number(partition, b"sum") + order["add"])
                self._put(partition, b"next", message.offset + 1)
            await self._tell(
                partition,
                offset=message.offset,
                batch=len(messages),
                known=self._known,
                moves=self._moves,
                process=os.getpid(),
                sum=self._number(partition, b"sum"),
            )
            if "large" in order:
                # Of a whole round of bytes in disorder: nothing that compression could shrink.
                noise = Random(0).randbytes(order["large"])
                await self._context.send(self._declared.told, noise, partition=partition)
            if order.get("raise") == "flushed":
                await self._context.flush()
            if order.get("raise") in ("flushed", "unflushed"):
                _trip(order)

    async def _confirm(self, messages: list[Message]) -> None:
        for message in messages:
            if b'"confirming"' in (message.value or b""):
                _trip(json.loads(message.value or b""))

    async def _tell(self, partition: int, **said: Any) -> None:
        value = json.dumps(said).encode()
        await self._context.send(self._declared.told, value, partition=partition)

    def _number(self, partition: int, key: bytes) -> int:
        return int(self._table.get(partition, key) or 0)

    def _put(self, partition: int, key: bytes, number: int) -> None:
        self._table.put(partition, key, b"%d" % number)


def _trip(order: dict[str, Any]) -> None:
    """Raise the first time only: a file remembers it."""
    flag = Path(order["flag"])
    if not flag.exists():
        flag.touch()
        raise TrippedError(str(flag))
