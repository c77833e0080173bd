"""The same minutes in bytewax: keyed by episode, tumbling windows in memory, no recovery store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, count_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from outcome import BOOTSTRAP, TOPIC, Outcome, decoder

outcome, counts, decode = Outcome(), {}, decoder()


class Counts(StatelessSinkPartition[Any]):
    """Keeps the newest count of each window."""

    def write_batch(self, items: list[Any]) -> None:
        """Take over counts."""
        for episode, (window, count) in items:
            counts[episode, window] = count


class Sink(DynamicSink[Any]):
    """One place for the counts of all workers."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Counts:
        """The place of one worker."""
        return Counts()


def event_of(message: Any) -> dict[str, Any]:
    """The event in a message."""
    outcome.note()
    return decode(message.value)


flow = Dataflow("live_tables")
messages = op.input("in", flow, KafkaSource([BOOTSTRAP], [TOPIC], tail=False, batch_size=10_000))
windows = count_window(
    "minutes",
    op.map("decode", messages, event_of),
    EventClock(
        lambda event: datetime.fromtimestamp(event["occurred_at"] / 1000, UTC),
        wait_for_system_duration=timedelta(minutes=15),
    ),
    TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2024, 1, 1, tzinfo=UTC)),
    lambda event: event["episode_id"],
)
op.output("out", windows.down, Sink())
run_main(flow)
outcome.report(sum(counts.values()))
