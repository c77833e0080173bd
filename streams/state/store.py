"""States that workers keep in memory and in a log: restored, appended to, fenced and truncated.

Why nothing acknowledged gets lost is told in docs/adr/0013-every-table-is-a-chain-of-entries.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from streams.kafka.message import Message
from streams.state.log import Entry, Headers, S, StateFold, change, snapshot, to_records

log = logging.getLogger(__name__)

SNAPSHOT_BYTES = 16 * 1_048_576
"""Changes that are always cheaper to read again than a snapshot is to write."""


Origin = Callable[[int, S], Awaitable[bool]]


class FencedError(RuntimeError):
    """Another worker has written to the log of a state that this one holds."""


class StateLostError(RuntimeError):
    """A log was truncated, and what is left of it does not hold the state."""


class Fold(Protocol):
    """What a log's records are given to, in order."""

    def apply(self, record: Message) -> None:
        """Take in the record that comes next. ValueError if it belongs to no such log."""


class StateLog(Protocol):
    """The log of a table, by partition. Nothing here blocks the event loop."""

    name: str

    def append(self, partition: int, value: bytes, headers: Headers) -> Awaitable[int]:
        """Append one record at once, in the order of the calls; its offset once it is there."""

    async def end(self, partition: int) -> int:
        """The offset that the next record will get."""

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        """Give every record to ``into``; the offsets of the first one and after the last one."""

    async def truncate(self, partition: int, offset: int) -> None:
        """Forget the records before an offset."""


@dataclass
class Held(Generic[S]):
    """A state in memory, and where its log stands when everything appended has arrived."""

    state: S
    head: str | None
    base: str
    position: int
    saved: int
    """What the log has, or will have, applied."""
    snapshot_bytes: int
    change_bytes: int
    verified: int = -1
    """The rebalance since which the log is known to hold nothing but what this worker knows."""
    latest: Awaitable[None] | None = None


class LogStates(Generic[S]):
    """The states of the partitions that a worker owns, each kept in a log of its own.

    One task handles the messages of a partition and calls `get` and `save`; any task may look at
    `owned`. A state stays with its handler from `get` to `save`, so a rebalance must wait for the
    handler: Faust does (``stream_wait_empty``). ``track`` is told of every append on its way.
    ``origin(partition, state)`` fills the state of a log that was never written to from where it
    was kept before, and says whether there was anything.
    """

    def __init__(
        self,
        states_log: StateLog,
        make: Callable[[int], S],
        track: Callable[[Awaitable[Any]], object],
        snapshot_bytes: int = SNAPSHOT_BYTES,
        origin: Origin[S] | None = None,
    ):
        self._log = states_log
        self._origin = origin
        self._make = make
        self._track = track
        self._least = snapshot_bytes
        self._held: dict[int, Held[S]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._assigned: frozenset[int] = frozenset()
        self._rebalances = 0
        self._truncations: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """The topic of the log."""
        return self._log.name

    # -- owning ----------------------------------------------------------------------------------

    def revoke(self) -> None:
        """Partitions are about to move: nothing is owned until `assign`."""
        self._rebalances += 1
        self._assigned = frozenset()

    def assign(self, partitions: Iterable[int]) -> None:
        """These partitions are owned now; the states of all others are dropped."""
        self._rebalances += 1
        self._assigned = frozenset(partitions)
        for partition in self._held.keys() - self._assigned:
            del self._held[partition]

    async def restore(self) -> None:
        """Restore what is owned, so that timers see it before messages come."""
        while missing := self._assigned - self.owned().keys():
            await self.get(min(missing))

    def owned(self) -> dict[int, S]:
        """The restored states of the partitions owned now: what a timer may look at."""
        return {
            partition: held.state
            for partition, held in sorted(self._held.items())
            if partition in self._assigned and self._is_verified(held)
        }

    def unrestored(self) -> int:
        """How many of the partitions owned have no restored state yet."""
        return len(self._assigned - self.owned().keys())

    # -- reading ---------------------------------------------------------------------------------

    def held(self, partition: int) -> S | None:
        """The state in memory, also while partitions move; None if there is none."""
        held = self._held.get(partition)
        return None if held is None else held.state

    async def get(self, partition: int) -> S:
        """The state, restored from its log if this worker has just got the partition."""
        held = self._held.get(partition)
        if held is not None and self._is_verified(held):
            return held.state
        async with self._locks[partition]:
            now = self._rebalances
            held = self._held.get(partition)
            # It may have been verified while this task waited: then a handler may have it, and must
            # not have it replaced by what the log held a while ago.
            if held is None or not (self._is_verified(held) or await self._stands(partition, held)):
                held = self._held[partition] = await self._restore(partition)
            held.verified = now
            return held.state

    def _is_verified(self, held: Held[S]) -> bool:
        return held.verified == self._rebalances

    async def _stands(self, partition: int, held: Held[S]) -> bool:
        """Whether nobody else has written to the log of a state that is held."""
        if held.latest is not None:
            await held.latest
        return await self._log.end(partition) == held.position

    async def _restore(self, partition: int) -> Held[S]:
        replay = StateFold(lambda: self._make(partition))
        start, end = await self._log.replay(partition, replay)
        if start > 0 and replay.first is None:
            raise StateLostError(
                f"{self._log.name}[{partition}] begins at offset {start} without a whole snapshot: "
                f"rebuild the tables of this stage"
            )
        if replay.first is not None and replay.first > start:
            self._truncate_later(partition, replay.first)
        held = Held(
            replay.state,
            replay.head,
            replay.base,
            position=end,
            saved=replay.state.applied,
            snapshot_bytes=replay.snapshot_bytes,
            change_bytes=replay.change_bytes,
        )
        if end == 0 and self._origin is not None and await self._origin(partition, held.state):
            held.saved = held.state.applied
            self._append_snapshot(partition, held)
        return held

    # -- writing ---------------------------------------------------------------------------------

    async def save(self, partition: int, *, whole: bool = False) -> None:
        """Append what has changed to the log; `Context.flush` then waits for it.

        Now and then the whole state is appended too, and the log truncated before it; with
        ``whole`` now. FencedError if the partition has left this worker.
        """
        held = self._held.get(partition)
        if held is None:
            raise FencedError(f"{self._log.name}[{partition}] has left this worker")
        applied = held.state.applied
        if applied != held.saved:
            entry = change(held.state.changes(), held.base, held.saved, applied, held.head)
            self._append(partition, held, entry)
            held.saved = applied
            held.change_bytes += entry.size
        if whole or held.change_bytes > max(self._least, 2 * held.snapshot_bytes):
            self._append_snapshot(partition, held)

    def _append_snapshot(self, partition: int, held: Held[S]) -> None:
        first = held.position
        entry = snapshot(list(held.state.snapshot()), held.base, held.saved, held.head)
        self._append(partition, held, entry)
        held.base, held.snapshot_bytes, held.change_bytes = entry.id, entry.size, 0
        if first > 0:
            self._truncate_later(partition, first, after=held.latest)

    def _append(self, partition: int, held: Held[S], entry: Entry) -> None:
        held.head = entry.id
        for value, headers in to_records(entry):
            delivery = self._log.append(partition, value, headers)
            arrival = asyncio.ensure_future(self._arrive(partition, held.position, delivery))
            held.position += 1
            held.latest = arrival
            self._track(arrival)

    async def _arrive(self, partition: int, expected: int, delivery: Awaitable[int]) -> None:
        offset = await delivery
        if offset != expected:
            raise FencedError(
                f"{self._log.name}[{partition}]: a record got offset {offset} instead of "
                f"{expected}, so another worker has written here"
            )

    def _truncate_later(
        self, partition: int, offset: int, after: Awaitable[None] | None = None
    ) -> None:
        """Truncate in the background; where that fails the log is longer, till the next time."""

        async def truncate() -> None:
            try:
                if after is not None:
                    await after
                await self._log.truncate(partition, offset)
            except Exception as error:
                log.warning("%s[%d] was not truncated: %s", self._log.name, partition, error)

        task = asyncio.ensure_future(truncate())
        self._truncations.add(task)
        task.add_done_callback(self._truncations.discard)
