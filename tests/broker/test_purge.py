"""Derived topics are purged behind the slowest of their readers, and keep their newest record."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from schemas.units import DAY_MS
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from streams.kafka.purge import Reached, commit, committed, purge
from tests.broker.workers import instance
from topology.graph import app_id, build_graph
from topology.model import Graph
from topology.settings import Settings
from topology.topics.engagement import LATE_EVENTS
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

BATCHES = USER_EVENT_BATCHES.name


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("purge")) as settings:
        yield settings


def _write(settings: Settings, topic: str, partition: int, count: int, age_ms: int) -> None:
    writer = producer(settings.kafka_bootstrap_servers)
    at = time.time_ns() // 1_000_000 - age_ms
    for number in range(count):
        writer.produce(topic, str(number).encode(), partition=partition, timestamp=at)
    assert writer.flush(30) == 0


def _bounds(settings: Settings, topic: str, partition: int) -> tuple[int, int]:
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        return logs.bounds(topic, partition)


def _readers(graph: Graph) -> list[str]:
    return [app_id(stage) for stage in graph.stages.values() if BATCHES in stage.consumes]


def _spark(partition: int, offset: int) -> Reached:
    return {"write_delta": {BATCHES: {partition: offset}}}


def test_records_go_once_every_stage_has_read_them(settings: Settings) -> None:
    graph = build_graph(settings.event_partitions)
    for topic in (BATCHES, USER_EVENTS.name, LATE_EVENTS.name):
        _write(settings, topic, 0, 10, DAY_MS)
    _write(settings, BATCHES, 0, 5, 0)
    *quick, slow = _readers(graph)
    for group in quick:
        commit(settings, group, {BATCHES: {0: 15}})
    assert purge(settings, graph, _spark(0, 15)) == {}, "one has read nothing"

    commit(settings, slow, {BATCHES: {0: 4}})
    assert purge(settings, graph, {}) == {}, "what Spark committed in another run tells nothing"
    assert purge(settings, graph, _spark(1, 15)) == {}, "nor does another partition"
    assert purge(settings, graph, _spark(0, 3)) == {BATCHES: 3}
    assert purge(settings, graph, _spark(0, 15)) == {BATCHES: 1}
    commit(settings, slow, {BATCHES: {0: 15}})
    assert purge(settings, graph, _spark(0, 15)) == {BATCHES: 6}, "the others are too young"

    assert _bounds(settings, BATCHES, 0) == (10, 15)
    assert _bounds(settings, USER_EVENTS.name, 0) == (0, 10), "the source stays"
    assert committed(settings, slow, graph.topics[BATCHES]) == {0: 15}


def test_the_newest_record_stays_however_old_it_is(settings: Settings) -> None:
    graph = build_graph(settings.event_partitions)
    _write(settings, BATCHES, 1, 3, DAY_MS)
    for group in _readers(graph):
        commit(settings, group, {BATCHES: {1: 3}})
    purge(settings, graph, _spark(1, 3))
    assert _bounds(settings, BATCHES, 1) == (2, 3)
