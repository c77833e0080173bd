"""What a stage may touch: the interface that a stage module is written against.

A stage module has one function, ``register(context)``, which declares its handlers. The same
module runs on Faust (`streams.runtime.faust.runner`) and in memory (`streams.runtime.in_memory`),
so a test of the whole graph runs the very code that production runs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

import polars as pl

from schemas.codec import BadRecordError, Registry
from streams.kafka.message import Message
from streams.runtime.clock import Clock
from streams.state.protocols import S, States, StateTable
from topology.model import Stage
from topology.settings import Settings

log = logging.getLogger(__name__)

Handler = Callable[[list[Message]], Awaitable[None]]
Apply = Callable[[Sequence[Message]], None]


class Context(Protocol):
    """One stage's hold on the outside world, checked against the topology."""

    stage: Stage
    settings: Settings
    registry: Registry
    clock: Clock
    """The only time that a stage knows."""

    def agent(
        self,
        topic: str,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register ``handler(messages)`` for a consumed topic.

        It gets what has arrived, at most ``max_batch`` messages, and what still arrives within
        ``linger_s`` of the first: work that nobody waits for is cheaper in larger pieces. Its
        messages are acknowledged once it has returned and everything it sent and put has been
        delivered; if it raises, the worker ends without acknowledging, and the messages come
        again.

        ``confirm(messages)`` is asked a while after the handler has returned, before they are
        acknowledged: whether an outside store still has what was written. It raises if not.
        """

    def timer(self, seconds: float) -> Callable[[Callable[[], Awaitable[None]]], Any]:
        """Register a coroutine to run every ``seconds``; what it sends is delivered on return."""

    def broadcast(self, topic: str, apply: Apply) -> None:
        """Give every record of a broadcast topic, from the first one, to ``apply``.

        Handlers wait until the topic has been read to the end it had at the start.
        """

    def table(self, name: str) -> StateTable:
        """A table that the topology declares for this stage."""

    def states(self, name: str, make: Callable[[int], S]) -> States[S]:
        """The states in a table that the topology declares as a log; ``make(partition)`` is a
        state of nothing."""

    def owned_fraction(self) -> float:
        """The part of the partitions of its first consumed topic that this worker owns, 0 to 1;
        1 for a stage that consumes nothing, which every worker runs whole."""

    def on_rebalance(self, callback: Callable[[], None]) -> None:
        """Call back when partitions come or go: drop what was cached from tables."""

    async def send(
        self,
        topic: str,
        value: bytes | dict[str, Any] | pl.DataFrame | None,
        *,
        key: str | bytes | None = None,
        partition: int | None = None,
        headers: dict[str, bytes] | None = None,
    ) -> None:
        """Send to a produced topic: a dict for an Avro topic, a frame for an Arrow topic."""

    async def flush(self) -> None:
        """Return when everything sent and put so far is in the log.

        For a handler whose output must be there before the state that says so.
        """

    def decode(self, message: Message, only: tuple[str, ...] | None = None) -> Any:
        """The record (dict) or rows (DataFrame) of a message; BadRecordError if it has none.

        Of rows, ``only`` these columns are read.
        """

    async def dead_letter(self, message: Message, error: BaseException) -> None:
        """Put a message that cannot be used, as it came, into its dead-letter topic."""


def broadcast_records(
    context: Context, messages: Sequence[Message]
) -> Iterator[tuple[Message, Any]]:
    """Each message of a broadcast topic with its record; with None for one that is withdrawn.

    What does not decode is passed over: the stage that consumes the topic has it dead-lettered.
    """
    for message in messages:
        if message.value is None:
            yield message, None
            continue
        try:
            yield message, context.decode(message)
        except BadRecordError as error:
            log.warning(
                "%s: %s[%d]@%d is passed over: %s",
                context.stage.name,
                message.topic,
                message.partition,
                message.offset,
                error,
            )


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
