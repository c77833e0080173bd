"""What a generation that was trained is told by, and in which order."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from jobs.core.interactions import Interactions
from jobs.train_als import Generation, Trainer
from topology.settings import Settings


class Output:
    """The topics that are delivered together, in the order of the deliveries."""

    def __init__(self) -> None:
        self.delivered: list[set[str]] = [set()]

    def send(self, topic: str, record: dict[str, Any], key: str) -> None:
        self.delivered[-1].add(topic)

    def flush(self) -> None:
        self.delivered.append(set())


def test_a_generation_is_announced_only_once_all_that_belongs_to_it_is_delivered() -> None:
    place, at_ms = np.ones(1, np.int32), np.ones(1, np.int64)
    weight = np.ones(1, np.float32)
    pairs = Interactions(np.array(["u"]), np.array(["e"]), place, place, weight, at_ms)
    at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    figures = {"als": {"ndcg": 0.5}, "popularity": {"ndcg": 0.1}}
    trainer = Trainer.__new__(Trainer)  # publishing asks for no session and no history
    trainer._settings, trainer._output = Settings(), Output()  # type: ignore[assignment]
    trainer._publish(Generation("g", at, 1.0, pairs, np.ones((1, 2), np.float32), figures, {0: 9}))
    delivered = trainer._output.delivered  # type: ignore[attr-defined]
    assert delivered == [{"item-factors", "model-metrics"}, {"model-generations"}, set()]
