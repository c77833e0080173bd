"""A broker that fails while topics are purged ends nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from jobs import housekeeping
from jobs.housekeeping import Housekeeping
from topology.graph import build_graph
from topology.settings import Settings


@pytest.mark.parametrize("error", [TimeoutError(), KafkaException(KafkaError(-195))])
def test_a_broker_that_fails_is_asked_again_later(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Housekeeping):
        runs = 0

        def run(self, queries: Sequence[Any]) -> dict[str, int]:
            self.runs += 1
            raise error

    elsewhere = Settings(spark_master="spark://nowhere:7077")
    monkeypatch.setattr(housekeeping, "EVERY_S", 0)
    keeping = Failing(elsewhere, build_graph(2))
    with caplog.at_level(logging.WARNING):
        keeping.tick([])
        keeping.tick([])
    assert keeping.runs == 2
    assert "not everything was purged" in caplog.text
