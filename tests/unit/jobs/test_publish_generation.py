"""What a generation that was trained is told by, and in which order."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from jobs.core.interactions import Interactions
from jobs.core.list_training import ListTraining
from jobs.generations import Generation, publish
from streams.recommendation.core.item_model import FEATURES, TABLES, ItemModel
from streams.recommendation.core.ranker import Ranker
from topology.settings import Settings


class Output:
    """The records that are delivered together, by topic, in the order of the deliveries."""

    def __init__(self) -> None:
        self.delivered: list[dict[str, list[dict[str, Any]]]] = [{}]
        self.keys: set[str] = set()

    def send(self, topic: str, record: dict[str, Any] | None, key: str) -> None:
        assert record is not None
        self.keys.add(key)
        self.delivered[-1].setdefault(topic, []).append(record)

    def flush(self) -> None:
        self.delivered.append({})


def published(
    lists: ListTraining, out: Output | None = None, **more: Any
) -> list[dict[str, list[dict[str, Any]]]]:
    place, at_ms = np.ones(1, np.int32), np.ones(1, np.int64)
    weight = np.ones(1, np.float32)
    pairs = Interactions(np.array(["u"]), np.array(["e"]), place, place, weight, at_ms)
    at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    one = {"ndcg_at_10": 0.5, "ndcg_at_10_error": 0.1, "listeners": 1.0}
    figures = {"als": one, "two_stage": one, "popularity": {"ndcg_at_10": 0.1}}
    factors = np.ones((1, 2), np.float32)
    out = out or Output()
    publish(
        out, Settings(), Generation("g", at, 1.0, pairs, factors, lists, figures, {0: 9}, **more)
    )
    return out.delivered


def test_a_generation_is_announced_only_once_all_that_belongs_to_it_is_delivered() -> None:
    one, wide = np.ones(1, np.float32), np.ones(len(FEATURES), np.float32)
    no_neighbours = np.zeros((1, 0), np.int32), np.zeros((1, 0, len(TABLES)), np.float32)
    at_ms = np.ones(1, np.int64)
    model = ItemModel(*no_neighbours, one, one, at_ms, at_ms, np.zeros(1, np.int64))
    ranker = Ranker(wide, wide, np.ones((len(FEATURES) + 1, 1), np.float32), one, one)
    first, last, rest = published(ListTraining(model, ranker))
    assert set(first) == {"item-factors", "item-neighbours", "rankers", "model-metrics"}
    assert not rest
    [announced] = last["model-generations"]
    assert (announced["neighbours"], announced["unranked_because"]) == (1, "")


def test_a_generation_without_a_ranker_says_why() -> None:
    first, last, _ = published(ListTraining(unranked_because="too little"))
    assert set(first) == {"item-factors", "model-metrics"}
    [announced] = last["model-generations"]
    assert (announced["neighbours"], announced["unranked_because"]) == (0, "too little")


def test_the_records_of_another_slot_leave_those_of_the_first_alone() -> None:
    first, second = Output(), Output()
    published(ListTraining(), first)
    published(ListTraining(), second, slot=2)
    assert "e" in first.keys
    assert "e\x1f2" in second.keys
    assert "e" not in second.keys
    [announced] = second.delivered[1]["model-generations"]
    assert announced["slot"] == 2


def test_of_a_refused_generation_the_log_has_the_figures_and_why_and_nothing_to_serve() -> None:
    first, last, _ = published(ListTraining(), refused_because="worse")
    assert set(first) == {"model-metrics"}
    [announced] = last["model-generations"]
    assert (announced["neighbours"], announced["refused_because"]) == (0, "worse")
    assert announced["judged"]["popularity"] == 0.1
    assert announced["offsets"] == [{"source_partition": 0, "offset": 9}]
