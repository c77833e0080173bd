"""What the dashboard asks MongoDB, against the embedded server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from dashboard import queries
from topology.graph import UndeclaredError

pytestmark = pytest.mark.mongo

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)


def test_nothing_is_asked_that_the_topology_does_not_give(
    database: Database[dict[str, Any]],
) -> None:
    with pytest.raises(UndeclaredError, match="secrets"):
        queries.collection(database, "secrets")


def test_empty_database_answers_empty(database: Database[dict[str, Any]]) -> None:
    assert queries.newest_update(database) is None
    assert queries.listeners(database).is_empty()
    assert queries.recommendation(database, "u1") is None
    assert queries.model_metrics(database).is_empty()
    assert queries.online_figures(queries.model_metrics(database)) == {}


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
    of_list = found.items.row(0, named=True)
    assert of_list == {"place": 1, **item, **parts, "ranked": None}


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


def test_titles_are_those_that_the_catalogue_knows(database: Database[dict[str, Any]]) -> None:
    episode = {"_id": "demo:1", "title": "Moss", "show_title": "Understory"}
    database["episodes"].insert_one(episode)
    assert queries.titles(database, ["demo:1", "gone"]).rows() == [("demo:1", "Moss", "Understory")]
