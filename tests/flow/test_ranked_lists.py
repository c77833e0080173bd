"""What listeners get is what the two stages compute: the stage's lists against the pure cores."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from jobs.core.evaluation import evaluate, popularity
from jobs.core.interactions import Interactions, from_totals, time_split
from jobs.core.list_training import CUTS, ListTraining, train_lists
from jobs.core.ranking import lessons, two_stage
from schemas import columnar
from schemas.vectors import vector_bytes
from streams.recommendation.core.foldin import gram
from streams.recommendation.core.item_model import Factors
from streams.recommendation.core.model_records import RANKER_KEY, neighbour_records, ranker_record
from streams.recommendation.explaining import explanation, find_listener
from streams.recommendation.recommend import REFRESH_SLICE
from streams.recommendation.references import References
from streams.runtime.in_memory import MemoryContext, MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

START = datetime(2026, 1, 10, tzinfo=UTC)
LISTENERS, EPISODES, TASTES = 60, 80, 4
GENERATION = "20260210T000000Z"
FRESH = "e:fresh"
COUNT = 50


def listening() -> pl.DataFrame:
    """Who heard what, and how long: mostly of one's own taste, some of it popular."""
    random = np.random.default_rng(5)
    popular = 1.0 / np.arange(1, EPISODES + 1) ** 0.6
    rows = []
    for user in range(LISTENERS):
        mine = np.where(np.arange(EPISODES) % TASTES == user % TASTES, 8.0, 1.0) * popular
        chosen = random.choice(EPISODES, 20, replace=False, p=mine / mine.sum())
        for place, episode in enumerate(chosen.tolist()):
            own = episode % TASTES == user % TASTES
            rows.append(
                {
                    "user_id": f"u{user:02}",
                    "episode_id": f"e:{episode:02}",
                    "heard_ms": int(random.integers(20, 60) if own else random.integers(1, 9))
                    * 60_000,
                    "plays": 0,
                    "completes": 0,
                    "likes": 0,
                    "dislikes": 0,
                    "last_at": START + timedelta(hours=place, minutes=user),
                }
            )
    return pl.DataFrame(rows, schema_overrides={"last_at": pl.Datetime("us", "UTC")})


def factors_of(pairs: Interactions) -> Factors:
    """Factors that are good enough: those of a truncated singular value decomposition."""
    matrix = np.zeros((len(pairs.users), len(pairs.items)))
    matrix[pairs.user, pairs.item] = pairs.strength
    _, values, right = np.linalg.svd(matrix, full_matrices=False)
    vectors = (right[:8].T * np.sqrt(values[:8]) / 4).astype(np.float32)
    return Factors(vectors, gram(vectors), 1.0, 0.1)


@dataclass(frozen=True)
class Learned:
    """A training on the older part of the listening, and the rest that it did not see."""

    heard: pl.DataFrame
    train: Interactions
    held: Interactions
    factors: Factors
    lists: ListTraining


@pytest.fixture(scope="module")
def learned() -> Learned:
    totals = listening()
    train, held = time_split(from_totals(totals))
    known = pl.DataFrame(
        {"user_id": train.users[train.user], "episode_id": train.items[train.item]}
    )
    factors = factors_of(train)
    cuts = lessons(train, time_split, factors_of, CUTS)
    lists = train_lists(train, factors, cuts, 0.0, 0)
    assert lists.unranked_because == ""
    return Learned(totals.join(known, on=["user_id", "episode_id"]), train, held, factors, lists)


class World:
    """The stage in memory, and what a training publishes to it."""

    def __init__(self, home: Path, learned: Learned):
        settings = Settings(podstream_home=home, recommendation_count=COUNT)
        self.runtime = MemoryRuntime(build_graph(settings.event_partitions), settings)
        self.log = self.runtime.log
        self.runtime.clock.set(START.timestamp())
        self.learned = learned
        self.offset = 0
        for episode_id in learned.train.items.tolist():
            self.episode(episode_id)

    def episode(self, episode_id: str) -> None:
        record = {
            "episode_id": episode_id,
            "title": f"Title of {episode_id}",
            "show_id": "s:1",
            "show_title": "Show",
            "categories": [],
            "published_at": START,
            "source": "import",
        }
        self.log.append("episode-metadata", record, key=episode_id)

    def embedding(self, episode_id: str, *vector: float) -> None:
        record = {"episode_id": episode_id, "model": "m", "chunks": 1, "text_hash": ""}
        unit = np.array(vector) / np.linalg.norm(vector)
        self.log.append(
            "episode-embeddings", {**record, "vector": vector_bytes(unit)}, key=episode_id
        )

    def factors(self) -> None:
        items, vectors = self.learned.train.items.tolist(), self.learned.factors.vectors
        for episode_id, vector in zip(items, vectors, strict=True):
            record = {"episode_id": episode_id, "generation": GENERATION}
            self.log.append(
                "item-factors", {**record, "vector": vector_bytes(vector)}, key=episode_id
            )

    def neighbours(self) -> Iterator[dict[str, Any]]:
        assert self.learned.lists.model is not None
        items = self.learned.train.items.tolist()
        return neighbour_records(self.learned.lists.model, items, GENERATION)

    def publish(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self.log.append("item-neighbours", record, key=record["episode_id"])

    def ranker(self, **other: Any) -> None:
        assert self.learned.lists.ranker is not None
        record = {**ranker_record(self.learned.lists.ranker, GENERATION), **other}
        self.log.append("rankers", record, key=RANKER_KEY)

    def announce(self, neighbours: int) -> None:
        factors = self.learned.factors
        record = {
            "generation": GENERATION,
            "model": "als",
            "items": len(self.learned.train.items),
            "users": LISTENERS,
            "interactions": len(self.learned.train),
            "rank": factors.vectors.shape[1],
            "alpha": factors.alpha,
            "regularization": factors.regularization,
            "seed": 0,
            "offsets": [],
            "trained_at": START,
            "train_seconds": 1.0,
            "metrics": {},
            "neighbours": neighbours,
        }
        self.log.append("model-generations", record, key=GENERATION)

    def generation(self) -> None:
        records = list(self.neighbours())
        self.factors()
        self.publish(records)
        self.ranker()
        self.announce(len(records))

    def events(self, heard: pl.DataFrame) -> None:
        rows = []
        for one in heard.sort("last_at", "user_id").iter_rows(named=True):
            rows.append(
                {
                    "partition": 0,
                    "offset": self.offset,
                    "event_id": f"event-{self.offset}",
                    "user_id": one["user_id"],
                    "episode_id": one["episode_id"],
                    "kind": "progress",
                    "occurred_at": one["last_at"],
                    "heard_ms": one["heard_ms"],
                    "position_ms": 0,
                }
            )
            self.offset += 1
        self.runtime.clock.move(1)
        frame = pl.DataFrame(rows, schema=dict(columnar.columns("user_event")))
        self.log.append("user-event-batches", frame, partition=0)

    def run(self) -> None:
        self.runtime.run()

    def latest(self) -> dict[str, dict[str, Any]]:
        return {record["user_id"]: record for record in self.log.decoded("recommendations")}

    def weights(self, als: float, content: float, trending: float) -> None:
        shares = {"als": als, "content": content, "trending": trending}
        record = {"intercept": 0.0, "samples": 9, "offset": 1, "at": START, "source_partition": 0}
        self.log.append("blend-weights", {**record, **shares}, key="0")


@pytest.fixture
def world(tmp_path: Path, learned: Learned) -> World:
    made = World(tmp_path, learned)
    made.runtime.start("recommend")
    return made


def ids(record: dict[str, Any]) -> list[str]:
    return [item["episode_id"] for item in record["items"]]


def test_what_is_served_is_worth_what_the_two_stages_are_worth(
    world: World, learned: Learned
) -> None:
    world.generation()
    world.events(learned.heard)
    world.run()
    train, held, lists = learned.train, learned.held, learned.lists
    assert lists.model is not None
    assert lists.ranker is not None
    computed = two_stage(lists.model, lists.ranker, train)
    place = {episode_id: at for at, episode_id in enumerate(train.items.tolist())}
    served_lists = world.latest()

    def served(listeners: np.ndarray) -> np.ndarray:
        scores = np.full((len(listeners), len(train.items)), np.nan)
        for row, listener in enumerate(listeners.tolist()):
            for rank, episode_id in enumerate(ids(served_lists[str(train.users[listener])])):
                scores[row, place[episode_id]] = -rank
        return scores

    for listener in range(LISTENERS):
        [scores] = computed(np.array([listener]))
        best = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:10]
        record = served_lists[str(train.users[listener])]
        assert ids(record)[:10] == train.items[best].tolist()
        assert record["items"][0]["parts"]["ranked"] == 1.0
    ours, theirs = (evaluate(one, train, held) for one in (served, computed))
    for metric in ("ndcg_at_10", "recall_at_10", "map_at_10"):
        assert ours[metric] == pytest.approx(theirs[metric], abs=5e-4)
    assert ours["ndcg_at_10"] > 1.3 * evaluate(popularity(train), train, held)["ndcg_at_10"]


def test_a_generation_counts_once_its_neighbours_and_its_ranker_are_there(
    world: World, learned: Learned
) -> None:
    records = list(world.neighbours())
    world.events(learned.heard)
    world.run()
    assert {record["generation"] for record in world.latest().values()} == {""}
    world.factors()
    world.announce(len(records))
    world.publish(records[1:])
    world.ranker()
    world.run()
    assert {record["generation"] for record in world.latest().values()} == {""}
    world.publish(records[:1])
    for _ in range(LISTENERS // REFRESH_SLICE):
        world.run()
    assert {record["generation"] for record in world.latest().values()} == {GENERATION}
    assert all(record["items"][0]["parts"]["ranked"] == 1.0 for record in world.latest().values())


def test_a_generation_without_neighbours_and_one_of_another_release_are_blended(
    tmp_path: Path, learned: Learned
) -> None:
    for neighbours in (False, True):
        world = World(tmp_path / str(neighbours), learned)
        world.runtime.start("recommend")
        world.factors()
        if neighbours:
            world.publish(list(world.neighbours()))
            world.ranker(features=["mood"])
        world.announce(len(learned.train.items) if neighbours else 0)
        world.events(learned.heard)
        world.run()
        for record in world.latest().values():
            assert record["generation"] == GENERATION
            assert {item["parts"]["ranked"] for item in record["items"]} == {None}
            assert record["items"][0]["parts"]["als"] > 0


def test_a_new_episode_is_placed_by_its_text_and_a_withdrawn_one_is_gone(
    world: World, learned: Learned
) -> None:
    world.generation()
    items = learned.train.items.tolist()
    texts = {e: np.eye(TASTES)[int(e[2:]) % TASTES] + 0.01 * n for n, e in enumerate(items)}
    for episode_id, text in texts.items():
        world.embedding(episode_id, *text)
    liked = learned.heard.filter(user_id="u00").filter(pl.col("heard_ms") > 1_000_000)
    world.episode(FRESH)  # about what u00 likes
    world.embedding(FRESH, *sum(texts[e] for e in liked["episode_id"]))
    world.events(learned.heard)
    world.run()
    lists = world.latest()
    its_own, others = ids(lists["u00"]), ids(lists["u01"])
    assert its_own.index(FRESH) < 10
    assert FRESH not in others[:20]
    item = lists["u00"]["items"][its_own.index(FRESH)]
    assert item["parts"]["ranked"] is None
    assert item["reason"].startswith("Because you listened to")
    gone = its_own[0]
    world.log.append("episode-metadata", None, key=gone)
    world.events(learned.heard.filter(pl.col("user_id") == "u00").tail(1))
    world.run()
    assert gone not in ids(world.latest()["u00"])


def test_what_plays_taught_beyond_the_usual_moves_a_ranked_list(
    world: World, learned: Learned
) -> None:
    world.generation()
    world.events(learned.heard)
    world.run()
    before = world.latest()["u00"]
    last = ids(before)[-1]
    ranking = {
        "scope": "all",
        "source_partition": 0,
        "at": START,
        "episodes": [{"episode_id": last, "score": 9.0, "plays": 1}],
    }
    world.log.append("trending-episodes", ranking, key="all|0")
    again = learned.heard.filter(pl.col("user_id") == "u00").tail(1).with_columns(heard_ms=0)
    world.weights(0.5, 0.3, 0.2)
    world.events(again)
    world.run()
    assert ids(world.latest()["u00"])[:10] == ids(before)[:10]
    world.weights(0.1, 0.1, 0.8)
    world.events(again)
    world.run()
    [first, *_] = world.latest()["u00"]["items"]
    assert first["episode_id"] == last
    assert first["reason"] == "Trending now"


def test_an_explanation_of_a_ranked_list_adds_up(world: World, learned: Learned) -> None:
    world.generation()
    world.weights(0.4, 0.2, 0.4)
    world.events(learned.heard)
    world.run()
    context = MemoryContext(world.log, world.log.graph.stages["recommend"], Settings())
    references = References(context)
    for topic, apply in context.broadcasts.items():
        apply(world.log.records(topic))
    listener = asyncio.run(find_listener(context, "u03"))
    assert listener is not None
    told = explanation(references, "u03", listener, COUNT)
    sent = world.latest()["u03"]["items"]
    assert [item.episode_id for item in told.items] == [item["episode_id"] for item in sent]
    for item in told.items:
        assert sum(item.earned) == pytest.approx(item.score, abs=1e-5)
        assert item.earned.als == 0.0
    assert told.weights == pytest.approx((0.0, 0.0, 0.2, 0.8))
    assert told.items[0].parts.ranked == 1.0
    assert told.unranked_because == ""


def test_the_same_log_gives_the_same_documents(tmp_path: Path, learned: Learned) -> None:
    told = []
    for run in range(2):
        world = World(tmp_path / str(run), learned)
        world.generation()
        world.events(learned.heard)
        world.runtime.start("recommend")
        world.run()
        world.runtime.crash("recommend", redeliver=run)
        world.run()
        told.append(world.latest())
    assert told[0] == told[1]
