"""What fails of the Spark application, is told and tried again, while the rest goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs import attempts, train_als, write_delta
from jobs.attempts import ENDED, Attempts
from jobs.core import backoff
from streams.kafka.log_reader import read_all
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from tests.waiting import wait_until
from topology.model import Graph
from topology.settings import Settings

pytestmark = pytest.mark.spark


@pytest.fixture
def told(settings: Settings, graph: Graph) -> Callable[[], dict[str, Any] | None]:
    """The newest that `stage-failures` says of the training."""
    wire = Wire(graph, open_registry(settings))

    def newest() -> dict[str, Any] | None:
        found: list[Any] = []
        read_all(settings.kafka_bootstrap_servers, [attempts.TOPIC], found.extend)
        mine = [message.value for message in found if message.key == train_als.STAGE.encode()]
        return wire.decode(attempts.TOPIC, mine[-1]) if mine and mine[-1] else None

    return newest


def test_a_training_that_fails_is_told_and_tried_again(
    spark: SparkSession,
    settings: Settings,
    graph: Graph,
    told: Callable[[], dict[str, Any] | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.5)
    stopping = threading.Event()
    trainer = train_als.start(spark, settings, graph, stopping)  # there is no table to read yet
    try:

        def failed_twice() -> bool:
            record = told()
            return record is not None and record["attempts"] >= 2 and bool(record["error"])

        wait_until(failed_twice, 60, "two failures told")
        write_delta.create_tables(graph, settings)
        wait_until(lambda: told() is None, 60, "the failures forgotten")
        assert trainer.is_alive()
    finally:
        stopping.set()
        trainer.join(30)


def test_an_attempt_that_took_the_process_with_it_is_waited_for_by_the_next(
    settings: Settings, graph: Graph, told: Callable[[], dict[str, Any] | None]
) -> None:
    stage = graph.stages[train_als.STAGE]
    before = Attempts(settings, graph, stage)
    assert before.due_s() == 0
    before.begin()  # and the process dies
    after = Attempts(settings, graph, stage)
    assert 0 < after.due_s() <= backoff.FIRST_S
    record = told()
    assert record is not None
    assert (record["attempts"], record["error"]) == (1, ENDED)
    after.begin()
    after.interrupted()  # told to stop: that is no failure
    record = told()
    assert record is not None
    assert (record["attempts"], record["error"]) == (1, ENDED)
    after.begin()
    after.succeeded()
    assert told() is None
    assert Attempts(settings, graph, stage).due_s() == 0
