"""What a stage may touch: the interface that a stage module is written against.

A stage module has one function, ``register(context)``, which declares its handlers. The same
module runs on Faust (`streams.runtime.faust.runner`) and in memory (`streams.runtime.in_memory`),
so a test of the whole graph runs the very code that production runs.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import polars as pl

from schemas.codec import BadRecordError, Registry
from streams.kafka.message import Message
from streams.kafka.sizes import letter, takes, too_large
from streams.kafka.wire import Wire, dead_letter_headers, error_headers, key_bytes
from streams.runtime.clock import Clock
from streams.state.keyed_table import KeyedState, StateTable
from streams.state.log import S
from streams.state.store import SNAPSHOT_BYTES, LogStates, Origin, StateLog
from topology.graph import UndeclaredError, check_writes, dead_letter_name, state_topic
from topology.model import ArrowTopic, AvroTopic, RawTopic, Stage, Table, Topic
from topology.settings import Settings

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT_S = 60.0

Handler = Callable[[list[Message]], Awaitable[None]]
Apply = Callable[[Sequence[Message]], None]


class Context(ABC):
    """One stage's hold on the outside world, checked against the topology.

    Topics and tables are named by their declarations (`topology.topics`, `topology.tables`);
    UndeclaredError where the stage is not given one. A version beside the first has other names for
    them (`Graph.topic`), which messages bear. What was sent is tracked until it is in the
    log. ``clock`` is the only time that a stage knows.
    """

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        registry: Registry,
        wire: Wire,
        clock: Clock,
        snapshot_bytes: int = SNAPSHOT_BYTES,
    ):
        self.stage = stage
        self.settings = settings
        self.registry = registry
        self.wire = wire
        self.clock = clock
        self._snapshot_bytes = snapshot_bytes
        self._pending: set[asyncio.Future[Any]] = set()
        self._states: dict[str, LogStates[Any]] = {}
        self._tables: dict[str, StateTable] = {}

    # -- declaring ---------------------------------------------------------------------------

    @abstractmethod
    def agent(
        self,
        topic: Topic,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register ``handler(messages)`` for a consumed topic; UndeclaredError for any other.

        It gets what has arrived, at most ``max_batch`` messages, and what still arrives within
        ``linger_s`` of the first: work that nobody waits for is cheaper in larger pieces. Its
        messages are acknowledged once it has returned and everything it sent and put has been
        delivered; if it raises, the worker ends without acknowledging, and the messages come
        again.

        ``confirm(messages)`` is asked a while after the handler has returned, before they are
        acknowledged: whether an outside store still has what was written. It raises if not.
        """

    @abstractmethod
    def timer(self, seconds: float) -> Callable[[Callable[[], Awaitable[None]]], Any]:
        """Register a coroutine to run every ``seconds``; what it sends is delivered on return."""

    @abstractmethod
    def broadcast(self, topic: Topic, apply: Apply) -> None:
        """Give every record of a broadcast topic, from the first one, to ``apply``.

        Handlers wait until the topic has been read to the end it had at the start.
        """

    @abstractmethod
    def owned_fraction(self) -> float:
        """The part of the partitions of its first consumed topic that this worker owns, 0 to 1;
        1 for a stage that consumes nothing, which every worker runs whole."""

    @abstractmethod
    def on_rebalance(self, callback: Callable[[], None]) -> None:
        """Call back when partitions come or go: drop what was cached from tables."""

    # -- tables ------------------------------------------------------------------------------

    def table(self, table: Table) -> StateTable:
        """A keyed table of the stage."""
        if table.name not in self._tables:
            declared = self._declared(table, "keyed")
            states = self._open(declared, lambda _: KeyedState(), self._origin(declared))
            self._tables[table.name] = StateTable(states)
        return self._tables[table.name]

    def states(self, table: Table, make: Callable[[int], S]) -> LogStates[S]:
        """The states in a table that is declared as a log; ``make(partition)`` is an empty one."""
        return self._open(self._declared(table, "log"), make)

    def _open(
        self, table: Table, make: Callable[[int], S], origin: Origin[S] | None = None
    ) -> LogStates[S]:
        state_log = self._state_log(state_topic(self.stage, table).name)
        states = LogStates(state_log, make, self._track, self._snapshot_bytes, origin)
        self._states[table.name] = states
        return states

    @abstractmethod
    def _state_log(self, topic: str) -> StateLog:
        """The log behind a table."""

    def _origin(self, table: Table) -> Origin[KeyedState] | None:
        """Where a keyed table was kept before it had its log, if it was."""
        return None

    def _declared(self, table: Table, form: Literal["keyed", "log"]) -> Table:
        """The stage's table of this name and form, with the partitions of this deployment.

        UndeclaredError if the stage has none.
        """
        own = next((own for own in self.stage.tables if own.name == table.name), None)
        if own is None or own.form != form:
            raise UndeclaredError(
                f"Stage {self.stage.name} opens table {table.name!r} ({form}), which "
                f"topology/stages does not give it: add it to `tables` of the stage."
            )
        return own

    # -- sending -----------------------------------------------------------------------------

    @overload
    async def send(
        self,
        topic: AvroTopic,
        value: dict[str, Any] | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None: ...

    @overload
    async def send(
        self,
        topic: ArrowTopic,
        value: pl.DataFrame,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None: ...

    @overload
    async def send(
        self,
        topic: RawTopic,
        value: bytes | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None: ...

    async def send(
        self,
        topic: Topic,
        value: bytes | dict[str, Any] | pl.DataFrame | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        """Send to a produced topic what its class says: a record, rows or bytes.

        None is a tombstone. Without a partition the key chooses it, by murmur2. Returns once it is
        on its way; `flush` waits for its arrival. What is larger than the topic takes is sent in
        several messages where the topic is divisible; otherwise it is not sent, and its beginning
        goes to the topic's dead letters, if it has any.
        """
        topic = self.wire.graph.topic(topic)
        check_writes(self.stage, topic.name)
        raw_key, pairs = key_bytes(key), list((headers or {}).items())
        encoded = self.wire.encode(topic.name, value)
        if takes(topic, raw_key, encoded, pairs):
            await self._send(topic.name, encoded, raw_key, partition, pairs)
        elif (parts := _halves(topic, value)) is not None:
            await self.send(parts.topic, parts.first, key=key, partition=partition)
            await self.send(
                parts.topic, parts.second, key=key, partition=partition, headers=headers
            )
        else:
            await self._put_aside(topic, encoded, raw_key, partition, pairs)

    @abstractmethod
    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """Send bytes to a topic that was checked."""

    def _track(self, delivery: Awaitable[Any]) -> None:
        """Let acknowledging wait for a delivery."""
        future = asyncio.ensure_future(delivery)
        self._pending.add(future)
        future.add_done_callback(self._settle)

    def _settle(self, delivery: asyncio.Future[Any]) -> None:
        """Forget a delivery that succeeded; a failed one stays for every handler to hear of."""
        if not delivery.cancelled() and delivery.exception() is None:
            self._pending.discard(delivery)

    async def flush(self) -> None:
        """Return when everything sent and put so far is in the log; raise if anything could not be.

        For a handler whose output must be there before the state that says so. Handlers of a stage
        run side by side: each waits for what the others sent as well. FencedError if another
        worker has written to a table's log, TimeoutError after `DELIVERY_TIMEOUT_S`.
        """
        for table in self._tables.values():
            await table.save()
        if not self._pending:
            return
        done, late = await asyncio.wait(
            self._pending, timeout=DELIVERY_TIMEOUT_S, return_when=asyncio.FIRST_EXCEPTION
        )
        for delivery in done:
            delivery.result()
        if late:
            raise TimeoutError(f"{len(late)} records were not delivered in {DELIVERY_TIMEOUT_S} s")

    async def _handle(self, handler: Handler, messages: list[Message]) -> None:
        """Call a handler on the tables of its partitions, and return when its messages may be
        acknowledged."""
        partitions = {message.partition for message in messages}
        for table in self._tables.values():
            await table.restore(partitions)
        await handler(messages)
        for table in self._tables.values():
            table.check_owned(partitions)
        await self.flush()

    # -- messages ----------------------------------------------------------------------------

    def decode(self, message: Message, only: tuple[str, ...] | None = None) -> Any:
        """The record (dict) or rows (DataFrame) of a message; BadRecordError if it has none.

        Of rows, ``only`` these columns are read.
        """
        return self.wire.decode(message.topic, message.value, only)

    async def hand_over(
        self,
        topic: Topic,
        value: bytes | None,
        key: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """Send a record of a consumed topic to another of its partitions."""
        topic = self.wire.graph.topic(topic)
        check_writes(self.stage, topic.name)
        await self._send(topic.name, value, key, partition, headers)

    async def dead_letter(self, message: Message, error: BaseException) -> None:
        """Put a message that cannot be used, as it came, into its dead-letter topic."""
        log.warning(
            "%s: %s[%d]@%d goes to the dead-letter topic: %s",
            self.stage.name,
            message.topic,
            message.partition,
            message.offset,
            error,
        )
        errors = error_headers(
            message.topic, message.partition, message.offset, self.stage.name, error
        )
        headers = dead_letter_headers(message.headers, errors)
        await self._send_letter(message.topic, message.key, message.value, headers)

    async def _put_aside(
        self,
        topic: Topic,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        """Tell of a record that its topic does not take; where it has dead letters, there too."""
        error = too_large(topic, key, value, headers)
        log.error("%s: not sent: %s", self.stage.name, error)
        dead = dead_letter_name(topic.name, self.stage.table_version)
        if dead in self.wire.graph.topics:
            why = error_headers(topic.name, partition, None, self.stage.name, error)
            await self._send_letter(topic.name, key, value, [*headers, *why])

    async def _send_letter(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        dead = dead_letter_name(topic, self.stage.table_version)
        check_writes(self.stage, dead)
        made = letter(self.wire.graph.topics[dead], key, value, headers)
        await self._send(dead, made.value, made.key, 0, made.headers)


class Halves(NamedTuple):
    """Rows of a topic in two parts."""

    topic: ArrowTopic
    first: pl.DataFrame
    second: pl.DataFrame


def _halves(topic: Topic, rows: object) -> Halves | None:
    """Rows in two parts that their topic may have in messages of their own, about the middle.

    None where it may not.
    """
    if not (isinstance(topic, ArrowTopic) and topic.divisible and isinstance(rows, pl.DataFrame)):
        return None
    ends = np.arange(1, rows.height)
    if topic.together is not None:
        column = rows[topic.together]
        ends = ends[(column[1:] != column[:-1]).to_numpy()]
    if not ends.size:
        return None
    middle = int(ends[np.abs(ends - rows.height // 2).argmin()])
    return Halves(topic, rows[:middle], rows[middle:])


def broadcast_records(
    context: Context, messages: Sequence[Message]
) -> Iterator[tuple[Message, Any]]:
    """What `Wire.readable` gives a stage of the records of a broadcast topic."""
    return context.wire.readable(messages, context.stage.name)


def keyed_records(context: Context, messages: Sequence[Message]) -> Iterator[tuple[str, Any]]:
    """What `broadcast_records` gives, by the key of the message."""
    for message, record in broadcast_records(context, messages):
        yield message.key_text, record


async def decode_partitions(
    context: Context, messages: Sequence[Message], only: tuple[str, ...] | None = None
) -> dict[int, list[tuple[Message, Any]]]:
    """What `decode_all` gives, by partition."""
    found: dict[int, list[tuple[Message, Any]]] = {}
    for message, content in await decode_all(context, messages, only):
        found.setdefault(message.partition, []).append((message, content))
    return found


async def decode_all(
    context: Context, messages: Sequence[Message], only: tuple[str, ...] | None = None
) -> list[tuple[Message, Any]]:
    """The messages that decode, with what is in them; the others go to the dead-letter topic."""
    good = []
    for message in messages:
        try:
            good.append((message, context.decode(message, only)))
        except BadRecordError as error:
            await context.dead_letter(message, error)
    return good
