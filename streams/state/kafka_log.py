"""Logs of states on Kafka: appended to by an idempotent producer, read and truncated apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from streams.kafka.clients import producer, to_message
from streams.kafka.log_reader import LogReader
from streams.state.log import Headers
from streams.state.store import Fold
from topology.access import admin_client

T = TypeVar("T")

TIMEOUT_S = 30.0
"""Longest that the broker may stay silent before the worker gives up and starts again."""

APPENDING: dict[str, Any] = {
    "linger.ms": 0,
    # After a failure nothing later may get into the log: readers who skip what is not above an
    # offset would take the rest for all there was. The context ends a process that waits too long.
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
    "queue.buffering.max.kbytes": 2_097_151,
}
"""How an idempotent producer appends."""

_RECORDS_AT_ONCE = 500
_FULL_S = 0.01


class Appender:
    """Appends records and tells the event loop where each one has arrived.

    The producer is idempotent: records of a partition arrive in the order of the calls, none
    twice, and none after one that failed. Deliveries are polled for in a thread.
    """

    def __init__(self, bootstrap_servers: str):
        self._producer = producer(bootstrap_servers, **APPENDING)
        self._closing = threading.Event()
        threading.Thread(target=self._poll_forever, name="appender", daemon=True).start()

    def _poll_forever(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.5)

    def close(self) -> None:
        """Stop telling; what was appended has been waited for."""
        self._closing.set()

    def append(
        self,
        topic: str,
        partition: int | None,
        value: bytes | None,
        headers: Headers,
        key: bytes | None = None,
    ) -> asyncio.Future[int]:
        """Append at once; the future gives the record's offset, or KafkaException.

        Without a partition the key chooses it.
        """
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[int] = loop.create_future()

        def delivered(error: Any, record: KafkaMessage) -> None:
            loop.call_soon_threadsafe(settle, error, record.offset())

        def settle(error: Any, offset: Any) -> None:
            if arrival.cancelled():
                return
            if error is not None:
                arrival.set_exception(KafkaException(error))
            else:
                arrival.set_result(offset)

        record: dict[str, Any] = {"topic": topic, "value": value, "key": key, "headers": headers}
        if partition is not None:
            record["partition"] = partition
        while True:
            try:
                self._producer.produce(**record, on_delivery=delivered)
                return arrival
            except BufferError:
                # The broker is slower than we are: whoever sends has to wait.
                self._producer.poll(_FULL_S)


class KafkaStateLog:
    """`StateLog` on a topic that nobody else may truncate."""

    def __init__(self, bootstrap_servers: str, topic: str, appender: Appender):
        self.name = topic
        self._bootstrap = bootstrap_servers
        self._appender = appender
        self._reader: LogReader | None = None
        # One thread: a consumer is assigned one partition at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=topic)

    def append(self, partition: int, value: bytes, headers: Headers) -> Awaitable[int]:
        return self._appender.append(self.name, partition, value, headers)

    async def end(self, partition: int) -> int:
        return (await self._in_thread(self._bounds, partition))[1]

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        return await self._in_thread(self._replay, partition, into)

    async def exists(self) -> bool:
        """Whether the broker has the topic."""
        return await self._in_thread(self._exists)

    async def truncate(self, partition: int, offset: int) -> None:
        await self._in_thread(self._truncate, partition, offset)

    async def close(self) -> None:
        """Let go of the reader."""
        if self._reader is not None:
            await self._in_thread(self._reader.close)
            self._reader = None

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    # -- in the thread ---------------------------------------------------------------------------

    def _reading(self) -> LogReader:
        if self._reader is None:
            self._reader = LogReader(self._bootstrap, TIMEOUT_S)
        return self._reader

    def _exists(self) -> bool:
        return self._reading().exists(self.name)

    def _bounds(self, partition: int) -> tuple[int, int]:
        return self._reading().bounds(self.name, partition)

    def _replay(self, partition: int, into: Fold) -> tuple[int, int]:
        start, end = self._bounds(partition)
        for records in self._reading().span(self.name, partition, start, end, _RECORDS_AT_ONCE):
            for record in records:
                into.apply(to_message(record))
        return start, end

    def _truncate(self, partition: int, offset: int) -> None:
        admin = admin_client(self._bootstrap)
        place = TopicPartition(self.name, partition, offset)
        for future in admin.delete_records([place], request_timeout=TIMEOUT_S).values():
            future.result(TIMEOUT_S)
