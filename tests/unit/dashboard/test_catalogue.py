"""The catalogue, of the embedded server and a Delta table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from pymongo.database import Database

from dashboard import catalogue, history
from dashboard.catalogue import Search

pytestmark = pytest.mark.mongo

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
EPISODES = [
    ("demo:0", "What is C++?", ["Technology", "Nature"], 0),
    ("demo:1", "What is c", ["Nature"], 1),
    ("demo:2", "Moss (live)", ["Nature"], 2),
    ("demo:10", "More", None, 3),
]
Documents = Database[dict[str, Any]]


def test_an_empty_catalogue_answers_empty(database: Documents, tmp_path: Path) -> None:
    nothing = history.open_history(str(tmp_path), catalogue.TABLES)
    for search in (Search(), Search("moss"), Search(category="Nature"), Search(topic_id="t1")):
        assert catalogue.catalogue(database, nothing, search).is_empty()
    assert catalogue.categories(database, nothing) == []
    assert catalogue.episode_count(database) == 0


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), ["demo:0", "demo:1", "demo:2", "demo:10"]),
        (Search("c++"), ["demo:0"]),
        (Search("(LIVE"), ["demo:2"]),
        (Search("understory", "Technology"), ["demo:0"]),
        (Search("demo:1"), ["demo:1"]),
        (Search("demo:1", "Nature"), ["demo:1"]),
        (Search("demo:1", "Technology"), []),
        (Search("demo:1", topic_id="t1"), []),
        (Search("demo:2", topic_id="t1"), ["demo:2"]),
        (Search("emo:1"), ["demo:1", "demo:10"]),
        (Search(category="Nature"), ["demo:0", "demo:1", "demo:2"]),
        (Search(topic_id="t1"), ["demo:2"]),
        (Search("moss", topic_id="t2"), []),
        (Search("%"), []),
    ],
)
def test_searches_are_for_text_not_for_patterns(
    database: Documents,
    tmp_path: Path,
    search: Search,
    found: list[str],
) -> None:
    opened = seeded(database, tmp_path)
    whole = catalogue.catalogue(database, opened, search)
    assert whole["episode_id"].to_list() == found
    assert isinstance(whole.schema["published_at"], pl.Datetime)
    # With few of the newest at hand it is Delta that finds the others.
    for limit in (1, 2):
        some = catalogue.catalogue(database, opened, search, limit)
        assert some["episode_id"].to_list() == found[:limit]


def seeded(database: Documents, root: Path) -> history.History:
    rows = [
        {
            "episode_id": episode_id,
            "title": title,
            "show_title": "Understory",
            "categories": categories,
            "published_at": NOW - timedelta(minutes=age),
        }
        for episode_id, title, categories, age in EPISODES
    ]
    database["episodes"].insert_many(
        {**row, "_id": row["episode_id"], "duration_s": None} for row in rows
    )
    frame = pl.DataFrame(rows, schema_overrides={"categories": pl.List(pl.String)})
    write_deltalake(str(root / "episodes"), frame.to_arrow())
    topics = pl.DataFrame({"episode_id": ["demo:2", "gone"], "topic_id": ["t1", "t1"]})
    write_deltalake(str(root / "episode_topics"), topics.to_arrow())
    return history.open_history(str(root), catalogue.TABLES)


def test_what_is_not_in_delta_yet_is_found(database: Documents, tmp_path: Path) -> None:
    opened = seeded(database, tmp_path)
    at = NOW + timedelta(minutes=1)
    new = {"title": "Fresh moss", "categories": ["News"], "published_at": at}
    database["episodes"].insert_one({"_id": "demo:3", **new})
    found = catalogue.catalogue(database, opened, Search("moss"))
    assert found["episode_id"].to_list() == ["demo:3", "demo:2"]
    assert catalogue.categories(database, opened) == ["Nature", "News", "Technology"]
    assert catalogue.categories(database, opened, limit=1) == ["Nature", "News", "Technology"]
    assert catalogue.episode_count(database) == 5


def test_what_has_left_the_catalogue_is_not_found(database: Documents, tmp_path: Path) -> None:
    opened = seeded(database, tmp_path)
    database["episodes"].delete_one({"_id": "demo:2"})
    assert catalogue.catalogue(database, opened, Search("moss")).is_empty()
