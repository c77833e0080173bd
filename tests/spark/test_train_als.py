"""Real ALS on a checkerboard, whose answer is known, and what a generation publishes."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pyspark.sql import SparkSession

from jobs import train_als, write_delta
from jobs.core import list_training
from jobs.core.evaluation import factors
from jobs.core.interactions import Interactions, from_totals
from jobs.generations import Generation
from jobs.train_als import Trainer, fit
from jobs.write_delta import table_path
from streams.kafka.log_reader import read_all
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.recommendation.core.foldin import fold_in, gram
from streams.recommendation.core.model_records import read_ranker
from topology.model import Graph
from topology.settings import Settings

pytestmark = [pytest.mark.spark, pytest.mark.broker]

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def checkerboard(listeners: int = 24, episodes: int = 16) -> pl.DataFrame:
    """Even listeners hear even episodes, odd ones odd; each has skipped one in seven."""
    return pl.DataFrame(
        [
            {
                "user_id": f"u{u:02}", "episode_id": f"e{e:02}", "heard_ms": 1_200_000,
                "plays": 1, "completes": 1, "likes": 0, "dislikes": 0,
                "last_at": START + dt.timedelta(hours=(u * 5 + e * 3) % 24),
            }
            for u in range(listeners)
            for e in range(episodes)
            if u % 2 == e % 2 and (u + e // 2) % 7
        ]
    )  # fmt: skip


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"als_rank": 4, "als_iterations": 8, "als_min_new": 50})


@pytest.fixture
def pairs() -> Interactions:
    return from_totals(checkerboard())


def test_the_checkerboard_is_learned_twice_alike_and_fold_in_agrees(
    spark: Any, small: Any, pairs: Any
) -> None:
    learned = fit(spark, small, pairs)
    again = fit(spark, small, pairs)
    assert np.array_equal(learned.items, again.items)
    assert np.array_equal(learned.users, again.users)
    scores = factors(learned.users, learned.items)(np.arange(len(pairs.users)))
    same = np.equal.outer(np.arange(24) % 2, np.arange(16) % 2)
    assert scores[same].min() > 3 * max(0.0, scores[~same].max())
    assert np.median(scores[same]) > 0.8
    history = [
        (learned.items[pairs.item[pairs.user == user]], pairs.strength[pairs.user == user])
        for user in range(len(pairs.users))
    ]
    folded = fold_in(
        gram(learned.items), history,
        alpha=small.als_alpha, regularization=small.als_regularization,
    )  # fmt: skip
    assert folded @ learned.items.T == pytest.approx(scores, abs=0.02)


def append_checkerboard(
    spark: SparkSession, path: str, partition: int = 0, offset: int = 10**6, listeners: int = 24
) -> None:
    daily = checkerboard(listeners).with_columns(
        day=pl.lit(START.date()), first_at="last_at", impressions=0, clicks=0,
        duration_ms=0, share=pl.lit(None, pl.Float64),
        source_partition=pl.lit(partition, pl.Int32), applied_offset=pl.lit(offset),
    )  # fmt: skip
    table = spark.read.format("delta").load(path)
    rows = daily.select(table.columns).rows()
    spark.createDataFrame(rows, table.schema).write.format("delta").mode("append").save(path)


def test_a_training_outlasts_the_files_that_it_was_made_of(
    spark: SparkSession, small: Settings, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_delta.create_tables(graph, small)
    path = table_path(small, train_als.TABLE)
    append_checkerboard(spark, path, partition=1)  # the broker keeps generations of other tests

    def long(*args: Any) -> Any:
        """Hours later, the table has been written anew and vacuumed."""
        for file in Path(path).rglob("*.parquet"):
            file.unlink()
        return fit(*args)

    monkeypatch.setattr(train_als, "fit", long)
    generation = Trainer(spark, small, graph).look()
    assert generation is not None
    assert generation.offsets == {1: 10**6}
    assert not list(Path(path).rglob("*.parquet"))


def test_a_generation_is_published_once_and_not_again_without_news(
    spark: SparkSession, small: Settings, graph: Graph
) -> None:
    write_delta.create_tables(graph, small)
    path = table_path(small, train_als.TABLE)
    trainer = Trainer(spark, small, graph)
    assert trainer.look() is None  # an empty table
    append_checkerboard(spark, path)
    generation = trainer.look()
    assert generation is not None
    assert generation.metrics["als"]["ndcg_at_10"] > generation.metrics["popularity"]["ndcg_at_10"]
    assert trainer.look() is None
    assert Trainer(spark, small, graph).look() is None  # also after a restart

    found = records_of(small, graph, generation.name)
    (record,) = found["model-generations"]
    assert record["offsets"] == [{"source_partition": 0, "offset": 10**6}]
    assert (record["items"], record["users"]) == (16, 24)
    mine = {f["episode_id"]: f["vector"] for f in found["item-factors"]}
    assert len(mine) == len(found["item-factors"]) == 16
    published = np.frombuffer(mine["e03"], dtype="<f4")
    assert np.array_equal(published, generation.items[3])
    figures = {(m["model"], m["metric"]): m["value"] for m in found["model-metrics"]}
    assert figures["als", "ndcg_at_10"] == generation.metrics["als"]["ndcg_at_10"]
    assert ("popularity", "recall_at_10") in figures
    assert ("item_item", "ndcg_at_10") in figures
    lists = generation.lists
    assert record["unranked_because"] == lists.unranked_because
    assert figures["two_stage", "ndcg_at_10"] == generation.metrics["two_stage"]["ndcg_at_10"]
    assert lists.ranker is not None, lists.unranked_because
    assert record["neighbours"] == len(found["item-neighbours"]) == 16
    [ranker] = found["rankers"]
    assert all(
        np.array_equal(one, other)
        for one, other in zip(read_ranker(ranker), lists.ranker, strict=True)
    )


def records_of(
    settings: Settings, graph: Graph, generation: str
) -> dict[str, list[dict[str, Any]]]:
    """What the topics hold of a generation."""
    wire = Wire(graph, open_registry(settings))
    topics = ["item-factors", "item-neighbours", "rankers", "model-generations", "model-metrics"]
    found: dict[str, list[Any]] = {topic: [] for topic in topics}

    def apply(messages: list[Any]) -> None:
        for message in messages:
            record = wire.decode(message.topic, message.value)
            if record["generation"] == generation:
                found[message.topic].append(record)

    read_all(settings.kafka_bootstrap_servers, topics, apply)
    return found


def test_a_generation_that_is_worse_or_has_numbers_that_are_none_is_refused(
    spark: SparkSession, small: Settings, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_training, "FEWEST_LISTS", 10**6)  # lists are by the factors alone
    write_delta.create_tables(graph, small)
    path = table_path(small, train_als.TABLE)
    trainer = Trainer(spark, small, graph)
    generations: list[Generation] = []

    def train() -> Generation:
        offset = 2 * 10**6 + len(generations)
        append_checkerboard(spark, path, partition=2, offset=offset, listeners=48)
        made = trainer.look()
        assert made is not None
        generations.append(made)
        return made

    def scrambled(*args: Any) -> Any:
        learned = fit(*args)
        return replace(learned, users=learned.users[::-1])

    def spoiled(*args: Any) -> Any:
        learned = fit(*args)
        learned.items[3, 0] = np.nan
        return learned

    # the broker has generations of other tests, which may be of the same second
    sound = train()
    assert sound.worth is not None
    assert sound.worth.model == "als"
    reasons = {}
    for how in (scrambled, spoiled):
        monkeypatch.setattr(train_als, "fit", how)
        refused = train()
        reasons[how.__name__] = refused.refused_because
        found = records_of(small, graph, refused.name)
        [record] = found.pop("model-generations")
        assert record["refused_because"] == refused.refused_because
        assert record["offsets"] == [{"source_partition": 2, "offset": refused.offsets[2]}]
        assert bool(found.pop("model-metrics")) == (how is scrambled)
        assert not any(found.values())
    assert "1 of 16 factors with numbers that are not finite" in reasons["spoiled"]
    assert f"it had {sound.worth.ndcg:.4f}" in reasons["scrambled"]
    monkeypatch.setattr(train_als, "fit", fit)
    trainer = Trainer(spark, small, graph)  # what was refused is no yardstick for it either
    good = train()
    assert good.refused_because == ""
    assert good.slot != sound.slot  # which can serve again
    again = records_of(small, graph, sound.name)["item-factors"]
    assert len(again) == len(records_of(small, graph, good.name)["item-factors"]) == 16
    assert good.name > max(one.name for one in generations[:-1])
