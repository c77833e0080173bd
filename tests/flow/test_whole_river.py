"""The whole river in memory: listeners who react to their lists, through every live stage.

No broker and no Spark: embeddings are given, and crashes strike in the middle. An oracle that
shares nothing with the stages counts what was sent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from streams.demo.simulate_listeners import Listeners
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

CATEGORIES = ("Science", "History", "Food", "Sports", "Music", "Gardening")
EPISODES = 90
LISTENERS = 20
STEPS = 40
EVENTS_A_STEP = 50
COUNTED = {"impression": "impressions", "click": "clicks", "play": "plays", "complete": "completes"}
STAGES = (
    "batch_events",
    "track_engagement",
    "track_listening",
    "rank_trending",
    "recommend",
    "learn_blend",
)
START_MS = int(datetime(2026, 1, 31, 23, 55, tzinfo=UTC).timestamp() * 1000)


def seed_catalogue(runtime: MemoryRuntime) -> None:
    """Episodes of six categories, and vectors that tell the categories apart but not exactly."""
    noise = np.random.default_rng(1).normal(scale=0.2, size=(EPISODES, 16))
    for number in range(EPISODES):
        category = number % len(CATEGORIES)
        episode_id = f"pi:{number}"
        vector = noise[number] + np.eye(16)[category]
        episode = {
            "episode_id": episode_id,
            "title": f"{CATEGORIES[category]} number {number}",
            "show_id": f"pi:show-{category}",
            "show_title": f"The {CATEGORIES[category]} Hour",
            "categories": [CATEGORIES[category]],
            "duration_s": 1800,
            "source": "import",
        }
        embedding = {
            "episode_id": episode_id,
            "model": "test",
            "vector": (vector / np.linalg.norm(vector)).astype("<f4").tobytes(),
            "chunks": 1,
            "text_hash": episode_id,
        }
        runtime.log.append("episode-metadata", episode, key=episode_id)
        runtime.log.append("episode-embeddings", embedding, key=episode_id)


River = tuple[MemoryRuntime, Listeners, list[dict[str, Any]]]
"""Everything that ran, who listened, and the events that were sent."""


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> River:
    """Everything after two thousand events, with four crashes on the way."""
    home: Path = tmp_path_factory.mktemp("river")
    settings = Settings(podstream_home=home, event_partitions=3, _env_file=None)
    runtime = MemoryRuntime(build_graph(3), settings)
    runtime.clock.set(START_MS / 1000)
    for stage in STAGES:
        runtime.start(stage)
    seed_catalogue(runtime)
    crowd = Listeners(runtime.log.wire, count=LISTENERS, seed=3, concurrent=5)
    sent: list[dict[str, Any]] = []
    for step in range(STEPS):
        for topic in ("episode-metadata", "recommendations", "trending-episodes"):
            crowd.apply(runtime.log.records(topic))
        for _ in range(EVENTS_A_STEP):
            runtime.clock.move(0.25)
            event = crowd.next_event(runtime.log.now_ms)
            assert event is not None
            sent.append(event)
            runtime.log.append("user-events", event, key=event["user_id"])
        if step % 10 == 5:
            for stage in STAGES[1:]:
                runtime.crash(stage, redeliver=1 + step % 3)
        runtime.run(max_batch=1 + step % 4)
    return runtime, crowd, sent


def expected(sent: list[dict[str, Any]]) -> Counter[Any]:
    counts: Counter[Any] = Counter()
    for event in sent:
        counts[event["episode_id"], "heard_ms"] += event["heard_ms"]
        if name := COUNTED.get(event["kind"]):
            counts[event["episode_id"], name] += 1
    return +counts


def by_episode(rows: pl.DataFrame) -> Counter[Any]:
    names = (*COUNTED.values(), "heard_ms")
    sums = rows.group_by("episode_id").agg(pl.col(names).sum())
    return +Counter(
        {(row["episode_id"], name): row[name] for row in sums.to_dicts() for name in names}
    )


def test_the_windows_hold_every_event_once(river: River) -> None:
    runtime, _, sent = river
    rows = pl.concat(runtime.log.decoded("engagement-windows"))
    newest = rows.sort("offset").unique(
        ["episode_id", "bucket", "source_partition"], keep="last", maintain_order=True
    )
    assert by_episode(newest) == expected(sent)


def test_the_daily_amounts_hold_every_event_once_and_know_the_day(river: River) -> None:
    runtime, _, sent = river
    rows = pl.concat(runtime.log.decoded("user-episode-daily"))
    once = rows.unique(["source_partition", "last_offset", "user_id", "episode_id", "day"])
    assert by_episode(once) == expected(sent)
    assert once["day"].n_unique() == 2  # it goes on past midnight


def test_every_listener_has_a_list_of_what_was_not_heard_with_reasons(river: River) -> None:
    runtime, _, sent = river
    heard = defaultdict(set)
    for event in sent:
        if event["heard_ms"] or event["kind"] in ("play", "complete"):
            heard[event["user_id"]].add(event["episode_id"])
    lists = {r["user_id"]: r for r in runtime.log.decoded("recommendations")}
    assert set(lists) == {event["user_id"] for event in sent}
    for user_id, record in lists.items():
        listed = [item["episode_id"] for item in record["items"]]
        assert listed, user_id
        assert len(set(listed)) == len(listed)
        assert not heard[user_id] & set(listed)
        assert all(item["reason"] for item in record["items"])
        scores = [item["score"] for item in record["items"]]
        assert scores == sorted(scores, reverse=True)


def test_lists_match_tastes_better_than_chance(river: River) -> None:
    _, crowd, _ = river
    figures = crowd.truth.figures()
    assert figures["match_listed"] > figures["random"] + 0.1, crowd.truth.line()


def test_the_blend_is_learned_and_what_trends_is_ranked(river: River) -> None:
    runtime, _, sent = river
    weights = runtime.log.decoded("blend-weights")
    assert weights
    assert all(min(w["als"], w["content"], w["trending"]) >= 0 for w in weights)
    assert {m["metric"] for m in runtime.log.decoded("model-metrics")} >= {"auc", "log_loss"}
    scopes = {record["scope"] for record in runtime.log.decoded("trending-episodes")}
    played = {int(e["episode_id"].removeprefix("pi:")) for e in sent if e["kind"] == "play"}
    assert {"all", *(f"category:{CATEGORIES[n % len(CATEGORIES)]}" for n in played)} <= scopes


def test_nothing_ended_as_a_dead_letter(river: River) -> None:
    runtime, _, _ = river
    assert not [
        name
        for name in runtime.log.graph.topics
        if name.endswith(".dlq") and runtime.log.records(name)
    ]
