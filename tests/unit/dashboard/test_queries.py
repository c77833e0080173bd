"""What the dashboard asks MongoDB, against the embedded server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from dashboard import queries
from schemas.metrics import ADDITIVE_METRICS
from topology.graph import UndeclaredError

pytestmark = pytest.mark.mongo

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def database(mongo_uri: str) -> Iterator[Database[dict[str, Any]]]:
    opened: MongoClient[dict[str, Any]] = MongoClient(mongo_uri, tz_aware=True)
    with opened as client:
        client.drop_database("dashboard_queries")
        yield client["dashboard_queries"]


def put(
    database: Database[dict[str, Any]],
    episode: str,
    minutes_ago: int,
    plays: int,
    of: datetime = NOW,
) -> None:
    bucket = of.replace(second=0) - minutes_ago * MINUTE
    counts = {
        "impressions": 10 * plays,
        "clicks": 2 * plays,
        "plays": plays,
        "completes": 0,
        "heard_ms": 60_000 * plays,
        "streams": plays,
        "listeners": plays,
        "engaged": 0,
        "new_listeners": plays,
    }
    database["engagement_windows"].insert_one(
        {
            "_id": f"{episode}|{bucket:%Y-%m-%dT%H:%MZ}",
            "episode_id": episode,
            "bucket": bucket,
            **counts,
            "parts": {"0": {"offset": 1, **counts}},
        }
    )


def window(database: Database[dict[str, Any]], minutes: int) -> queries.Window:
    found = queries.rolling_window(database, minutes, NOW)
    assert found is not None
    return found


def test_nothing_is_asked_that_the_topology_does_not_give(
    database: Database[dict[str, Any]],
) -> None:
    with pytest.raises(UndeclaredError, match="secrets"):
        queries.collection(database, "secrets")


def test_empty_database_answers_empty(database: Database[dict[str, Any]]) -> None:
    assert queries.rolling_window(database, 15, NOW) is None
    assert queries.newest_bucket(database) is None
    assert queries.newest_update(database) is None
    assert queries.listeners(database).is_empty()
    assert queries.recommendation(database, "u1") is None
    assert queries.model_metrics(database).is_empty()
    assert queries.online_figures(queries.model_metrics(database)) == {}
    assert queries.catalogue(database).is_empty()
    assert queries.categories(database) == []
    assert queries.episode_count(database) == 0


def test_window_is_the_last_minutes_up_to_and_with_this_one(
    database: Database[dict[str, Any]],
) -> None:
    put(database, "demo:1", 0, 1)
    put(database, "demo:1", 4, 2)
    put(database, "demo:1", 5, 4)
    five = window(database, 5)
    assert not five.historic
    assert five.minutes == 5
    assert queries.counts_over_time(database, five)["plays"].to_list() == [2, 0, 0, 0, 1]


def test_old_events_are_shown_up_to_the_newest_one(database: Database[dict[str, Any]]) -> None:
    then = datetime(1998, 4, 22, 23, 10, tzinfo=UTC)
    put(database, "demo:1", 0, 3, of=then)
    put(database, "demo:1", 7, 5, of=then)
    five = window(database, 5)
    assert five.historic
    assert five.end == then + MINUTE
    assert queries.counts_over_time(database, five)["plays"].sum() == 3
    assert queries.newest_bucket(database) == then


def test_longer_spans_add_up_to_the_same(database: Database[dict[str, Any]]) -> None:
    for minutes_ago in (0, 3, 9, 10, 11, 700, 1439):
        put(database, "demo:1", minutes_ago, 1)
    day = window(database, 24 * 60)
    by_minute = queries.counts_over_time(database, day)
    by_ten = queries.counts_over_time(database, day, 10)
    assert len(by_minute) == 1440
    assert len(by_ten) == 144
    assert by_ten["plays"].to_list()[-2:] == [2, 3]
    for name in ADDITIVE_METRICS:
        assert by_minute[name].sum() == by_ten[name].sum()


def test_counts_that_an_earlier_release_left_out_are_zero(
    database: Database[dict[str, Any]],
) -> None:
    put(database, "demo:1", 1, 2)
    put(database, "demo:2", 1, 3)
    database["engagement_windows"].update_many({}, {"$unset": {"streams": ""}})
    put(database, "demo:3", 0, 1)
    counts = queries.counts_over_time(database, window(database, 5))
    assert counts["plays"].to_list() == [0, 0, 0, 5, 1]
    assert counts["streams"].to_list() == [0, 0, 0, 0, 1]
    assert queries.active_episodes(database, window(database, 15)) == 3


def test_a_window_may_be_drawn_longer_to_the_same_end(database: Database[dict[str, Any]]) -> None:
    put(database, "demo:1", 0, 1)
    one = window(database, 1)
    assert one.at_least(5).minutes == 5
    assert one.at_least(5).end == one.end
    assert one.at_least(1) == one


def test_recommendation_unfolds_the_parts(database: Database[dict[str, Any]]) -> None:
    parts = {"als": 0.5, "content": 0.25, "trending": 0.0}
    item = {"episode_id": "demo:1", "title": "Moss", "show": "U", "score": 0.4, "reason": "new"}
    for listener, age in (("older", 60), ("newer", 1)):
        database["final_recommendations"].insert_one(
            {
                "_id": listener,
                "items": [{**item, "parts": parts}],
                "generation": "",
                "updated_at": NOW - timedelta(seconds=age),
                "caused_by": "e1",
            }
        )
    assert queries.listeners(database)["user_id"].to_list() == ["newer", "older"]
    assert queries.newest_update(database) == NOW - timedelta(seconds=1)
    found = queries.recommendation(database, "older")
    assert found is not None
    assert found.updated_at == NOW - timedelta(seconds=60)
    assert found.items.row(0, named=True) == {"place": 1, **item, **parts}


def test_online_figures_count_partitions_by_their_samples(
    database: Database[dict[str, Any]],
) -> None:
    figures = {
        "partition-0": {"auc": 0.6, "log_loss": 0.5, "drift": 1.0, "samples": 300.0},
        "partition-1": {"auc": 0.8, "log_loss": 0.4, "drift": 0.0, "samples": 100.0},
        "partition-2": {"samples": 0.0},
    }
    for generation, values in figures.items():
        for metric, value in values.items():
            row = {"model": "blend", "generation": generation, "metric": metric, "value": value}
            database["model_metrics"].insert_one(
                {"_id": f"blend|{generation}|{metric}", **row, "at": NOW}
            )
    found = queries.online_figures(queries.model_metrics(database))
    assert found == pytest.approx(
        {"auc": 0.65, "log_loss": 0.475, "partitions": 3, "drifting": 1, "samples": 400}
    )


def test_catalogue_searches_as_text_not_as_pattern(database: Database[dict[str, Any]]) -> None:
    for number, title in enumerate(["What is C++?", "What is c", "Moss (live)"]):
        database["episodes"].insert_one(
            {
                "_id": f"demo:{number}",
                "title": title,
                "show_title": "Understory",
                "categories": ["Nature"] if number else ["Technology", "Nature"],
                "published_at": NOW - number * MINUTE,
                "duration_s": None,
            }
        )
    assert queries.catalogue(database)["episode_id"].to_list() == ["demo:0", "demo:1", "demo:2"]
    assert queries.catalogue(database, "c++")["title"].to_list() == ["What is C++?"]
    assert queries.catalogue(database, "(LIVE")["title"].to_list() == ["Moss (live)"]
    assert queries.catalogue(database, "understory", "Technology")["episode_id"].to_list() == [
        "demo:0"
    ]
    database["episodes"].insert_one({"_id": "demo:10", "title": "More", "published_at": NOW})
    assert queries.catalogue(database, " demo:1 ")["episode_id"].to_list() == ["demo:1"]
    assert len(queries.catalogue(database, "demo:1", "Nature")) == 1
    assert queries.catalogue(database, "emo:1")["episode_id"].to_list() == ["demo:10", "demo:1"]
    database["episodes"].delete_one({"_id": "demo:10"})
    assert queries.catalogue(database, "demo:2")["duration_s"].to_list() == [None]
    assert queries.catalogue(database, among=["demo:2", "gone"])["episode_id"].to_list() == [
        "demo:2"
    ]
    assert queries.catalogue(database, "demo:1", among=["demo:2"]).is_empty()
    assert queries.catalogue(database, among=[]).is_empty()
    assert queries.categories(database) == ["Nature", "Technology"]
    assert queries.titles(database, ["demo:1", "gone"]).rows() == [
        ("demo:1", "What is c", "Understory")
    ]
    assert isinstance(queries.catalogue(database).schema["published_at"], pl.Datetime)
