"""What a stage tells of its work: counts by batch, and whether it keeps up."""

from __future__ import annotations

from streams.kafka.message import Message
from streams.monitoring.instruments import REGISTRY
from streams.runtime.faust.stage_monitor import BEHIND_S, StageMonitor
from topology.graph import build_graph
from topology.monitoring.metrics import STAGE_HANDLING, STAGE_LATENCY, STAGE_RECORDS

STAGE = build_graph(1).stages["rank_trending"]
TOPIC = STAGE.consumes[0]
NOW = 1_800_000_000.0


def batch(*ages_s: float) -> list[Message]:
    return [
        Message(TOPIC, 0, n, None, b"", int((NOW - age) * 1000)) for n, age in enumerate(ages_s)
    ]


def test_a_batch_is_counted_once_by_the_age_of_its_oldest_record() -> None:
    handled = StageMonitor(STAGE).handler(TOPIC)
    labels = {"stage": STAGE.name, "topic": TOPIC}

    def value(name: str, **more: str) -> float:
        return REGISTRY.get_sample_value(name, {**labels, **more}) or 0.0

    before = value(STAGE_RECORDS.name)
    handled(batch(4.0, 0.2, 0.1), 0.05, NOW)
    assert value(STAGE_RECORDS.name) - before == 3
    assert value(f"{STAGE_LATENCY.name}_bucket", le="2.5") == 0
    assert value(f"{STAGE_LATENCY.name}_bucket", le="5.0") == 1
    assert value(f"{STAGE_HANDLING.name}_bucket", le="0.1") == 1
    handled([Message(TOPIC, 0, 9, None, b"")], 0.05, NOW)  # the log does not say how old it is
    assert value(f"{STAGE_LATENCY.name}_count") == 1


def test_a_stage_keeps_up_while_what_it_handled_last_is_young_or_nothing_is_left() -> None:
    monitor = StageMonitor(STAGE)
    handled = monitor.handler(TOPIC)
    assert monitor.behind() is None
    monitor.unread = 7
    assert monitor.behind() == "rank_trending has 7 records to read: it has handled nothing yet"
    handled(batch(2 * BEHIND_S, BEHIND_S - 1), 0.05, NOW)
    assert monitor.behind() is None
    handled(batch(BEHIND_S + 10), 0.05, NOW)
    assert monitor.behind() == f"rank_trending has 7 records to read: {BEHIND_S + 10:.0f} s behind"
    monitor.unread = 0
    assert monitor.behind() is None
