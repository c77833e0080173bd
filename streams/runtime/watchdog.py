"""Ends a worker that lives but no longer works, so that its supervisor starts it again.

Two ways of standing still are known: a consumer that does not fetch any more after a rebalance,
and an event loop that does not turn. A stage that waits for an outside store is not standing
still: it has taken messages and not given them back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Protocol

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.kafka.clients import end_process
from topology.access import admin_client

log = logging.getLogger(__name__)

STALL_S = 30.0
"""Longest that a stage may leave records unread while it has nothing else to do."""

REBALANCE_S = 120.0
"""The same while its group is rebalanced, which waits for the slowest member."""

LOOK_EVERY_S = 5.0
ANSWER_S = 10.0
LOOP_STALL_S = 60.0
"""Longest that the event loop may not turn; its session at the broker is over long before."""

Place = tuple[str, int]


class Fetching(Protocol):
    """What a watchdog wants to know of a consumer."""

    @property
    def name(self) -> str:
        """The stage."""

    def busy(self) -> bool:
        """Whether messages have been taken that are not finished."""

    def rebalancing(self) -> bool:
        """Whether partitions are being divided anew."""

    def progress(self) -> Hashable:
        """Anything that changes as work goes on."""

    async def positions(self) -> Mapping[Place, int]:
        """The offset to be read next of each partition owned."""


class StallDetector:
    """Says for how long nothing has moved although there is something to read."""

    def __init__(self) -> None:
        self._since = 0.0
        self._seen: Hashable = None

    def stalled_s(self, now: float, waiting: bool, seen: Hashable) -> float:
        """Tell what is to be seen at ``now``, seconds; ``waiting``: idle with records unread."""
        if not waiting or seen != self._seen:
            self._since, self._seen = now, seen
        return now - self._since


async def watch_fetching(
    bootstrap_servers: str, consumer: Fetching, unread_seen: Callable[[int], None]
) -> None:
    """End the process when ``consumer`` has stopped fetching.

    ``unread_seen`` is told how many records of its partitions it has not fetched yet.
    """
    detector = StallDetector()
    known: Mapping[Place, int] = {}
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            known = await asyncio.wait_for(consumer.positions(), ANSWER_S)
        except Exception as error:
            log.warning("%s: its consumer does not say where it is: %r", consumer.name, error)
        ends = await _ends(bootstrap_servers, tuple(known))
        unread = {place: end - known[place] for place, end in ends.items() if end > known[place]}
        unread_seen(sum(unread.values()))
        seen = (tuple(sorted(known.items())), consumer.progress())
        waiting = bool(unread) and not consumer.busy()
        stalled_s = detector.stalled_s(time.monotonic(), waiting, seen)
        if stalled_s >= (REBALANCE_S if consumer.rebalancing() else STALL_S):
            end_process(
                f"stage {consumer.name} has read nothing for {stalled_s:.0f} s although "
                f"{len(unread)} of its partitions have more; the worker ends"
            )


async def _ends(bootstrap_servers: str, places: tuple[Place, ...]) -> dict[Place, int]:
    """The end of each partition by a client of our own; none while the broker is away."""
    if not places:
        return {}
    latest = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    asked = _admin(bootstrap_servers).list_offsets(latest, request_timeout=ANSWER_S)
    try:
        return {
            (part.topic, part.partition): (await asyncio.wrap_future(answer)).offset
            for part, answer in asked.items()
        }
    except KafkaException as error:
        log.warning("the broker does not say where topics end: %s", error)
        return {}


@cache
def _admin(bootstrap_servers: str) -> AdminClient:
    return admin_client(bootstrap_servers)


async def watch_event_loop() -> None:
    """Beat once a second; a thread ends the process when the beat stops."""
    beats = 0
    stopped = threading.Event()

    def listen() -> None:
        heard, silent_s = 0, 0
        # Seconds are counted, so that none passes while the whole machine sleeps.
        while not stopped.wait(1.0):
            silent_s = silent_s + 1 if heard == beats else 0
            heard = beats
            if silent_s > LOOP_STALL_S:
                end_process(f"the event loop has stood still for {silent_s} s; the worker ends")

    threading.Thread(target=listen, name="watchdog", daemon=True).start()
    try:
        while True:
            beats += 1
            await asyncio.sleep(0.5)
    finally:
        stopped.set()
