"""Lists and neighbours as `serve_mongo` keeps them of a broker, and how a list is explained."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pytest
from pymongo.database import Database

from schemas import columnar
from streams.recommendation.explaining import explain_list
from tests.broker.workers import StageWriter, alive, instance
from tests.waiting import wait_until
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo]

START = datetime(2026, 1, 10, tzinfo=UTC)
WAIT_S = 120


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("served"), mongo_uri) as settings:
        yield settings


def event(offset: int, kind: str, episode: str, heard_ms: int) -> dict[str, Any]:
    known = {
        "partition": 1,
        "offset": offset,
        "event_id": str(offset),
        "user_id": "ann",
        "episode_id": episode,
        "kind": kind,
        "occurred_at": START + timedelta(minutes=offset),
        "heard_ms": heard_ms,
        "position_ms": 0,
    }
    nothing: dict[str, Any] = dict.fromkeys(columnar.columns("user_event"))
    return nothing | known


def test_neighbours_are_served_until_they_are_withdrawn(
    settings: Settings, worker: subprocess.Popen[bytes], database: Database[dict[str, Any]]
) -> None:
    log, kept = StageWriter(settings), database["episode_neighbours"]
    for name, near in (("a", "b"), ("a", "c"), ("b", "a")):
        told = {
            "episode_id": name,
            "model": "m",
            "neighbours": [{"episode_id": near, "score": 0.5}],
        }
        log.write("episode-neighbours", told, name)

    def newest() -> bool:
        found = {d["_id"]: d["neighbours"][0]["episode_id"] for d in kept.find()}
        return found == {"a": "c", "b": "a"}

    wait_until(newest, WAIT_S, "the newest neighbours", check=lambda: alive(worker))
    log.write("episode-neighbours", None, "a")
    gone = lambda: [d["_id"] for d in kept.find()] == ["b"]  # noqa: E731
    wait_until(gone, WAIT_S, "the withdrawal", check=lambda: alive(worker))


def test_the_list_that_is_served_is_the_one_that_is_explained(
    settings: Settings, worker: subprocess.Popen[bytes], database: Database[dict[str, Any]]
) -> None:
    log = StageWriter(settings)
    for number in range(5):
        episode = {
            "episode_id": f"e:{number}",
            "title": f"Title {number}",
            "show_id": "s:1",
            "show_title": "The Show",
            "categories": ["History"],
            "published_at": START - timedelta(days=number),
            "source": "import",
        }
        log.write("episode-metadata", episode, f"e:{number}")
    places = [{"episode_id": f"e:{n}", "score": 5.0 - n, "plays": 1} for n in range(1, 4)]
    ranking = {"scope": "all", "source_partition": 0, "at": START, "episodes": places}
    log.write("trending-episodes", ranking, "all|0")
    numbers = count()

    def whole() -> dict[str, Any] | None:
        """The list, once the worker has read of every episode; each event asks for a list."""
        found = database["final_recommendations"].find_one({"_id": "ann"})
        if found is not None and len(found["items"]) == 4:
            return found
        rows = [event(next(numbers), "progress", "e:0", 600_000)]
        frame = pl.DataFrame(rows, schema=dict(columnar.columns("user_event")))
        log.write("user-event-batches", frame, partition=1)
        return None

    served = wait_until(whole, WAIT_S, "the list", every_s=1.0, check=lambda: alive(worker))
    assert served is not None
    told = explain_list(settings, "ann", 50)
    assert told is not None
    assert told.episodes_touched == 1
    assert [(item.episode_id, item.reason) for item in told.items] == [
        (item["episode_id"], item["reason"]) for item in served["items"]
    ]
    assert {item.episode_id for item in told.items} == {"e:1", "e:2", "e:3", "e:4"}
    for item, shown in zip(told.items, served["items"], strict=True):
        assert item.score == pytest.approx(shown["score"])
        assert sum(item.earned) == pytest.approx(item.score, abs=1e-5)
    assert explain_list(settings, "nobody", 5) is None
