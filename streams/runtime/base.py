"""What the contexts of a stage have in common, on Faust and in memory."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import polars as pl

from schemas.codec import Registry
from streams.kafka.message import Message
from streams.kafka.wire import Wire, dead_letter_headers, error_headers, key_bytes
from streams.runtime.clock import Clock
from streams.runtime.context import Context
from streams.state.log import S
from streams.state.store import SNAPSHOT_BYTES, LogStates, StateLog
from topology.graph import UndeclaredError, changelog_name, check_writes, dead_letter_name
from topology.model import Stage, Table
from topology.settings import Settings

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT_S = 60.0


class StageContext(Context):
    """A stage's declared tables and topics, and its outputs until they are delivered."""

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
        self._states: list[LogStates[Any]] = []

    # -- tables ------------------------------------------------------------------------------

    def declared(self, name: str, form: str) -> Table:
        """The stage's table of this name and form; UndeclaredError if it has none."""
        table = next((table for table in self.stage.tables if table.name == name), None)
        if table is None or table.form != form:
            raise UndeclaredError(
                f"Stage {self.stage.name} opens table {name!r} ({form}), which topology/stages "
                f"does not give it: add it to `tables` of the stage."
            )
        return table

    def states(self, name: str, make: Callable[[int], S]) -> LogStates[S]:
        self.declared(name, "log")
        changelog = self._state_log(changelog_name(self.stage, name))
        states = LogStates(changelog, make, self._track, self._snapshot_bytes)
        self._states.append(states)
        return states

    @abstractmethod
    def _state_log(self, topic: str) -> StateLog:
        """The log of a table of states."""

    # -- sending -----------------------------------------------------------------------------

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
        pairs = list((headers or {}).items())
        await self._send(topic, self.wire.encode(topic, value), key_bytes(key), partition, pairs)

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
        """Return when everything sent so far is in the log; raise if anything could not be.

        Handlers of a stage run side by side: each waits for what the others sent as well.
        """
        if not self._pending:
            return
        done, late = await asyncio.wait(
            self._pending, timeout=DELIVERY_TIMEOUT_S, return_when=asyncio.FIRST_EXCEPTION
        )
        for delivery in done:
            delivery.result()
        if late:
            raise TimeoutError(f"{len(late)} records were not delivered in {DELIVERY_TIMEOUT_S} s")

    # -- messages ----------------------------------------------------------------------------

    def decode(self, message: Message, only: tuple[str, ...] | None = None) -> Any:
        return self.wire.decode(message.topic, message.value, only)

    async def dead_letter(self, message: Message, error: BaseException) -> None:
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
        topic = dead_letter_name(message.topic)
        check_writes(self.stage, topic)
        headers = dead_letter_headers(message.headers, errors)
        await self._send(topic, message.value, message.key, 0, headers)
