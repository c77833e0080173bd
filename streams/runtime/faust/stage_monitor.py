"""What a stage on Faust tells of its work: counts by batch, and whether it is ready."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from streams.kafka.message import Message
from streams.monitoring.instruments import Family, counter, family, histogram
from topology.model import Stage
from topology.monitoring.metrics import (
    STAGE_DEAD_LETTERS,
    STAGE_HANDLING,
    STAGE_LATENCY,
    STAGE_PARTITIONS,
    STAGE_READY,
    STAGE_RECORDS,
    STAGE_UNREAD,
    STAGE_VERSION,
)

BEHIND_S = 60.0
"""A stage with unread records keeps up as long as what it handled last was no older than this."""

ANSWER_S = 5.0

T = TypeVar("T")


class StageMonitor:
    """What one stage has done in this process, and what it was last seen to have unread."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.unread = 0
        """Records not fetched yet, as the watchdog saw it last."""
        self._age_s: float | None = None

    def handler(self, topic: str) -> Callable[[Sequence[Message], float, float], None]:
        """What is to be called with each batch of a topic once it is done, with the seconds it took
        and the time, in Unix seconds."""
        labels = (self.stage.name, topic)
        records = counter(STAGE_RECORDS).labels(*labels)
        handling = histogram(STAGE_HANDLING).labels(*labels)
        latency = histogram(STAGE_LATENCY).labels(*labels)

        def handled(messages: Sequence[Message], took_s: float, now: float) -> None:
            records.inc(len(messages))
            handling.observe(took_s)
            # In the order of arrival: the first has waited longest.
            if messages[0].timestamp_ms > 0:
                latency.observe(max(0.0, now - messages[0].timestamp_ms / 1000))
            self._age_s = now - messages[-1].timestamp_ms / 1000

        return handled

    def dead_letter(self, topic: str) -> None:
        """Count a record that was put aside."""
        counter(STAGE_DEAD_LETTERS).labels(self.stage.name, topic).inc()

    def behind(self) -> str | None:
        """A sentence, if the stage does not keep up."""
        if not self.unread or (self._age_s is not None and self._age_s <= BEHIND_S):
            return None
        age = "it has handled nothing yet" if self._age_s is None else f"{self._age_s:.0f} s behind"
        return f"{self.stage.name} has {self.unread} records to read: {age}"


class Watched(Protocol):
    """A stage that runs in this process."""

    monitor: StageMonitor

    def missing(self) -> list[str]:
        """What it does not have yet to be ready, in sentences."""

    def partitions_owned(self) -> int:
        """How many source partitions it owns."""


@dataclass(frozen=True)
class WorkerMonitor:
    """The stages of a worker, asked from other threads than that of their event loop."""

    loop: asyncio.AbstractEventLoop
    stages: Sequence[Watched]

    def alive(self) -> list[str]:
        """A sentence, if the event loop does not turn."""
        return ["the event loop stands still"] if self._ask(lambda: True) is None else []

    def missing(self) -> list[str]:
        """What is missing for the worker to be ready, in sentences."""
        found = self._ask(lambda: [said for stage in self.stages for said in stage.missing()])
        return ["the event loop stands still"] if found is None else found

    def families(self) -> Iterable[Family]:
        """The metrics of the stages that are measured when somebody asks."""
        return self._ask(self._families) or ()

    def _families(self) -> list[Family]:
        of = {stage.monitor.stage.name: stage for stage in self.stages}
        return [
            family(STAGE_READY, {(name,): not one.missing() for name, one in of.items()}),
            family(STAGE_VERSION, {(name,): one.monitor.stage.version for name, one in of.items()}),
            family(STAGE_PARTITIONS, {(name,): one.partitions_owned() for name, one in of.items()}),
            family(STAGE_UNREAD, {(name,): one.monitor.unread for name, one in of.items()}),
        ]

    def _ask(self, call: Callable[[], T]) -> T | None:
        """What ``call`` gives on the event loop; None if it does not turn."""

        async def body() -> T:
            return call()

        asked = asyncio.run_coroutine_threadsafe(body(), self.loop)
        try:
            return asked.result(ANSWER_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            asked.cancel()
            return None
