"""Stage `train_als`: implicit ALS, neighbours and a ranker on the Delta history, as a generation.

Every `ALS_INTERVAL` seconds it looks for listener-episode-days counted since the newest generation
(they carry the source offset up to which they were counted, and a generation carries the offsets
it has seen, so this also holds across restarts) and trains when there are enough. A training is a
function of the data and the seed: ids are numbered in sorted order and the input is one partition.
A generation that is refused leaves its record, which says why and what it has seen, and nothing
that lists could be made with.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable as DeltaLog
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.attempts import Attempts
from jobs.core.acceptance import POPULARITY, Past, Worth, check_lists, check_training, worse
from jobs.core.evaluation import evaluate, factors, popularity
from jobs.core.generation_names import next_name
from jobs.core.interactions import Interactions, from_totals, time_split, trainable
from jobs.core.list_training import CUTS, DECISIVE, ListTraining, Metrics, train_lists
from jobs.core.ranking import lessons
from jobs.generations import SEED, Generation, publish
from jobs.output import Output
from jobs.write_delta import table_path
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.recommendation.core import item_model
from streams.recommendation.core.catalogue import MODEL
from streams.recommendation.core.foldin import gram
from streams.recommendation.core.soundness import UnsoundError
from topology.graph import UndeclaredError, check_reads
from topology.model import Graph, Stage, Topic
from topology.settings import Settings
from topology.topics.operations import SERVED_GENERATION
from topology.topics.recommendation import GENERATION_REFUSALS, MODEL_GENERATIONS

log = logging.getLogger(__name__)

STAGE = "train_als"
TABLE = "user_vs_episode_daily"
_BLOCKS = 2
_FIRST_LOOKS_S = 5.0


@dataclass(frozen=True)
class Factors:
    """Vectors of listeners (n, rank) and episodes (m, rank) by their index; NaN: it has none."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]

    def of_items(self, settings: Settings) -> item_model.Factors:
        """Those of the episodes, zeros where there are none."""
        vectors = np.nan_to_num(self.items)
        return item_model.Factors(
            vectors, gram(vectors), settings.als_alpha, settings.als_regularization
        )


def fit(spark: SparkSession, settings: Settings, pairs: Interactions) -> Factors:
    """Train ALS, by the settings, on the pairs; who has no positive pair gets no vector."""
    pairs = trainable(pairs)
    table = pa.table({"user": pairs.user, "item": pairs.item, "strength": pairs.strength})
    als = ALS(
        userCol="user",
        itemCol="item",
        ratingCol="strength",
        rank=settings.als_rank,
        maxIter=settings.als_iterations,
        regParam=settings.als_regularization,
        implicitPrefs=True,
        alpha=settings.als_alpha,
        seed=SEED,
        numUserBlocks=_BLOCKS,
        numItemBlocks=_BLOCKS,
        coldStartStrategy="drop",
        checkpointInterval=10,
    )
    ratings = spark.createDataFrame(table).coalesce(1)  # the order of a shuffle's input counts
    model = als.fit(ratings)
    return Factors(
        _vectors(model.userFactors, len(pairs.users), settings.als_rank),
        _vectors(model.itemFactors, len(pairs.items), settings.als_rank),
    )


def _vectors(learned: DataFrame, count: int, rank: int) -> NDArray[np.float32]:
    rows = learned.toArrow()
    vectors = np.full((count, rank), np.nan, dtype=np.float32)
    flat = pc.list_flatten(rows["features"]).to_numpy()
    vectors[rows["id"].to_numpy()] = flat.reshape(-1, rank)
    return vectors


def learn_lists(
    spark: SparkSession, settings: Settings, pairs: Interactions, learned: Factors
) -> tuple[ListTraining, Metrics]:
    """Neighbours and ranker of the pairs, whose factors are ``learned``, and all figures.

    These are on the newest time split, by model and metric, the metrics being those of
    `jobs.core.evaluation`; there are none where no listener has enough pairs. UnsoundError if the
    factors of a split are of no use.
    """
    of_cuts: list[Factors] = []

    def factors_of(train: Interactions) -> item_model.Factors:
        of_cuts.append(fit(spark, settings, train))
        check_training(of_cuts[-1].items, train, settings.als_rank)
        return of_cuts[-1].of_items(settings)

    cuts = lessons(pairs, time_split, factors_of, CUTS)
    metrics: Metrics = {}
    if cuts:
        train, held = cuts[0].train, cuts[0].held
        scores = {
            MODEL: factors(of_cuts[0].users, of_cuts[0].items),
            POPULARITY: popularity(train),
        }
        metrics = {model: evaluate(score, train, held) for model, score in scores.items()}
    worth = metrics.get(MODEL, {}).get(DECISIVE, 0.0)
    lists = train_lists(pairs, learned.of_items(settings), cuts, worth, SEED)
    return lists, metrics | lists.metrics


def count_new(daily: DataFrame, seen: Mapping[int, int], partitions: int) -> int:
    """Rows of the daily table with something heard or judged in them, beyond what was ``seen``.

    ``seen`` is the last offset by source partition, of which there are ``partitions``.
    """
    said = ("heard_ms", "plays", "completes", "likes", "dislikes")
    new: Any = F.greatest(*said) > 0
    if seen.keys() >= set(range(partitions)):
        # Says nothing new, but by it the files of earlier days are passed over.
        new = new & (F.col("applied_offset") > min(seen.values()))
    for partition, offset in seen.items():
        new = new & ~(
            (F.col("source_partition") == partition) & (F.col("applied_offset") <= offset)
        )
    return daily.where(new).count()


class Trainer:
    """Looks for new rows in the daily table, trains on all of it, and publishes the generation if
    it is sound and no worse than the one in service."""

    def __init__(self, spark: SparkSession, settings: Settings, graph: Graph):
        self._spark = spark
        self._settings = settings
        self._stage: Stage = graph.stages[STAGE]
        if TABLE not in self._stage.reads:
            raise UndeclaredError(f"Stage {STAGE} reads {TABLE}: add it to its `reads`.")
        self._path = table_path(settings, TABLE)
        self._output = Output(settings, graph, self._stage)
        self._past = Past()
        self._read(MODEL_GENERATIONS)
        self._looked_at = -1

    @property
    def interval_s(self) -> float:
        """Seconds until the next look; the first generation is waited for more closely."""
        interval = self._settings.als_interval_s
        return interval if self._past.offsets else min(interval, _FIRST_LOOKS_S)

    def _read(self, *topics: Topic) -> None:
        """Add what these topics say to what is known of earlier generations."""
        names = [topic.name for topic in topics]
        for name in names:
            check_reads(self._stage, name)

        def apply(messages: list[Message]) -> None:
            for message in messages:
                if message.value is None:  # a tombstone, by hand
                    continue
                record = self._output.wire.decode(message.topic, message.value)
                if message.topic == MODEL_GENERATIONS.name:
                    self._past.add(record)
                elif message.topic == SERVED_GENERATION.name:
                    self._past.catalogue.choose(record)
                else:
                    self._past.catalogue.refuse(record["generation"])

        read_all(self._settings.kafka_bootstrap_servers, names, apply)

    def look(self, begin: Callable[[], None] = lambda: None) -> Generation | None:
        """Train if enough is new since the last generation, and publish what is not refused; None
        if nothing was trained.

        ``begin`` is called before a training, which may take more memory than there is.
        """
        version = DeltaLog(self._path).version()
        if version == self._looked_at:
            return None
        daily = self._spark.read.format("delta").option("versionAsOf", version).load(self._path)
        if (
            count_new(daily, self._past.offsets, self._settings.event_partitions)
            < self._settings.als_min_new
        ):
            self._looked_at = version
            return None
        begin()
        generation = self._train(daily)
        if generation is not None:
            self._read(GENERATION_REFUSALS, SERVED_GENERATION)
            slot = self._past.catalogue.free_slot(self._settings.als_kept)
            generation = replace(self._judged(generation), slot=slot)
            self._past.add(publish(self._output, self._settings, generation))
        self._looked_at = version
        return generation

    def _train(self, daily: DataFrame) -> Generation | None:
        trained_at, started = dt.datetime.now(dt.UTC), time.monotonic()
        # All that is asked of the table is asked before the fit, which may take hours: meanwhile
        # `jobs.maintenance` deletes files of this version that are not live any more.
        reached = daily.groupBy("source_partition").agg(F.max("applied_offset").alias("offset"))
        offsets = {row["source_partition"]: row["offset"] for row in reached.collect()}
        sums = ("heard_ms", "plays", "completes", "likes", "dislikes")
        totals = daily.groupBy("user_id", "episode_id").agg(
            *(F.sum(name).alias(name) for name in sums), F.max("last_at").alias("last_at")
        )
        pairs = from_totals(pl.DataFrame(pl.from_arrow(totals.toArrow())))
        if len(pairs.users) < 2 or len(pairs.items) < 2:
            return None
        learned = fit(self._spark, self._settings, pairs)
        flaw, lists, metrics = "", ListTraining(), Metrics()
        try:
            check_training(learned.items, pairs, self._settings.als_rank)
            lists, metrics = learn_lists(self._spark, self._settings, pairs, learned)
            check_lists(lists, len(pairs.items))
        except UnsoundError as error:
            flaw = str(error)
        return Generation(
            name=next_name(trained_at, self._past.newest),
            trained_at=trained_at,
            train_seconds=time.monotonic() - started,
            pairs=pairs,
            items=learned.items,
            lists=lists,
            metrics=metrics,
            offsets=offsets,
            refused_because=flaw,
        )

    def _judged(self, generation: Generation) -> Generation:
        """The generation, refused if it is worse than the one in service by the margin."""
        if generation.refused_because:
            return generation
        served = self._past.in_service
        worth = Worth.of_record(served) if served is not None else None
        why = worse(generation.worth, worth, self._settings.als_margin)
        return replace(generation, refused_because=why)


def start(
    spark: SparkSession, settings: Settings, graph: Graph, stopping: threading.Event
) -> threading.Thread:
    """Look every interval until ``stopping``. What fails is tried again later, and later still."""
    attempts = Attempts(settings, graph, graph.stages[STAGE])

    def run() -> None:
        trainer: Trainer | None = None
        while not stopping.wait(attempts.due_s() or (trainer.interval_s if trainer else 0.0)):
            try:
                # made anew after a failure: what it had published by then, it reads
                trainer = trainer or Trainer(spark, settings, graph)
                trainer.look(attempts.begin)
                attempts.succeeded()
            except Exception as error:
                if stopping.is_set():  # a stop takes the session away in mid-training
                    attempts.interrupted()
                    return
                attempts.failed(error)
                trainer = None

    thread = threading.Thread(target=run, name=STAGE, daemon=True)
    thread.start()
    return thread
