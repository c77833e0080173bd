"""Faust's Kafka consumer, which skips no record at a rebalance.

Around a rebalance Faust drops what it has fetched and goes back to what was committed. A
partition of which nothing has been committed yet it leaves where it is, after what was dropped:
here it goes back to the beginning. And it lets the partitions go before it has gone back: what
is fetched meanwhile it takes for what it knows, drops it, and then takes the hole for records
that were compacted away, and commits it. Here nothing is fetched meanwhile. What follows without
a gap is checked all the same, because state that has skipped a record looks like any other.

For the same reason the stage is told of every partition whose first record is above where it
would go on: what was before is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from faust.transport.drivers import aiokafka
from faust.types import TP

OnMissing = Callable[[TP, int | None, int], Awaitable[None]]


class SkippedError(RuntimeError):
    """Records between two that were delivered, or after the last one committed, are missing."""


class Consumer(aiokafka.Consumer):
    """The consumer of one stage."""

    transport: Transport

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        self._moving = asyncio.Lock()
        """Held while records are fetched, and while their positions change."""

    def verify_event_path(self, *_: Any) -> None:
        """Nothing: `streams.runtime.watchdog` tells a consumer that stands still from one that has
        nothing to do, which Faust does not."""

    async def perform_seek(self) -> None:
        # Whoever calls this resumes the flow afterwards. What is being fetched now comes first, and
        # is dropped with the rest.
        self.stop_flow()
        async with self._moving:
            await super().perform_seek()

    async def _getmany(self, *args: Any, **kwargs: Any) -> Any:
        async with self._moving:
            return await super()._getmany(*args, **kwargs)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed = await super().seek_to_committed()
        earliest = await self.earliest_offsets(*committed)
        for tp, offset in committed.items():
            if (offset or 0) < earliest[tp]:
                await self.transport.on_missing(TP(*tp), offset, earliest[tp])
        # Nothing at all, or offset 0, which is no place to go to for aiokafka.
        new = [TP(*tp) for tp, offset in committed.items() if not offset]
        await self._thread.seek_wait({tp: earliest[tp] for tp in new})
        self._next = {TP(*tp): max(offset or 0, earliest[tp]) for tp, offset in committed.items()}
        return committed

    def delivered(self, tp: TP, offset: int) -> None:
        """Note a record; SkippedError if any before it was not delivered. Some come again."""
        expected = self._next.get(tp, offset)
        if offset > expected:
            raise SkippedError(
                f"{tp.topic}[{tp.partition}]: offset {offset} came where {expected} was next"
            )
        self._next[tp] = offset + 1


class Transport(aiokafka.Transport):
    """What gives an app its consumer."""

    Consumer = Consumer

    on_missing: OnMissing
    """Called, while nothing is read, with a partition, the offset committed (None for none), and
    that of its first record, which is above it."""
