"""Stages on Faust: workers, agents and groups behind `streams.runtime.context`.

Each stage is a Faust app of its own, hence a consumer group of its own; a worker process runs
one or several of them. Delivery is at least once, and effects are made to happen once by the
offsets that stages keep in their state. Three things are therefore not left to Faust:
acknowledging (after delivery, never on an exception), state (`streams.state`, whose logs tell a
worker that has lost a partition), and reference data (read whole by every worker).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP, EventT

from schemas.codec import Registry
from streams.kafka.clients import end_process
from streams.kafka.log_reader import BackgroundReader
from streams.kafka.message import Message
from streams.kafka.wire import Wire
from streams.monitoring.logs import STAGE
from streams.monitoring.spans import spans
from streams.monitoring.tracing import CURRENT, sampled, traced
from streams.runtime.clock import SystemClock
from streams.runtime.context import Apply, Context, Handler
from streams.runtime.faust.consumer import SkippedError
from streams.runtime.faust.stage_monitor import StageMonitor
from streams.runtime.inbox import Inbox
from streams.runtime.watchdog import Place, watch_fetching
from streams.state.faust_changelog import FaustChangelog
from streams.state.kafka_log import Appender, KafkaStateLog
from streams.state.keyed_table import KeyedState
from streams.state.store import Origin
from topology.graph import changelog_name, check_reads, state_topic
from topology.model import Graph, Stage, Table, Topic
from topology.settings import Settings

log = logging.getLogger(__name__)

CONFIRM_AFTER_S = 2.5
"""Longer than an outside store takes to write to its disk what it said it has."""

DRAIN_S = 5.0
"""Longest that a rebalance waits for what timers have sent to arrive."""


class FaustContext(Context):
    """One stage on its own Faust app."""

    def __init__(
        self, app: faust.App, stage: Stage, settings: Settings, graph: Graph, registry: Registry
    ):
        super().__init__(stage, settings, registry, Wire(graph, registry), SystemClock())
        self.app = app
        self.monitor = StageMonitor(stage)
        self._span = spans(settings, stage.worker, stage.name)
        self._graph = graph
        self._inboxes: list[Inbox[Any]] = []
        self._handling = 0
        self._broadcasts: dict[str, Apply] = {}
        self._references_ready = asyncio.Event()
        self._was_assigned = False
        self._rebalance_callbacks: list[Callable[[], None]] = []
        self._appender: Appender | None = None
        self._state_logs: list[KafkaStateLog] = []
        app.on_partitions_assigned.connect(self._on_assigned)
        app.on_partitions_revoked.connect(self._on_revoked)
        app.on_before_shutdown.connect(self._on_shutdown)
        app.task(self._start_references)
        app.task(self._guarded(self._watch))
        self._reader: BackgroundReader | None = None

    # -- declaring ---------------------------------------------------------------------------

    def agent(
        self,
        topic: Topic,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        name = self._graph.topic(topic).name
        check_reads(self.stage, name)

        def decorate(handler: Handler) -> Handler:
            inbox: Inbox[tuple[Any, EventT[Any]]] = Inbox(max_batch)
            self._inboxes.append(inbox)
            in_order = asyncio.Lock()
            gapless = self._gapless(name)
            handled = self.monitor.handler(name)

            async def receive(stream: Any) -> None:
                async for event in stream.noack().events():
                    if gapless:
                        self._check_order(event)
                    await inbox.put((stream, event))

            async def process() -> None:
                await self._references_ready.wait()
                while True:
                    taken = await inbox.take(linger_s)
                    messages = [_to_message(event) for _, event in taken]
                    CURRENT.set(sampled(message.headers for message in messages))
                    self._handling += 1
                    began = self.clock.monotonic()
                    with self._span(topic.name, len(messages)):
                        await self._handle(handler, messages)
                    self._handling -= 1
                    handled(messages, self.clock.monotonic() - began, self.clock.now())
                    if confirm is None:
                        await _acknowledge(taken)
                    else:
                        waiting = partial(self._confirm_later, confirm, messages, taken, in_order)
                        self.app.add_future(self._guarded(waiting)())

            self.app.agent(self._channel(name), name=f"{self.stage.name}.{name}")(receive)
            self.app.task(self._guarded(process))
            return handler

        return decorate

    def _gapless(self, topic: str) -> bool:
        """Whether offsets must follow each other: state counts by them, and no record is cut out
        of the middle of the topic."""
        counted = any(table.form == "log" for table in self.stage.tables)
        return counted and self._graph.topics[topic].cleanup == "delete"

    def _check_order(self, event: EventT[Any]) -> None:
        consumer: Any = self.app.consumer
        try:
            consumer.delivered(event.message.tp, event.message.offset)
        except SkippedError:
            end_process(f"stage {self.stage.name} cannot go on; the worker ends")

    def timer(self, seconds: float) -> Callable[[Callable[[], Awaitable[None]]], Any]:
        def decorate(coroutine: Callable[[], Awaitable[None]]) -> Any:
            async def tick_forever() -> None:
                await self._references_ready.wait()
                while True:
                    await coroutine()
                    await self.flush()
                    await self.clock.sleep(seconds)

            self.app.task(self._guarded(tick_forever))
            return coroutine

        return decorate

    def broadcast(self, topic: Topic, apply: Apply) -> None:
        name = self._graph.topic(topic).name
        check_reads(self.stage, name)
        self._broadcasts[name] = apply

    def _state_log(self, topic: str) -> KafkaStateLog:
        servers = self.settings.kafka_bootstrap_servers
        state_log = KafkaStateLog(servers, topic, self._producer())
        self._state_logs.append(state_log)
        return state_log

    def _origin(self, table: Table) -> Origin[KeyedState]:
        return FaustChangelog(self._state_log(changelog_name(self.stage, table.name))).load

    def owned_fraction(self) -> float:
        if not self.stage.consumes:
            return 1.0
        source = self.stage.consumes[0]
        try:
            owned = sum(tp.topic == source for tp in self.app.consumer.assignment())
        except ConsumerNotStarted:
            return 0.0
        return owned / self._graph.topics[source].partitions

    def on_rebalance(self, callback: Callable[[], None]) -> None:
        self._rebalance_callbacks.append(callback)

    # -- sending -----------------------------------------------------------------------------

    async def dead_letter(self, message: Message, error: BaseException) -> None:
        self.monitor.dead_letter(message.topic)
        await super().dead_letter(message, error)

    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        headers = traced(self._graph.topics[topic], key, value, headers)
        # Not Faust's producer: it compresses, at lz4's slowest level, on the event loop.
        self._track(self._producer().append(topic, partition, value, list(headers), key))

    def _producer(self) -> Appender:
        if self._appender is None:
            self._appender = Appender(self.settings.kafka_bootstrap_servers)
        return self._appender

    # -- inside ------------------------------------------------------------------------------

    def _channel(self, topic: str) -> Any:
        return self.app.topic(
            topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )

    async def _start_references(self) -> None:
        if not self._broadcasts:
            self._references_ready.set()
            return
        loop = asyncio.get_running_loop()
        self._reader = BackgroundReader(
            self.settings.kafka_bootstrap_servers,
            list(self._broadcasts),
            apply=lambda messages: _on_loop(loop, self._apply_references, messages),
            caught_up=lambda: _on_loop(loop, self._references_ready.set),
        )
        self._reader.start()

    def _apply_references(self, messages: list[Message]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        for topic, group in by_topic.items():
            self._broadcasts[topic](group)

    async def on_missing(self, tp: TP, committed: int | None, first: int) -> None:
        """End the process if this stage, which counts, would begin in the middle of history.

        Where records are kept for some time, those that are left are what it is to have. Where
        they went because every reader had read them, it has lost some, or is new; the broker may
        also have dropped what a stage committed that was off for long, but not its state.
        """
        states = {state_topic(self.stage, table).name for table in self.stage.tables}
        if not states or self._graph.topics[tp.topic].purge_after_ms is None:
            return
        if committed is None:
            logs = [one for one in self._state_logs if one.name in states]
            if any([await one.end(tp.partition) for one in logs]):
                return
        end_process(
            f"{self.stage.name} would begin in the middle of history: what {tp.topic}"
            f"[{tp.partition}] held before offset {first} is purged, and this stage, or this "
            f"version of it, has not read it; stop it and run `podstream replay {self.stage.name}`"
        )

    # -- watching, as streams.runtime.watchdog.Fetching ------------------------------------

    @property
    def name(self) -> str:
        return self.stage.name

    def busy(self) -> bool:
        return self._handling > 0 or any(len(inbox) for inbox in self._inboxes)

    def rebalancing(self) -> bool:
        return self.app.rebalancing

    def progress(self) -> Hashable:
        restored = sum(len(states.owned()) for states in self._states.values())
        return self.app.consumer_generation_id, restored

    async def positions(self) -> dict[Place, int]:
        consumer = self.app.consumer
        owned = [tp for tp in consumer.assignment() if tp.topic in self.stage.consumes]
        return {(tp.topic, tp.partition): await consumer.position(tp) or 0 for tp in owned}

    async def _watch(self) -> None:
        if self.stage.consumes:
            await watch_fetching(self.settings.kafka_bootstrap_servers, self, self._saw_unread)

    def _saw_unread(self, records: int) -> None:
        self.monitor.unread = records

    # -- being asked, as streams.runtime.faust.stage_monitor.Watched -----------------------

    def partitions_owned(self) -> int:
        try:
            return sum(tp.topic in self.stage.consumes for tp in self.app.consumer.assignment())
        except ConsumerNotStarted:
            return 0

    def missing(self) -> list[str]:
        name, found = self.stage.name, []
        if not self._references_ready.is_set():
            found.append(f"{name} has not read its references")
        if self.stage.consumes and (not self._was_assigned or self.app.rebalancing):
            found.append(f"{name} waits for its partitions")
        left = sum(states.unrestored() for states in self._states.values())
        if left:
            found.append(f"{name} has {left} states to restore")
        if (behind := self.monitor.behind()) is not None:
            found.append(behind)
        return found

    def _guarded(self, body: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """End the process when ``body`` raises: unacknowledged messages then come again."""

        async def run() -> None:
            STAGE.set(self.stage.name)
            try:
                await body()
            except asyncio.CancelledError:
                raise
            except BaseException:
                end_process(f"stage {self.stage.name} cannot go on; the worker ends")

        run.__name__ = getattr(body, "__name__", type(body).__name__)
        return run

    async def _on_assigned(self, *args: Any, **__: Any) -> None:
        _, assigned = args
        self._was_assigned = True
        # The partitions of a state are those of the topic that its stage consumes first.
        owned = {tp.partition for tp in assigned if tp.topic == self.stage.consumes[0]}
        for states in self._states.values():
            states.assign(owned)
            self.app.add_future(self._guarded(states.restore)())
        self._rebalanced()

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        for states in self._states.values():
            states.revoke()
        # Handlers have finished; what timers appended shall be there before others read the logs.
        if self._pending:
            await asyncio.wait(self._pending, timeout=DRAIN_S)
        self._rebalanced()

    async def _on_shutdown(self, *_: Any, **__: Any) -> None:
        if self._reader is not None:
            self._reader.stop()
        for states in self._states.values():
            states.revoke()
        for state_log in self._state_logs:
            await state_log.close()
        if self._appender is not None:
            self._appender.close()

    async def _confirm_later(
        self,
        confirm: Handler,
        messages: list[Message],
        taken: Sequence[tuple[Any, EventT[Any]]],
        in_order: asyncio.Lock,
    ) -> None:
        await self.clock.sleep(CONFIRM_AFTER_S)
        # Where nothing has been committed yet, the first acknowledgement is the beginning to Faust.
        async with in_order:
            await confirm(messages)
            await _acknowledge(taken)

    def _rebalanced(self) -> None:
        for callback in self._rebalance_callbacks:
            callback()


def _to_message(event: EventT[Any]) -> Message:
    record = event.message
    headers: Any = record.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=event.key,
        value=event.value,
        timestamp_ms=int((record.timestamp or 0) * 1000),
        headers=tuple((name, bytes(value)) for name, value in pairs),
    )


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Call on the event loop from another thread and wait, so that readers feel back-pressure."""

    async def body() -> None:
        call(*args)

    asyncio.run_coroutine_threadsafe(body(), loop).result()


async def _acknowledge(taken: Sequence[tuple[Any, EventT[Any]]]) -> None:
    for stream, event in taken:
        await stream.ack(event)
